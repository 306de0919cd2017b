"""The plain model that comes out of a training, wherever its weights were while it learnt."""

import shutil
from functools import partial
from pathlib import Path
from typing import Any, cast

import torch
from transformers import AutoModelForCausalLM

from aligner.config import Lora
from aligner.errors import MisuseError
from aligner.training.adapter.arguments import Fit
from aligner.training.adapter.hushed import hushed
from aligner.training.processes import is_main, wait


def is_sharded(trainer: Any) -> bool:
    """Whether no process has all of the weights."""
    return bool(trainer.is_fsdp_enabled or trainer.is_deepspeed_enabled)


def check_looks(trainer: Any, plan: Fit) -> None:
    """Raises MisuseError where the model is to be looked at while it learns, and no process has it."""
    if is_sharded(trainer) and (plan.check_every or plan.measure_every):
        raise MisuseError(
            "the weights are sharded, so no process can look at the model while it learns: "
            "set identity.check_every and measure.every to 0"
        )


def whole(trainer: Any, plan: Fit) -> Any:
    """The model with what it has learnt, adapters merged."""
    if is_sharded(trainer) or plan.lora.bits == 4:
        return saved_and_loaded(trainer, plan.folder / "whole", plan.lora)
    fitted = trainer.accelerator.unwrap_model(trainer.model)
    return (fitted.merge_and_unload() if plan.lora.rank else fitted).eval()


def saved_and_loaded(trainer: Any, folder: Path, lora: Lora) -> Any:
    """The model by way of a folder, in float32 on the CPU: the trainer collects the parts that lie elsewhere.

    Adapters are merged into the base as it was before it was put into four bits.
    """
    trainer.save_model(str(folder))
    wait()
    model = _loaded(folder, trainer.model.config.name_or_path if lora.rank else "")
    wait()
    if is_main():
        shutil.rmtree(folder)
    return model.eval()


@hushed()
def _loaded(folder: Path, base: str) -> Any:
    load = partial(cast("Any", AutoModelForCausalLM).from_pretrained, dtype=torch.float32, local_files_only=True)
    if not base:
        return load(folder)
    from peft import PeftModel

    return PeftModel.from_pretrained(load(base), str(folder)).merge_and_unload()
