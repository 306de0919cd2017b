"""Teach a model to write what is desirable and not what is undesirable (KTO), from single rows in a given order."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import torch
from torch.utils.data import DataLoader
from transformers.utils import logging

from aligner.config.bootstrapping import KTOArm
from aligner.errors import MissingExtraError, MisuseError
from aligner.training import processes
from aligner.training.adapter.arguments import Fit, common_arguments, low_rank
from aligner.training.adapter.batches import filled, pad_id_of
from aligner.training.adapter.hushed import hushed
from aligner.training.adapter.reference import held_to_the_end, reference_of
from aligner.training.adapter.watching import Watcher
from aligner.training.checkpoints import CompleteMarker
from aligner.training.pairs import LabelledRow

try:
    from datasets import Dataset
    from trl.models.utils import prepare_deepspeed
    from trl.trainer.kto_config import KTOConfig
    from trl.trainer.kto_trainer import DataCollatorForUnpairedPreference, KTOTrainer
except ImportError as error:
    raise MissingExtraError("training needs an extra: pip install 'aligner-llm[train]'") from error

_OF_REFERENCE = ("ref_logps", "ref_KL_logps")
_TOLD = ("kl", "rewards/chosen", "rewards/rejected", "logps/chosen", "logps/rejected")
"""what TRL's log says besides the loss and is told on, where a step has rows of that side"""


@hushed()
def prefer_unpaired(
    model: Any,
    tokenizer: Any,
    rows: Sequence[LabelledRow],
    plan: Fit,
    how: KTOArm,
    reference: Any | Callable[[], Any] | None = None,
) -> Any:
    """The model that has learnt from the rows in their order; interrupted and called again, it gives the same weights.

    The loss is that of Ethayarajh et al., 2024 (eq. 7). How far the model has gone is estimated as TRL does it: by
    each prompt with the completion of the row before it in the batch, over the batches that all processes read at a
    time; so neighbours should answer different questions. Such a completion is cut where prompt and completion together
    would be longer than the longest of all rows. Reference and steps are those of `prefer`. Raises MisuseError for
    batches of one row.
    """
    if how.batch < 2:
        raise MisuseError(
            f"kto.batch = {how.batch}: KTO pairs each prompt with another row of its batch; choose 2 or more"
        )
    logging.disable_progress_bar()
    batches = _Batches(rows, how, pad_id_of(tokenizer))
    trainer = _Trainer(
        model=model,
        ref_model=reference_of(model, plan, reference),
        processing_class=tokenizer,
        args=_arguments(plan, how, rows=len(batches.rows), on_cpu=model.device.type == "cpu"),
        train_dataset=batches.numbered(),
        data_collator=batches,
        callbacks=[CompleteMarker(), Watcher(plan, [len(row.ids) for row in batches.rows], told=_TOLD)],
        peft_config=low_rank(plan.lora),
    )
    return held_to_the_end(trainer, plan)


class _Batches:
    """The rows, which are numbered, as many as make whole steps; called with those of a batch, it makes the batch."""

    def __init__(self, rows: Sequence[LabelledRow], how: KTOArm, pad_id: int) -> None:
        self.rows = filled(rows, how)
        self._longest = max((len(row.ids) for row in rows), default=0)
        self._collate = DataCollatorForUnpairedPreference(pad_token_id=pad_id)

    def numbered(self) -> Dataset:
        """One item a row: TRL refuses batches of one item."""
        return Dataset.from_dict({"row": list(range(len(self.rows)))})

    def __call__(self, items: Sequence[Mapping[str, Any]]) -> dict[str, torch.Tensor]:
        """The batch of those rows, with what the reference gives to it where that is known already."""
        of_batch: list[LabelledRow] = [self.rows[item["row"]] for item in items]
        mismatched = [of_batch[-1], *of_batch[:-1]]
        examples = [self._as_trl_has_it(row, other) for row, other in zip(of_batch, mismatched, strict=True)]
        given = [{name: item[name] for name in _OF_REFERENCE if name in item} for item in items]
        return self._collate.torch_call([{**one, **other} for one, other in zip(examples, given, strict=True)])

    def _as_trl_has_it(self, row: LabelledRow, other: LabelledRow) -> dict[str, Any]:
        # The rows fit the model's context, which two halves of long ones would not.
        room = max(self._longest - len(row.prompt), 1)
        return {
            "prompt_ids": [*row.prompt],
            "completion_ids": [*row.completion],
            "KL_completion_ids": [*other.completion[:room]],
            "label": row.desirable,
        }


class _Trainer(KTOTrainer):
    """KTO over batches that are ready."""

    def _prepare_dataset(self, dataset: Any, *_: Any, **__: Any) -> Any:
        return dataset

    def _set_signature_columns_if_needed(self) -> None:
        self._signature_columns = ["row", *_OF_REFERENCE]

    def create_model_card(self, *_: Any, **__: Any) -> None:
        """Write none: an Aligner's card is aligner.json."""

    def _precompute_ref_logps(self, dataset: Any, name: str, batch_size: int) -> Any:
        """The rows with what the reference gives to each; TRL's own way writes files that processes do not share."""
        accelerator = cast("Any", self.accelerator)
        model = cast("Any", self.ref_model or self.model)
        if self.ref_model is None and self.is_deepspeed_enabled:
            model = cast("Any", prepare_deepspeed)(model, accelerator)
        loader = accelerator.prepare(DataLoader(dataset, batch_size=batch_size, collate_fn=self.data_collator))
        given = [accelerator.gather(self.compute_ref_log_probs(model, batch)) for batch in loader]
        for column, of_rows in zip(_OF_REFERENCE, zip(*given, strict=True), strict=True):
            dataset = dataset.add_column(column, torch.cat(of_rows).cpu().tolist())
        return dataset


def _arguments(plan: Fit, how: KTOArm, *, rows: int, on_cpu: bool) -> KTOConfig:
    return KTOConfig(
        **common_arguments(plan, rows=rows, on_cpu=on_cpu),
        per_device_train_batch_size=how.batch,
        gradient_accumulation_steps=processes.share_of(how.accumulate),
        beta=how.beta,
        desirable_weight=how.desirable_weight,
        undesirable_weight=how.undesirable_weight,
        precompute_ref_log_probs=True,
        max_length=None,
    )
