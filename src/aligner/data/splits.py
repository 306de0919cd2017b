"""Splits that no question crosses."""

import hashlib
from collections.abc import Sequence
from typing import NamedTuple

from aligner.errors import MisuseError
from aligner.records import Triple, as_messages


class Split(NamedTuple):
    """Rows to learn from, and rows to measure on."""

    training: list[Triple]
    held_out: list[Triple]


def hold_out(triples: Sequence[Triple], count: int, *, seed: int) -> Split:
    """About `count` rows kept apart by a hash of their question, so that no question is in both parts.

    The order of the rows stays. Raises MisuseError when nothing would be left to learn from.
    """
    keys = [_key(row, seed) for row in triples]
    limit = sorted(keys)[count - 1] if 0 < count <= len(keys) else ""
    split = Split([], [])
    for key, row in zip(keys, triples, strict=True):
        (split.held_out if key <= limit else split.training).append(row)
    if not split.training or count > len(keys):
        raise MisuseError(f"{len(triples)} triples are too few to hold out {count} of them; lower --held-out")
    return split


def _key(row: Triple, seed: int) -> str:
    text = "\0".join([str(seed), *(f"{message.role}\0{message.content}" for message in as_messages(row.question))])
    return hashlib.sha256(text.encode()).hexdigest()
