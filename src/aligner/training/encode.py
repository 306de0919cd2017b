"""Triples as token ids with a mask: the loss is on the correction's tokens and the end of the text, on nothing else."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

import torch
from rich.text import Text

from aligner.errors import visible
from aligner.records import Triple
from aligner.templates import PromptEncoder

IGNORED = -100
"""the label of a token that bears no loss"""
_NEIGHBOURS = 8
"""batches whose rows are sorted by length together"""


@dataclass(frozen=True, slots=True)
class EncodedRow:
    """One row of training: all ids, and how many of them are the prompt's."""

    ids: tuple[int, ...]
    prompt_length: int

    @property
    def labels(self) -> list[int]:
        """One label a token."""
        return [IGNORED] * self.prompt_length + list(self.ids[self.prompt_length :])


@dataclass(frozen=True, slots=True)
class Encoded:
    """The rows that fit, and the places of those that were too long."""

    rows: list[EncodedRow]
    too_long: list[int]


def encode_row(encoder: PromptEncoder, eos_id: int, triple: Triple) -> EncodedRow:
    """A triple as ids: prompt, correction, end of text."""
    prompt = encoder.prompt_ids(triple.question, triple.answer)
    return EncodedRow((*prompt, *encoder.text_ids(triple.correction), eos_id), len(prompt))


def encode_rows(encoder: PromptEncoder, eos_id: int, triples: Iterable[Triple], *, max_length: int) -> Encoded:
    """All triples as ids, without those of more than `max_length` tokens."""
    encoded = Encoded([], [])
    for i, triple in enumerate(triples):
        row = encode_row(encoder, eos_id, triple)
        if len(row.ids) > max_length:
            encoded.too_long.append(i)
        else:
            encoded.rows.append(row)
    return encoded


def shuffled(rows: Sequence[EncodedRow], *, epochs: float, seed: int) -> list[EncodedRow]:
    """The rows in a new random order for every epoch; the last epoch may be a part."""
    random = Random(seed)
    wanted = round(len(rows) * epochs)
    order: list[EncodedRow] = []
    while len(order) < wanted:
        order += random.sample(rows, len(rows))
    return order[:wanted]


def grouped_by_length(rows: Sequence[EncodedRow], *, batch: int, seed: int) -> list[EncodedRow]:
    """The rows moved a little, so that those of one batch are about equally long and little is padded."""
    random = Random(seed)
    size = batch * _NEIGHBOURS
    order: list[EncodedRow] = []
    for start in range(0, len(rows), size):
        near = sorted(rows[start : start + size], key=lambda row: len(row.ids))
        batches = [near[i : i + batch] for i in range(0, len(near), batch)]
        # The one short batch of all stays last, so that every step before it is full.
        if len(near) % batch == 0:
            random.shuffle(batches)
        order += [row for rows_of_batch in batches for row in rows_of_batch]
    return order


def collate(rows: Sequence[dict[str, Any]], *, pad_id: int) -> dict[str, torch.Tensor]:
    """A batch of ids and labels, [rows, longest], padded on the right.

    There is no attention mask: in a causal model what stands on the right of a token cannot reach it.
    """
    width = max(len(row["input_ids"]) for row in rows)
    return {
        "input_ids": torch.tensor([_padded(row["input_ids"], width, pad_id) for row in rows]),
        "labels": torch.tensor([_padded(row["labels"], width, IGNORED) for row in rows]),
    }


def preview(tokenizer: Any, row: EncodedRow) -> Text:
    """One row as the model sees it: what bears the loss is green, the rest is dim."""
    prompt, learnt = row.ids[: row.prompt_length], row.ids[row.prompt_length :]
    read, learn = (visible(tokenizer.decode(list(ids))) for ids in (prompt, learnt))
    return Text(read, style="dim") + Text(learn, style="green")


def _padded(values: list[int], width: int, filler: int) -> list[int]:
    return values + [filler] * (width - len(values))
