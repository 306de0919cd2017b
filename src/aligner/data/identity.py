"""Identity rows: answers to copy, made of triples."""

from collections.abc import Sequence
from dataclasses import replace
from random import Random

from aligner.records import Triple


def identity_rows(triples: Sequence[Triple], *, share: float, seed: int) -> list[Triple]:
    """A random share of the triples, each with its answer in place of its correction.

    Aligner, section 3.1: the warm-up set Q-A-A; the FAQ finds 20 % best.
    """
    count = max(1, round(len(triples) * share)) if share > 0 and triples else 0
    chosen = Random(seed).sample(triples, count)
    return [replace(row, correction=row.answer) for row in chosen]
