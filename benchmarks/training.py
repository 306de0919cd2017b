"""How fast training goes, in useful tokens a second, beside TRL's own trainer on the same rows.

    python benchmarks/training.py           the demo's model, and one of 33 M parameters with a vocabulary of 16 k
    python benchmarks/training.py --quick   the demo's model alone, fewer rounds

The peer is TRL's SFTTrainer as it comes, made fit for a CPU: its own collation, batching, shuffling and loss. Both have
the same model, rows, batch size and optimiser, and take turns. What is counted are the tokens of exactly the timed
steps; a padded token is not useful.
"""

import argparse
import logging
import tempfile
import time
import tomllib
from collections.abc import Callable, Sequence
from copy import deepcopy
from pathlib import Path
from random import Random
from statistics import median
from typing import Any, NamedTuple, cast

import torch
import transformers
from datasets import Dataset
from record import record
from transformers import LlamaConfig, LlamaForCausalLM, TrainerCallback
from trl.trainer.sft_config import SFTConfig
from trl.trainer.sft_trainer import SFTTrainer

from aligner.config import NewModel, Optimisation
from aligner.templates import PromptEncoder, template_named
from aligner.training.adapter import Fit
from aligner.training.adapter.fitting import trainer_of
from aligner.training.encode import EncodedRow, encode_rows, grouped_by_length, shuffled
from aligner.training.new_model import new_model
from aligner.world.rows import training_rows

TARGET = 1.3
DEMO = Path(__file__).parent.parent / "configs" / "demo.toml"
WARM = 2
"""steps of every round that are not counted"""


class Task(NamedTuple):
    """What both trainers are given."""

    model: Any
    """copied for every round"""
    tokenizer: Any
    rows: Sequence[EncodedRow]
    stage: Optimisation
    steps: int
    """counted in every round"""
    rounds: int


def main() -> None:
    """Measure, and print one line of JSON last."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="the demo's model alone, fewer rounds")
    quick = parser.parse_args().quick
    transformers.logging.set_verbosity_error()
    logging.getLogger("accelerate").setLevel(logging.ERROR)
    demo = demo_task(steps=12 if quick else 30, rounds=4 if quick else 7)
    figures = {**measured(demo), "loss_equal": int(losses_agree(demo))}
    if not quick:
        figures["large"] = measured(large_task(demo, steps=2, rounds=3))
    told = {**figures, "target": TARGET, "target_met": figures["tokens_vs_trl"] >= TARGET}
    record("training_quick" if quick else "training", told)


def demo_task(*, steps: int, rounds: int) -> Task:
    """The demo: its model, its rows, and how its second stage learns from them."""
    config, template = tomllib.loads(DEMO.read_text(encoding="utf-8")), template_named("sealed")
    names = set(Optimisation.__dataclass_fields__)
    stage = Optimisation(**{name: value for name, value in config["correction"].items() if name in names})
    triples = [row.triple for row in training_rows(count=(steps + WARM) * stage.batch * stage.accumulate, seed=0)]
    model, tokenizer = cast("tuple[Any, Any]", new_model(NewModel(**config["new"]), template, triples, seed=0))
    encoded = encode_rows(PromptEncoder(template, tokenizer), tokenizer.eos_token_id, triples, max_length=256)
    return Task(model, tokenizer, encoded.rows, stage, steps, rounds)


def large_task(demo: Task, *, steps: int, rounds: int) -> Task:
    """A Llama of 33 M parameters with a vocabulary of 16 k, and rows of 300 to 500 tokens, a third of them learnt."""
    shape = LlamaConfig(
        vocab_size=16_384, hidden_size=512, intermediate_size=1376, num_hidden_layers=8, num_attention_heads=8,
        max_position_embeddings=512, tie_word_embeddings=True,
    )  # fmt: skip
    stage = Optimisation(batch=4, accumulate=1, learning_rate=1e-4)
    random = Random(0)
    sizes = [random.randint(300, 500) for _ in range((steps + WARM) * stage.batch)]
    rows = [EncodedRow(tuple(random.randrange(300, 16_000) for _ in range(size)), size * 2 // 3) for size in sizes]
    return Task(LlamaForCausalLM(shape), demo.tokenizer, rows, stage, steps, rounds)


def measured(task: Task) -> dict[str, Any]:
    """Tokens a second of both, by turns, and the ratio of their medians."""
    rates: dict[str, list[float]] = {"ours": [], "trl": []}
    useful: dict[str, int] = {}
    for turn in range(2 * task.rounds):
        arm, make = [("ours", our_trainer), ("trl", trl_trainer)][(turn + turn // 2) % 2]
        useful[arm], seconds = counted(make, task)
        rates[arm].append(useful[arm] / seconds)
    ours, trl = median(rates["ours"]), median(rates["trl"])
    told = {name: [round(min(rate)), round(max(rate))] for name, rate in rates.items()}
    return {
        "tokens_vs_trl": round(ours / trl, 3),
        "tokens_per_second": round(ours),
        "trl_tokens_per_second": round(trl),
        "range": told,
        "parameters": sum(value.numel() for value in task.model.parameters()),
        "useful_tokens_a_step": {name: round(tokens / task.steps) for name, tokens in useful.items()},
    }


def losses_agree(task: Task) -> bool:
    """Whether both give the same loss on the same batch, of the same model."""
    one_batch = task._replace(rows=task.rows[: task.stage.batch])
    losses: list[float] = []
    with tempfile.TemporaryDirectory() as folder, torch.no_grad():
        for make in (our_trainer, trl_trainer):
            trainer = make(one_batch, Path(folder))
            batch = next(iter(trainer.get_train_dataloader()))
            losses.append(float(trainer.compute_loss(trainer.model, batch)))
    return abs(losses[0] - losses[1]) <= 1e-5 * abs(losses[1])


def our_trainer(task: Task, folder: Path) -> Any:
    """Our trainer, with the order in which our stages read."""
    step = task.stage.batch * task.stage.accumulate
    rows = grouped_by_length(shuffled(task.rows, epochs=1, seed=0), batch=step, seed=0)
    plan = Fit(stage=task.stage, folder=folder / "ours", seed=0, save_every=10**6)
    return trainer_of(deepcopy(task.model), task.tokenizer, rows, plan)


def trl_trainer(task: Task, folder: Path) -> Any:
    """TRL's own, with the same optimiser."""
    stage = task.stage
    data = Dataset.from_dict(
        {"input_ids": [list(row.ids) for row in task.rows], "labels": [row.labels for row in task.rows]}
    )
    args = SFTConfig(
        output_dir=str(folder / "trl"),
        use_cpu=True,
        bf16=False,
        activation_checkpointing=False,
        per_device_train_batch_size=stage.batch,
        gradient_accumulation_steps=stage.accumulate,
        num_train_epochs=1,
        learning_rate=stage.learning_rate,
        lr_scheduler_type=stage.schedule,
        warmup_steps=stage.warmup,
        weight_decay=stage.weight_decay,
        adam_beta1=stage.betas[0],
        adam_beta2=stage.betas[1],
        max_grad_norm=stage.clip,
        save_strategy="no",
        seed=0,
        report_to="none",
        disable_tqdm=True,
        dataloader_pin_memory=False,
        dataset_kwargs={"skip_prepare_dataset": True},  # the rows are ids and labels already
    )
    return SFTTrainer(model=deepcopy(task.model), processing_class=task.tokenizer, args=args, train_dataset=data)


class Clock(TrainerCallback):
    """When the first counted step began, and when the last one ended."""

    def __init__(self) -> None:
        self.began = self.ended = 0.0

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Look at the clock."""
        self.ended = time.perf_counter()
        if state.global_step == WARM:
            self.began = self.ended


def counted(make: Callable[[Task, Path], Any], task: Task) -> tuple[int, float]:
    """The useful tokens of the counted steps of one round, and how many seconds these take."""
    clock, tokens = Clock(), 0
    with tempfile.TemporaryDirectory() as folder:
        trainer = make(task, Path(folder))
        learn = trainer.training_step

        def learn_and_count(model: Any, inputs: Any, *rest: Any, **named: Any) -> Any:
            nonlocal tokens
            if trainer.state.global_step >= WARM:
                tokens += int((inputs["input_ids"] != task.tokenizer.pad_token_id).sum())
            return learn(model, inputs, *rest, **named)

        trainer.training_step = learn_and_count
        trainer.remove_callback(transformers.PrinterCallback)
        trainer.add_callback(clock)
        trainer.train()
    return tokens, clock.ended - clock.began


if __name__ == "__main__":
    main()
