"""Rows as numbered batches, as many as make whole steps: a trainer then learns from them in the order that is given."""

from collections.abc import Callable, Mapping, Sequence
from itertools import cycle, islice
from math import ceil
from typing import Any, Protocol, TypeVar

import torch

from aligner.errors import MissingExtraError
from aligner.training.pairs import EncodedPair

try:
    from datasets import Dataset
except ImportError as error:
    raise MissingExtraError("training needs an extra: pip install 'aligner-llm[train]'") from error

T = TypeVar("T")


class InSteps(Protocol):
    """How many rows are learnt from at a time."""

    @property
    def batch(self) -> int:
        """Rows on one device."""
        ...

    @property
    def rows_a_step(self) -> int:
        """On all processes together."""
        ...


def filled(rows: Sequence[T], how: InSteps) -> list[T]:
    """The rows, and behind them the first ones again, so that the last step is whole."""
    return list(islice(cycle(rows), ceil(len(rows) / how.rows_a_step) * how.rows_a_step))


def pad_id_of(tokenizer: Any) -> int:
    """What fills up a batch: masks hide it, so that the end of the text will do where there is no id for it."""
    return tokenizer.eos_token_id if tokenizer.pad_token_id is None else tokenizer.pad_token_id


class PairBatches:
    """The pairs in batches, which are numbered, as many as make whole steps; called with one, it makes it."""

    def __init__(
        self,
        pairs: Sequence[EncodedPair],
        how: InSteps,
        collate: Callable[[Sequence[EncodedPair]], dict[str, torch.Tensor]],
    ) -> None:
        self._pairs, self._size, self._collate = filled(pairs, how), how.batch, collate

    @property
    def lengths(self) -> list[int]:
        """The tokens that are read for each pair."""
        return [2 * len(pair.prompt) + len(pair.chosen) + len(pair.rejected) for pair in self._pairs]

    def numbered(self) -> Dataset:
        """One item a batch."""
        return Dataset.from_dict({"batch": list(range(len(self._pairs) // self._size))})

    def __call__(self, items: Sequence[Mapping[str, Any]]) -> dict[str, torch.Tensor]:
        """The batch of that number, with what else is known of it."""
        (item,) = items
        batch = self._collate(self._pairs[item["batch"] * self._size :][: self._size])
        return {**batch, **{name: torch.tensor(value) for name, value in item.items() if name != "batch"}}
