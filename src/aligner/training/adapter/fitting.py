"""Fit a causal language model to encoded rows, in an order that is given."""

import inspect
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, cast

import torch
from transformers import PrinterCallback, TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.utils import logging

from aligner.config import Lora, Optimisation
from aligner.errors import MissingExtraError
from aligner.training.checkpoints import CompleteMarker, newest_complete
from aligner.training.encode import IGNORED, EncodedRow, collate

try:
    from datasets import Dataset
    from trl.trainer.sft_config import SFTConfig
    from trl.trainer.sft_trainer import SFTTrainer
except ImportError as error:
    raise MissingExtraError("training needs an extra: pip install 'aligner-llm[train]'") from error

_LOG_EVERY = 10


class Progress(NamedTuple):
    """How far a stage has come."""

    step: int
    steps: int
    rows: int
    tokens: int
    loss: float
    learning_rate: float
    seconds: float
    """of this process"""
    tokens_per_second: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Fit:
    """What is fitted besides the rows: how, where to, and who looks on."""

    stage: Optimisation
    folder: Path
    """checkpoints go here, and the work goes on from the newest whole one"""
    seed: int
    save_every: int
    lora: Lora = Lora()
    on_progress: Callable[[Progress], None] = lambda _: None
    check_every: int = 0
    """steps between two questions whether to stop; 0 never asks"""
    check_after: int = 0
    """steps before the first such question"""
    is_enough: Callable[[Any], bool] = lambda _: False
    """whether the model has learnt what it should; asked every `check_every` steps"""


def fit(model: Any, tokenizer: Any, rows: Sequence[EncodedRow], plan: Fit) -> Any:
    """The model fitted to the rows in their order; interrupted and called again, it gives the same weights.

    The loss is the mean negative log-likelihood of the unmasked tokens (Aligner, eq. 4).
    """
    logging.disable_progress_bar()
    trainer = _Trainer(
        model=model,
        processing_class=tokenizer,
        args=_arguments(plan, on_cpu=model.device.type == "cpu"),
        train_dataset=_dataset(rows),
        data_collator=partial(collate, pad_id=tokenizer.pad_token_id),
        callbacks=[CompleteMarker(), _Watcher(plan, rows)],
        peft_config=_peft(plan.lora),
    )
    trainer.remove_callback(PrinterCallback)
    checkpoint = newest_complete(plan.folder)
    trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    fitted = cast("Any", trainer.accelerator).unwrap_model(trainer.model)
    return (fitted.merge_and_unload() if plan.lora.rank else fitted).eval()


class _Trainer(SFTTrainer):
    """SFT whose language-model head sees only the columns in which some row bears loss.

    Prompts are about two thirds of all tokens here, and a small model spends much of its time in the head.
    """

    loss_is_scaled_for_ga = True

    def _set_signature_columns_if_needed(self) -> None:
        self._signature_columns = ["input_ids", "labels"]

    def create_model_card(self, *_: Any, **__: Any) -> None:
        """Write none: an Aligner's card is aligner.json."""

    def compute_loss(
        self,
        model: Any,
        inputs: dict[str, Any],
        return_outputs: bool = False,  # noqa: FBT001, FBT002  # as the trainer calls it
        num_items_in_batch: Any = None,
    ) -> Any:
        """The summed loss over the number of unmasked tokens of the whole accumulated batch."""
        targets = inputs["labels"][:, 1:]
        kept = (targets != IGNORED).any(dim=0).nonzero().squeeze(1)
        logits, outputs = _logits_at(model, inputs["input_ids"], kept)
        summed = torch.nn.functional.cross_entropy(
            logits.flatten(0, 1).float(), targets[:, kept].flatten(), ignore_index=IGNORED, reduction="sum"
        )
        count = (targets != IGNORED).sum() if num_items_in_batch is None else num_items_in_batch
        # Data-parallel training averages gradients over processes, while the count is that of all of them.
        scale = 1 if num_items_in_batch is None else self.accelerator.num_processes
        loss = summed * scale / count
        return (loss, outputs) if return_outputs else loss


def _logits_at(model: Any, input_ids: torch.Tensor, kept: torch.Tensor) -> tuple[torch.Tensor, Any]:
    """The logits at some columns; a model that cannot leave the others out computes all of them."""
    inner = getattr(model, "module", model)
    inner = inner.get_base_model() if hasattr(inner, "get_base_model") else inner
    if "logits_to_keep" in inspect.signature(inner.forward).parameters:
        outputs = model(input_ids=input_ids, use_cache=False, logits_to_keep=kept)
        return outputs.logits, outputs
    outputs = model(input_ids=input_ids, use_cache=False)
    return outputs.logits[:, kept], outputs


class _Watcher(TrainerCallback):
    """Tells how far training has come, and ends it once the model has learnt enough."""

    def __init__(self, plan: Fit, rows: Sequence[EncodedRow]) -> None:
        self._plan = plan
        self._lengths = [len(row.ids) for row in rows]
        self._rows_a_step = plan.stage.batch * plan.stage.accumulate
        self._started, self._first = time.monotonic(), 0

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Start the clock."""
        self._started, self._first = time.monotonic(), self._tokens(state.global_step)

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **kwargs: Any,
    ) -> None:
        """Report the mean loss since the last report."""
        if logs and "loss" in logs:
            self._plan.on_progress(self._progress(state, logs))

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, model: Any = None, **kwargs: Any
    ) -> None:
        """Stop where the model has learnt enough."""
        every = self._plan.check_every
        if every and state.global_step > self._plan.check_after and state.global_step % every == 0:
            model.eval()
            control.should_training_stop |= self._plan.is_enough(model)
            model.train()

    def _progress(self, state: TrainerState, logs: dict[str, float]) -> Progress:
        tokens, seconds = self._tokens(state.global_step), time.monotonic() - self._started
        return Progress(
            step=state.global_step,
            steps=state.max_steps,
            rows=min(state.global_step * self._rows_a_step, len(self._lengths)),
            tokens=tokens,
            loss=logs["loss"],
            learning_rate=logs["learning_rate"],
            seconds=seconds,
            tokens_per_second=(tokens - self._first) / max(seconds, 1e-9),
        )

    def _tokens(self, step: int) -> int:
        return sum(self._lengths[: step * self._rows_a_step])


def _arguments(plan: Fit, *, on_cpu: bool) -> SFTConfig:
    stage = plan.stage
    return SFTConfig(
        output_dir=str(plan.folder),
        seed=plan.seed,
        data_seed=plan.seed,
        # TRL's defaults are made for GPUs.
        use_cpu=on_cpu,
        bf16=not on_cpu,
        activation_checkpointing=not on_cpu,
        per_device_train_batch_size=stage.batch,
        gradient_accumulation_steps=stage.accumulate,
        num_train_epochs=1,
        max_steps=stage.max_steps or -1,
        train_sampling_strategy="sequential",
        learning_rate=stage.learning_rate,
        lr_scheduler_type={"constant": "constant_with_warmup"}.get(stage.schedule, stage.schedule),
        warmup_steps=stage.warmup,
        weight_decay=stage.weight_decay,
        adam_beta1=stage.betas[0],
        adam_beta2=stage.betas[1],
        max_grad_norm=stage.clip,
        optim="adamw_torch_fused",
        max_length=None,
        packing=False,
        dataset_kwargs={"skip_prepare_dataset": True},
        save_strategy="steps",
        save_steps=plan.save_every,
        save_total_limit=2,
        logging_steps=_LOG_EVERY,
        logging_first_step=True,
        disable_tqdm=True,
        report_to="none",
        dataloader_pin_memory=not on_cpu,
    )


def _dataset(rows: Sequence[EncodedRow]) -> Dataset:
    return Dataset.from_dict({"input_ids": [list(row.ids) for row in rows], "labels": [row.labels for row in rows]})


def _peft(lora: Lora) -> Any:
    if not lora.rank:
        return None
    from peft import LoraConfig

    return LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules="all-linear",
        task_type="CAUSAL_LM",
    )
