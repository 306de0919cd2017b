"""TRL's trainer with a loss of our own: each learnt token has its weight, and the others do not reach the head."""

import inspect
from collections.abc import Sequence
from typing import Any, cast

import torch
from torch.nn.functional import cross_entropy, pad

from aligner.errors import MissingExtraError

try:
    from trl.trainer.sft_trainer import SFTTrainer
except ImportError as error:
    raise MissingExtraError("training needs an extra: pip install 'aligner-llm[train]'") from error


class WeightedTrainer(SFTTrainer):
    """SFT whose loss is the weighted mean over the learnt tokens of all batches of a step, on all processes."""

    loss_is_scaled_for_ga = True

    def _set_signature_columns_if_needed(self) -> None:
        self._signature_columns = ["batch"]

    def create_model_card(self, *_: Any, **__: Any) -> None:
        """Write none: an Aligner's card is aligner.json."""

    def _get_num_items_in_batch(self, batch_samples: Sequence[dict[str, torch.Tensor]], device: torch.device) -> Any:
        """The sum of the weights of a step, which is the number of its learnt tokens where all are 1."""
        weight = torch.stack([batch["weights"].sum() for batch in batch_samples]).sum()
        return cast("Any", self.accelerator).gather(weight.to(device)).sum()

    def compute_loss(
        self,
        model: Any,
        inputs: dict[str, Any],
        return_outputs: bool = False,  # noqa: FBT001, FBT002  # as the trainer calls it
        num_items_in_batch: Any = None,
    ) -> Any:
        """The weighted negative log-likelihood of this batch over the weight of the whole step."""
        ids, weights = inputs["input_ids"][:, 1:], inputs["weights"][:, 1:]
        learnt = weights != 0
        logits, outputs = logits_where(model, inputs, learnt)
        lost = cross_entropy(logits.to(torch.promote_types(logits.dtype, torch.float32)), ids[learnt], reduction="none")
        summed = (lost * weights[learnt]).sum()
        total = weights.sum() if num_items_in_batch is None else num_items_in_batch
        # Data-parallel training averages gradients over processes, while the weight is that of all of them.
        scale = 1 if num_items_in_batch is None else self.accelerator.num_processes
        loss = summed * scale / total.clamp(min=torch.finfo(total.dtype).tiny)
        return (loss, outputs) if return_outputs else loss


def logits_where(model: Any, inputs: dict[str, Any], learnt: torch.Tensor) -> tuple[torch.Tensor, Any]:
    """The logits before each learnt token, [learnt tokens, vocabulary], and what else the model gave.

    `learnt` is [lines, longest - 1]. The head of a model that cannot leave positions out computes all of them.
    """
    read = {name: inputs[name] for name in ("input_ids", "position_ids") if name in inputs}
    if _leaves_out(model):
        outputs = model(**read, use_cache=False, logits_to_keep=pad(learnt, (0, 1)))
        return outputs.logits, outputs
    outputs = model(**read, use_cache=False)
    return outputs.logits[:, :-1][learnt], outputs


def _leaves_out(model: Any) -> bool:
    """Whether the model's head can be given any positions; code that came with a model may know columns only."""
    inner = getattr(model, "module", model)
    inner = inner.get_base_model() if hasattr(inner, "get_base_model") else inner
    # FSDP puts a class of its own before the model's.
    own = next(kind for kind in type(inner).__mro__ if not kind.__module__.startswith("torch."))
    known = own.__module__.startswith("transformers.")
    return known and "logits_to_keep" in inspect.signature(inner.forward).parameters
