"""Fit a causal language model to encoded rows, in an order that is given."""

from collections.abc import Mapping, Sequence
from math import ceil
from typing import Any, NamedTuple

import torch
from transformers import PrinterCallback
from transformers.utils import logging

from aligner.errors import MissingExtraError
from aligner.training import processes
from aligner.training.adapter.arguments import Fit, arguments, low_rank
from aligner.training.adapter.batches import pad_id_of
from aligner.training.adapter.hushed import hushed
from aligner.training.adapter.packing import check_packing
from aligner.training.adapter.trainer import WeightedTrainer
from aligner.training.adapter.watching import Watcher
from aligner.training.adapter.whole import check_looks, whole
from aligner.training.checkpoints import CompleteMarker, newest_complete
from aligner.training.collating import collate
from aligner.training.encode import EncodedRow

try:
    from datasets import Dataset
except ImportError as error:
    raise MissingExtraError("training needs an extra: pip install 'aligner-llm[train]'") from error


def fit(model: Any, tokenizer: Any, rows: Sequence[EncodedRow], plan: Fit) -> Any:
    """The model fitted to the rows in their order; interrupted and called again, it gives the same weights.

    The loss is the mean negative log-likelihood of the learnt tokens (Aligner, eq. 4), each with its weight. However
    many processes there are, a step learns from the same rows. A row is read when its batch is due.
    """
    return run_to_the_end(trainer_of(model, tokenizer, rows, plan), plan)


@hushed()
def trainer_of(model: Any, tokenizer: Any, rows: Sequence[EncodedRow], plan: Fit) -> WeightedTrainer:
    """The trainer of a plan, before its first step."""
    logging.disable_progress_bar()
    packed = plan.packing == "on"
    if packed:
        check_packing(model)
    batches = _Batches(rows, plan.stage.batch, pad_id_of(tokenizer), packed=packed)
    return WeightedTrainer(
        model=model,
        processing_class=tokenizer,
        args=arguments(plan, rows=len(rows), on_cpu=model.device.type == "cpu"),
        train_dataset=batches.numbered(),
        data_collator=batches,
        callbacks=[CompleteMarker(), Watcher(plan, [len(row.ids) for row in rows])],
        peft_config=low_rank(plan.lora),
    )


@hushed()
def run_to_the_end(trainer: Any, plan: Fit) -> Any:
    """Train from the newest whole checkpoint on; the plain model that comes out."""
    check_looks(trainer, plan)
    trainer.remove_callback(PrinterCallback)
    checkpoint = processes.told_by_main(lambda: newest_complete(plan.folder))
    trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    return whole(trainer, plan)


class _Batches(NamedTuple):
    """The rows in batches, which are numbered; called with the number of one, it makes it."""

    rows: Sequence[EncodedRow]
    size: int
    pad_id: int
    packed: bool

    def numbered(self) -> Dataset:
        """One item a batch, as many as the processes can share out evenly: the last ones may be without rows."""
        count, among = ceil(len(self.rows) / self.size), processes.count()
        return Dataset.from_dict({"batch": list(range(ceil(count / among) * among))})

    def __call__(self, items: Sequence[Mapping[str, int]]) -> dict[str, torch.Tensor]:
        """The batch of that number, as the trainer asks for it."""
        ((number,),) = [item.values() for item in items]
        return collate(self.rows[number * self.size : (number + 1) * self.size], pad_id=self.pad_id, packed=self.packed)
