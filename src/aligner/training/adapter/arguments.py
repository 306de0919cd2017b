"""What the trainer is told: the settings of a stage in TRL's words."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

from aligner.config import Lora, Optimisation
from aligner.errors import MissingExtraError
from aligner.training import processes

try:
    from trl.trainer.sft_config import SFTConfig
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
    extra: Mapping[str, float] = {}
    """what else a stage has to tell, in TRL's words"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fit:
    """What is fitted besides the rows: how, where to, and who looks on.

    Of several processes, the main one alone calls the functions; the others wait, and learn what it was told.
    """

    stage: Optimisation
    folder: Path
    """checkpoints go here, and the work goes on from the newest whole one"""
    seed: int
    save_every: int
    lora: Lora = Lora()
    packing: Literal["off", "on"] = "off"
    """put short rows behind one another in place of padding; they do not see each other"""
    gradient_checkpointing: Literal["auto", "on", "off"] = "auto"
    """compute activations twice in place of keeping them; auto is on a GPU alone"""
    on_progress: Callable[[Progress], None] = lambda _: None
    check_every: int = 0
    """steps between two questions whether to stop; 0 never asks"""
    is_enough: Callable[[Any, int], bool] = lambda _model, _step: False
    """whether the model has learnt what it should after that step; asked every `check_every` steps"""
    measure_every: int = 0
    """steps between two measurements; 0 never measures"""
    measure: Callable[[Any, int], None] = lambda _model, _step: None
    """looks at the model after that step, before the checkpoint of the step counts"""


def arguments(plan: Fit, *, rows: int, on_cpu: bool) -> SFTConfig:
    """The trainer's arguments; one item of its data is a batch."""
    own: dict[str, Any] = {
        "per_device_train_batch_size": 1,
        "gradient_accumulation_steps": processes.share_of(plan.stage.accumulate),
        "max_length": None,
        "packing": False,
        "dataset_kwargs": {"skip_prepare_dataset": True},
    }
    return SFTConfig(**common_arguments(plan, rows=rows, on_cpu=on_cpu), **own)


def common_arguments(plan: Fit, *, rows: int, on_cpu: bool) -> dict[str, Any]:
    """What all of TRL's trainers are told."""
    stage = plan.stage
    return {
        "output_dir": str(plan.folder),
        "seed": plan.seed,
        "data_seed": plan.seed,
        # TRL's defaults are made for GPUs.
        "use_cpu": on_cpu,
        "bf16": not on_cpu,
        "activation_checkpointing": {"on": True, "off": False, "auto": not on_cpu}[plan.gradient_checkpointing],
        "num_train_epochs": 1,
        "max_steps": stage.steps_for(rows),  # with more than there are, the trainer would begin anew
        "train_sampling_strategy": "sequential",
        "learning_rate": stage.learning_rate,
        "lr_scheduler_type": {"constant": "constant_with_warmup"}.get(stage.schedule, stage.schedule),
        "warmup_steps": stage.warmup,
        "weight_decay": stage.weight_decay,
        "adam_beta1": stage.betas[0],
        "adam_beta2": stage.betas[1],
        "max_grad_norm": stage.clip,
        "optim": "adamw_torch_fused",
        "save_strategy": "steps",
        "save_steps": plan.save_every,
        "save_total_limit": 2,
        "logging_steps": _LOG_EVERY,
        "logging_first_step": True,
        "disable_tqdm": True,
        "report_to": "none",
        "dataloader_pin_memory": not on_cpu,
        # Every parameter takes part in every batch, also in one without rows.
        "ddp_find_unused_parameters": False,
    }


def low_rank(lora: Lora) -> Any:
    """PEFT's configuration, or none where all weights are trained."""
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
