"""Rows as batches of tensors: each on a line of its own, or several behind one another."""

from collections.abc import Sequence
from typing import TypeVar

import torch

from aligner.training.encode import EncodedRow

T = TypeVar("T")
Line = list[EncodedRow]


def collate(rows: Sequence[EncodedRow], *, pad_id: int, packed: bool = False) -> dict[str, torch.Tensor]:
    """A batch of ids and weights, [lines, longest], padded on the right; no rows give one in which nothing is learnt.

    A token is learnt where its weight is not 0. Packed, a line holds as many rows as fit into the length of the
    longest; it has positions that begin anew with each row, by which the model keeps them apart. There is no attention
    mask: in a causal model what stands on the right of a token cannot reach it.
    """
    lines = _packed(rows) if packed else [[row] for row in rows]
    lines = lines or [[]]
    width = max(2, *map(_length, lines))
    batch = {
        "input_ids": torch.tensor([_padded([i for row in line for i in row.ids], width, pad_id) for line in lines]),
        "weights": torch.tensor([_padded([w for row in line for w in _weights(row)], width, 0.0) for line in lines]),
    }
    if any(len(line) > 1 for line in lines):
        batch["position_ids"] = torch.tensor([_positions(line, width) for line in lines])
    return batch


def _packed(rows: Sequence[EncodedRow]) -> list[Line]:
    """The rows on few lines: the longest first, each on the fullest line that has room for it."""
    room = max((len(row.ids) for row in rows), default=0)
    lines: list[Line] = []
    for row in sorted(rows, key=lambda row: -len(row.ids)):
        open_lines = [line for line in lines if _length(line) + len(row.ids) <= room]
        if open_lines:
            max(open_lines, key=_length).append(row)
        else:
            lines.append([row])
    return lines


def _length(line: Line) -> int:
    return sum(len(row.ids) for row in line)


def _weights(row: EncodedRow) -> list[float]:
    """One weight a token; the first of a row is never learnt, since nothing stands before it."""
    learnt = row.weights or (1.0,) * (len(row.ids) - row.prompt_length)
    return [0.0, *([0.0] * row.prompt_length + list(learnt))[1:]]


def _positions(line: Line, width: int) -> list[int]:
    """Where each token stands in its row; padding belongs to the last row."""
    positions = [place for row in line for place in range(len(row.ids))]
    return positions + [positions[-1] + 1 + i for i in range(width - len(positions))] if positions else []


def _padded(values: list[T], width: int, filler: T) -> list[T]:
    return values + [filler] * (width - len(values))
