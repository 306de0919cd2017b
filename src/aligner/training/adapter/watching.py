"""Who looks on while a model learns: progress is told, the model is measured, and training ends when it is enough."""

import time
from collections.abc import Sequence
from itertools import accumulate
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from aligner.training.adapter.arguments import Fit, Progress
from aligner.training.processes import is_main, told_by_main


class Watcher(TrainerCallback):
    """Tells how far training has come, has the model measured, and ends training once it has learnt enough."""

    def __init__(self, plan: Fit, lengths: Sequence[int], told: Sequence[str] = ()) -> None:
        self._plan = plan
        self._told = told
        """of the trainer's log, what is told besides the loss"""
        self._tokens = [0, *accumulate(lengths)]
        """of the first rows, by their number"""
        self._started, self._first = time.monotonic(), 0

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Start the clock."""
        self._started, self._first = time.monotonic(), self._tokens[self._rows(state.global_step)]

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **kwargs: Any,
    ) -> None:
        """Report the mean loss since the last report."""
        if logs and "loss" in logs and is_main():
            self._plan.on_progress(self._progress(state, logs))

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, model: Any = None, **kwargs: Any
    ) -> None:
        """Measure, and stop where the model has learnt enough."""
        plan, step = self._plan, state.global_step
        measure = plan.measure_every and step % plan.measure_every == 0
        check = plan.check_every and step % plan.check_every == 0
        if not (measure or check):
            return
        model.eval()
        if measure:
            told_by_main(lambda: plan.measure(model, step))
        if check:
            control.should_training_stop |= told_by_main(lambda: plan.is_enough(model, step))
        model.train()

    def _progress(self, state: TrainerState, logs: dict[str, float]) -> Progress:
        rows = self._rows(state.global_step)
        tokens, seconds = self._tokens[rows], time.monotonic() - self._started
        return Progress(
            step=state.global_step,
            steps=state.max_steps,
            rows=rows,
            tokens=tokens,
            loss=logs["loss"],
            learning_rate=logs["learning_rate"],
            seconds=seconds,
            tokens_per_second=(tokens - self._first) / max(seconds, 1e-9),
            extra={name: logs[name] for name in self._told if name in logs},
        )

    def _rows(self, step: int) -> int:
        stage = self._plan.stage
        return min(step * stage.rows_a_step, len(self._tokens) - 1)
