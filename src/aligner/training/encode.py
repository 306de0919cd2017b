"""Triples as token ids with weights: the loss is on the correction's tokens and the end of the text alone."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from random import Random
from typing import Any, Protocol, TypeVar

from rapidfuzz.distance import Indel
from rich.text import Text

from aligner.errors import visible
from aligner.records import Triple
from aligner.templates import PromptEncoder

IGNORED = -100
"""the label of a token that bears no loss"""
_NEIGHBOURS = 8
"""batches whose rows are sorted by length together"""

Weigh = Callable[[Sequence[int], Sequence[int]], tuple[float, ...]]
"""The ids of an answer and those that are learnt, the end of the text included, in; a weight for each learnt id out."""


@dataclass(frozen=True, slots=True)
class EncodedRow:
    """One row of training: all ids, and how many of them are the prompt's."""

    ids: tuple[int, ...]
    prompt_length: int
    weights: tuple[float, ...] = ()
    """one in the loss for each learnt id; none where all are 1"""
    answer: range = range(0)
    """where the answer stands among the ids; nowhere if it is no text that could be told from its context"""

    @property
    def labels(self) -> list[int]:
        """One label a token."""
        return [IGNORED] * self.prompt_length + list(self.ids[self.prompt_length :])


class HasIds(Protocol):
    """Anything whose length in tokens is known."""

    @property
    def ids(self) -> tuple[int, ...]:
        """All of its ids."""
        ...


Row = TypeVar("Row", bound=HasIds)


@dataclass(frozen=True, slots=True)
class Encoded:
    """The rows that fit, and the places of those that were too long."""

    rows: list[EncodedRow]
    too_long: list[int]


def encode_row(encoder: PromptEncoder, eos_id: int, triple: Triple, weigh: Weigh | None = None) -> EncodedRow:
    """A triple as ids: prompt, correction, end of text."""
    prompt = encoder.prompt_ids(triple.question, triple.answer, triple.instruction)
    answer = encoder.text_ids(triple.answer)
    learnt = (*encoder.text_ids(triple.correction), eos_id)
    weights = weigh(answer, learnt) if weigh else ()
    # In every template the answer is the last of the texts.
    end = len(prompt) - len(encoder.answer_marks.behind)
    return EncodedRow((*prompt, *learnt), len(prompt), weights, range(end - len(answer), end))


def encode_rows(
    encoder: PromptEncoder, eos_id: int, triples: Iterable[Triple], *, max_length: int, weigh: Weigh | None = None
) -> Encoded:
    """All triples as ids, without those of more than `max_length` tokens."""
    encoded = Encoded([], [])
    for i, triple in enumerate(triples):
        row = encode_row(encoder, eos_id, triple, weigh)
        if len(row.ids) > max_length:
            encoded.too_long.append(i)
        else:
            encoded.rows.append(row)
    return encoded


def shuffled(rows: Sequence[Row], *, epochs: float, seed: int) -> list[Row]:
    """The rows in a new random order for every epoch; the last epoch may be a part."""
    random = Random(seed)
    wanted = round(len(rows) * epochs)
    order: list[Row] = []
    while len(order) < wanted:
        order += random.sample(rows, len(rows))
    return order[:wanted]


def grouped_by_length(rows: Sequence[Row], *, batch: int, seed: int) -> list[Row]:
    """The rows moved a little, so that those of one batch are about equally long and little is padded."""
    random = Random(seed)
    size = batch * _NEIGHBOURS
    order: list[Row] = []
    for start in range(0, len(rows), size):
        near = sorted(rows[start : start + size], key=lambda row: len(row.ids))
        batches = [near[i : i + batch] for i in range(0, len(near), batch)]
        # The one short batch of all stays last, so that every step before it is full.
        if len(near) % batch == 0:
            random.shuffle(batches)
        order += [row for rows_of_batch in batches for row in rows_of_batch]
    return order


def edited(answer: Sequence[int], learnt: Sequence[int]) -> tuple[bool, ...]:
    """Which of the learnt ids are edits: not the answer's, or the first one behind something that was taken out.

    The last learnt id is the end of the text, and an edit when the answer's end was taken out.
    """
    marks = [False] * len(learnt)
    kept = Indel.editops(answer, learnt[:-1]).as_matching_blocks()
    for before, behind in pairwise([(0, 0, 0), *kept]):
        (start, from_, size), (next_start, to, _) = before, behind
        if start + size < next_start or from_ + size < to:
            first = from_ + size
            marks[first:to] = [True] * (to - first)
            marks[first] = True
    return tuple(marks)


def edit_weights(answer: Sequence[int], learnt: Sequence[int], *, edit: float, copy: float) -> tuple[float, ...]:
    """The weight `edit` for each learnt id that is an edit, and `copy` for all others; none where both are 1."""
    if edit == copy == 1:
        return ()
    return tuple(edit if is_edit else copy for is_edit in edited(answer, learnt))


def preview(tokenizer: Any, row: EncodedRow) -> Text:
    """One row as the model sees it: what bears the loss is green, the rest is dim."""
    prompt, learnt = row.ids[: row.prompt_length], row.ids[row.prompt_length :]
    read, learn = (visible(tokenizer.decode(list(ids))) for ids in (prompt, learnt))
    return Text(read, style="dim") + Text(learn, style="green")
