"""How likely a model finds texts, and how far its own have moved from where it began."""

from collections.abc import Sequence
from math import nan
from typing import Any, NamedTuple

import torch
from torch.nn.functional import cross_entropy
from torch.nn.utils.rnn import pad_sequence

from aligner.scoring.intervals import Interval, mean_interval
from aligner.training.adapter.trainer import logits_where
from aligner.training.encode import EncodedRow

_BATCH = 32
"""rows that are read at once"""


class Likelihood(NamedTuple):
    """The log-likelihood of the learnt tokens of one row."""

    sum: float
    """in nats"""
    tokens: int


def log_likelihoods(model: Any, rows: Sequence[EncodedRow], *, batch: int = _BATCH) -> list[Likelihood]:
    """The log-likelihoods of the rows in their order; only positions before a learnt token go through the head.

    The model is read as it answers, without dropout, and left as it was.
    """
    # Rows of like length are read together, so that little is padded.
    order = sorted(range(len(rows)), key=lambda place: (len(rows[place].ids), rows[place].prompt_length))
    found = [Likelihood(0.0, 0)] * len(rows)
    was_training = model.training
    model.eval()
    with torch.no_grad():
        for start in range(0, len(order), batch):
            places = order[start : start + batch]
            for place, one in zip(places, _read(model, [rows[place] for place in places]), strict=True):
                found[place] = one
    model.train(was_training)
    return found


def token_mean(likelihoods: Sequence[Likelihood]) -> float:
    """The mean log-likelihood of a token; not a number where there is none."""
    tokens = sum(one.tokens for one in likelihoods)
    return sum(one.sum for one in likelihoods) / tokens if tokens else nan


def divergence(model: Any, first: Any, rows: Sequence[EncodedRow], *, batch: int = _BATCH) -> Interval:
    """KL(model || first) in nats a token, by Monte Carlo, with its interval over rows.

    The rows are answers that the model itself drew, with the end of the text only where it wrote one. Both models are
    read at temperature 1: texts drawn at another one, or from a part of the words, still give the divergence at
    temperature 1, on the texts that were drawn. Not a number for no rows.
    """
    ours, theirs = (log_likelihoods(one, rows, batch=batch) for one in (model, first))
    return mean_gap(ours, theirs)


def mean_gap(ours: Sequence[Likelihood], theirs: Sequence[Likelihood]) -> Interval:
    """By how much a token of the same rows is likelier to one model than to another, in nats, with its interval."""
    pairs = list(zip(ours, theirs, strict=True))
    # A row's mean stands once for each of its tokens: so long rows weigh more, and rows are drawn whole.
    values = [(one.sum - other.sum) / one.tokens for one, other in pairs for _ in range(one.tokens)]
    places = [place for place, (one, _) in enumerate(pairs) for _ in range(one.tokens)]
    return mean_interval(values, places) if values else Interval(nan, nan, nan)


def _read(model: Any, rows: Sequence[EncodedRow]) -> list[Likelihood]:
    """One forward pass; what stands on the right of a token cannot reach it, so padding needs no mask."""
    ids = _padded([row.ids for row in rows]).to(model.device)
    learnt = [len(row.ids) - row.prompt_length for row in rows]
    marks = [[False] * row.prompt_length + [True] * count for row, count in zip(rows, learnt, strict=True)]
    targets = _padded(marks).bool()[:, 1:].to(model.device)
    logits, _ = logits_where(model, {"input_ids": ids}, targets)
    exact = logits.to(torch.promote_types(logits.dtype, torch.float32))
    lost = cross_entropy(exact, ids[:, 1:][targets], reduction="none").double().cpu()
    return [Likelihood(-float(one.sum()), count) for one, count in zip(torch.split(lost, learnt), learnt, strict=True)]


def _padded(lines: Sequence[Sequence[int]]) -> torch.Tensor:
    return pad_sequence([torch.tensor(line) for line in lines], batch_first=True)
