"""The loss of a model on held-out rows, apart for the tokens that a correction edits and those that it copies."""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch.nn.functional import cross_entropy
from torch.nn.utils.rnn import pad_sequence

from aligner.records import Triple
from aligner.templates import PromptEncoder
from aligner.training.adapter.trainer import logits_where
from aligner.training.encode import EncodedRow, edited, encode_row
from aligner.training.measuring import TokenLoss

_BATCH = 16
"""rows that are read at once"""


class MarkedRow(NamedTuple):
    """A row as ids, and for each of its learnt ids whether it is an edit."""

    row: EncodedRow
    is_edit: tuple[bool, ...]


def row_losses(
    model: Any, encoder: PromptEncoder, eos_id: int, triples: Sequence[Triple], *, max_length: int
) -> list[TokenLoss]:
    """The losses of the triples' corrections in their order; rows of more than `max_length` tokens have none.

    With everything but the triples bound it is `measuring.Losses`.
    """
    rows = [_marked(encoder, eos_id, triple) for triple in triples]
    fits = [place for place, marked in enumerate(rows) if len(marked.row.ids) <= max_length]
    found = dict(zip(fits, token_losses(model, [rows[place] for place in fits]), strict=True))
    return [found.get(place, TokenLoss()) for place in range(len(rows))]


def token_losses(model: Any, rows: Sequence[MarkedRow], *, batch: int = _BATCH) -> list[TokenLoss]:
    """The same of rows that are ids already; only positions before a learnt token go through the model's head."""
    # Rows of like length have their learnt tokens at like places, so little is padded and little scored in vain.
    order = sorted(range(len(rows)), key=lambda place: (len(rows[place].row.ids), rows[place].row.prompt_length))
    found = [TokenLoss()] * len(rows)
    was_training = model.training
    model.eval()
    with torch.no_grad():
        for start in range(0, len(order), batch):
            places = order[start : start + batch]
            for place, loss in zip(places, _batch_losses(model, [rows[place] for place in places]), strict=True):
                found[place] = loss
    model.train(was_training)
    return found


def _marked(encoder: PromptEncoder, eos_id: int, triple: Triple) -> MarkedRow:
    row = encode_row(encoder, eos_id, triple)
    return MarkedRow(row, edited(encoder.text_ids(triple.answer), row.ids[row.prompt_length :]))


def _batch_losses(model: Any, rows: Sequence[MarkedRow]) -> Iterator[TokenLoss]:
    """One forward pass; what stands on the right of a token cannot reach it, so padding needs no mask."""
    ids = _padded([row.ids for row, _ in rows]).to(model.device)
    learnt = _padded([[False] * row.prompt_length + [True] * len(is_edit) for row, is_edit in rows]).bool()
    edits = [torch.tensor(is_edit) for _, is_edit in rows]
    targets = learnt[:, 1:].to(model.device)
    logits, _ = logits_where(model, {"input_ids": ids}, targets)
    # Added up in float64, so that a mean over many rows does not depend on how they were batched.
    found = cross_entropy(logits.float(), ids[:, 1:][targets], reduction="none").double().cpu()
    for losses, is_edit in zip(torch.split(found, [len(one) for one in edits]), edits, strict=True):
        edit, copy = losses[is_edit], losses[~is_edit]
        yield TokenLoss(float(edit.sum()), len(edit), float(copy.sum()), len(copy))


def _padded(lines: Sequence[Sequence[int]]) -> torch.Tensor:
    return pad_sequence([torch.tensor(line) for line in lines], batch_first=True)
