"""Teach a model to prefer what should be written to what must not be (DPO, and APO), in an order that is given."""

from collections.abc import Mapping, Sequence
from copy import deepcopy
from itertools import cycle, islice
from math import ceil
from typing import Any, cast

import torch
from torch.utils.data import DataLoader
from transformers.utils import logging

from aligner.config import PreferenceStage
from aligner.errors import MissingExtraError
from aligner.training import processes
from aligner.training.adapter.arguments import Fit, common_arguments, low_rank
from aligner.training.adapter.fitting import run_to_the_end
from aligner.training.adapter.watching import Watcher
from aligner.training.checkpoints import CompleteMarker
from aligner.training.launched import by_fsdp
from aligner.training.pairs import EncodedPair

try:
    from datasets import Dataset
    from trl.models.utils import prepare_deepspeed
    from trl.trainer.dpo_config import DPOConfig
    from trl.trainer.dpo_trainer import DataCollatorForPreference, DPOTrainer
except ImportError as error:
    raise MissingExtraError("training needs an extra: pip install 'aligner-llm[train]'") from error

_OF_REFERENCE = ("ref_chosen_logps", "ref_rejected_logps")
_TOLD = ("rewards/accuracies", "rewards/margins", "logps/chosen", "logps/rejected")
"""what TRL's log says besides the loss and is told on"""


def prefer(model: Any, tokenizer: Any, pairs: Sequence[EncodedPair], plan: Fit, how: PreferenceStage) -> Any:
    """The model that has learnt from the pairs in their order; interrupted and called again, it gives the same weights.

    It is held near the model that is handed in, also when it goes on from a checkpoint: what that one gives to all
    pairs is computed first. With low-rank adapters it is the model without them. However many processes there are, a
    step learns from the same pairs; the last step is filled up with the first ones.
    """
    logging.disable_progress_bar()
    batches = _Batches(pairs, how, tokenizer.pad_token_id)
    trainer = _Trainer(
        model=model,
        # Under FSDP a copy has to stand for where the model began.
        ref_model=deepcopy(model) if by_fsdp() and not plan.lora.rank else None,
        processing_class=tokenizer,
        args=_arguments(plan, how, rows=len(batches.lengths), on_cpu=model.device.type == "cpu"),
        train_dataset=batches.numbered(),
        data_collator=batches,
        callbacks=[CompleteMarker(), Watcher(plan, batches.lengths, told=_TOLD)],
        peft_config=low_rank(plan.lora),
    )
    return run_to_the_end(trainer, plan)


class _Batches:
    """The pairs in batches, which are numbered, as many as make whole steps; called with one, it makes it."""

    def __init__(self, pairs: Sequence[EncodedPair], how: PreferenceStage, pad_id: int) -> None:
        step = how.rows_a_step
        self._pairs = list(islice(cycle(pairs), ceil(len(pairs) / step) * step))
        self._size = how.batch
        self._collate = DataCollatorForPreference(pad_token_id=pad_id)

    @property
    def lengths(self) -> list[int]:
        """The tokens that are read for each pair."""
        return [2 * len(pair.prompt) + len(pair.chosen) + len(pair.rejected) for pair in self._pairs]

    def numbered(self) -> Dataset:
        """One item a batch."""
        return Dataset.from_dict({"batch": list(range(len(self._pairs) // self._size))})

    def __call__(self, items: Sequence[Mapping[str, Any]]) -> dict[str, torch.Tensor]:
        """The batch of that number, with what the reference gives to it where that is known already."""
        (item,) = items
        of_batch = self._pairs[item["batch"] * self._size :][: self._size]
        batch = self._collate.torch_call([_as_trl_has_it(pair) for pair in of_batch])
        return {**batch, **{name: torch.tensor(item[name]) for name in _OF_REFERENCE if name in item}}


def _as_trl_has_it(pair: EncodedPair) -> dict[str, list[int]]:
    return {"prompt_ids": [*pair.prompt], "chosen_ids": [*pair.chosen], "rejected_ids": [*pair.rejected]}


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


def _arguments(plan: Fit, how: PreferenceStage, *, rows: int, on_cpu: bool) -> DPOConfig:
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
