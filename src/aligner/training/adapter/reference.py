"""Whom a model is held near while it learns: another model, or itself as it was."""

from collections.abc import Callable
from copy import deepcopy
from typing import Any

from torch import nn

from aligner.training.adapter.arguments import Fit
from aligner.training.adapter.fitting import run_to_the_end
from aligner.training.launched import by_fsdp


def loaded(reference: Any | Callable[[], Any] | None) -> Any | None:
    """The reference itself, which may be handed in as what loads it, so that nobody else keeps it in memory."""
    return reference if reference is None or isinstance(reference, nn.Module) else reference()


def reference_of(model: Any, plan: Fit, reference: Any | Callable[[], Any] | None) -> Any:
    """The model that TRL shall ask in place of the one that learns, as it was; none where that one will do."""
    reference = loaded(reference)
    if reference is not None and reference is not model:
        return reference
    # Under FSDP a copy has to stand for where the model began.
    return deepcopy(model) if by_fsdp() and not plan.lora.rank else None


def held_to_the_end(trainer: Any, plan: Fit) -> Any:
    """What `run_to_the_end` gives, without the reference: it has told all it is asked, and is let go as it came."""
    if trainer.ref_model is not None:
        _bare(trainer.accelerator.unwrap_model(trainer.ref_model))
        trainer.ref_model = None
    return _bare(run_to_the_end(trainer, plan))


def _bare(model: Any) -> Any:
    """The model without what TRL put before its forward pass, with which a copy would use the weights of this one."""
    vars(model).pop("forward", None)
    return model
