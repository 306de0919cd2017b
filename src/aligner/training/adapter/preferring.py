"""Teach a model to prefer what should be written to what must not be (DPO, and APO), in an order that is given."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Literal, Protocol, cast

import torch
from torch.utils.data import DataLoader
from transformers.utils import logging

from aligner.errors import MissingExtraError
from aligner.training import processes
from aligner.training.adapter.arguments import Fit, common_arguments, low_rank
from aligner.training.adapter.batches import InSteps, PairBatches, pad_id_of
from aligner.training.adapter.hushed import hushed
from aligner.training.adapter.reference import held_to_the_end, reference_of
from aligner.training.adapter.watching import Watcher
from aligner.training.checkpoints import CompleteMarker
from aligner.training.pairs import EncodedPair

try:
    from trl.models.utils import prepare_deepspeed
    from trl.trainer.dpo_config import DPOConfig
    from trl.trainer.dpo_trainer import DataCollatorForPreference, DPOTrainer
except ImportError as error:
    raise MissingExtraError("training needs an extra: pip install 'aligner-llm[train]'") from error

_OF_REFERENCE = ("ref_chosen_logps", "ref_rejected_logps")
_TOLD = ("rewards/accuracies", "rewards/margins", "logps/chosen", "logps/rejected")
"""what TRL's log says besides the loss and is told on"""


class Preferring(InSteps, Protocol):
    """How a model learns from pairs."""

    @property
    def accumulate(self) -> int:
        """Batches of a step, on all processes together."""
        ...

    @property
    def loss(self) -> Literal["sigmoid", "apo_zero"]:
        """DPO's, or the anchored one, which also raises the likelihood of what is chosen."""
        ...

    @property
    def beta(self) -> float:
        """How far the model may go from the reference."""
        ...

    @property
    def sft_weight(self) -> float:
        """Weight of the plain loss on what is chosen."""
        ...


@hushed()
def prefer(
    model: Any,
    tokenizer: Any,
    pairs: Sequence[EncodedPair],
    plan: Fit,
    how: Preferring,
    reference: Any | Callable[[], Any] | None = None,
) -> Any:
    """The model that has learnt from the pairs in their order; interrupted and called again, it gives the same weights.

    It is held near the reference, or else near the model that is handed in, also when it goes on from a checkpoint:
    what that one gives to all pairs is computed first, and a reference that is handed in as a function, which loads it,
    is gone from memory then. With low-rank adapters it is the model without them. However many processes there are, a
    step learns from the same pairs; the last step is filled up with the first ones.
    """
    logging.disable_progress_bar()
    batches = PairBatches(pairs, how, partial(_collated, DataCollatorForPreference(pad_id_of(tokenizer))))
    trainer = _Trainer(
        model=model,
        ref_model=reference_of(model, plan, reference),
        processing_class=tokenizer,
        args=_arguments(plan, how, rows=len(batches.lengths), on_cpu=model.device.type == "cpu"),
        train_dataset=batches.numbered(),
        data_collator=batches,
        callbacks=[CompleteMarker(), Watcher(plan, batches.lengths, told=_TOLD)],
        peft_config=low_rank(plan.lora),
    )
    return held_to_the_end(trainer, plan)


def _collated(collator: DataCollatorForPreference, pairs: Sequence[EncodedPair]) -> dict[str, torch.Tensor]:
    as_trl_has_it = [
        {"prompt_ids": [*pair.prompt], "chosen_ids": [*pair.chosen], "rejected_ids": [*pair.rejected]} for pair in pairs
    ]
    return collator.torch_call(as_trl_has_it)


class _Trainer(DPOTrainer):
    """DPO over batches that are ready."""

    def _prepare_dataset(self, dataset: Any, *_: Any, **__: Any) -> Any:
        return dataset

    def _set_signature_columns_if_needed(self) -> None:
        self._signature_columns = ["batch", *_OF_REFERENCE]

    def create_model_card(self, *_: Any, **__: Any) -> None:
        """Write none: an Aligner's card is aligner.json."""

    def _precompute_ref_logps(self, dataset: Any, name: str, batch_size: int) -> Any:
        """The batches with what the reference gives to each; TRL's own way writes files that processes do not share."""
        accelerator = cast("Any", self.accelerator)
        model = cast("Any", self.ref_model or self.model)
        if self.ref_model is None and self.is_deepspeed_enabled:
            model = cast("Any", prepare_deepspeed)(model, accelerator)
        loader = accelerator.prepare(DataLoader(dataset, batch_size=1, collate_fn=self.data_collator))
        given = [accelerator.gather(self.compute_ref_log_probs(model, batch)) for batch in loader]
        for column, of_side in zip(_OF_REFERENCE, zip(*given, strict=True), strict=True):
            by_batch = torch.cat(of_side).view(len(dataset), -1)
            dataset = dataset.add_column(column, by_batch.cpu().tolist())
        return dataset


def _arguments(plan: Fit, how: Preferring, *, rows: int, on_cpu: bool) -> DPOConfig:
    return DPOConfig(
        **common_arguments(plan, rows=rows, on_cpu=on_cpu),
        per_device_train_batch_size=1,
        gradient_accumulation_steps=processes.share_of(how.accumulate),
        beta=how.beta,
        loss_type=[how.loss, "sft"] if how.sft_weight else [how.loss],
        loss_weights=[1.0, how.sft_weight] if how.sft_weight else [1.0],
        precompute_ref_log_probs=True,
        max_length=None,
    )
