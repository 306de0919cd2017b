"""Identity rows: answers, or corrections, to copy, made of triples."""

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


def copied_corrections(triples: Sequence[Triple], *, share: float, seed: int) -> list[Triple]:
    """Corrections to copy, as answers that need no change: as many as that share of the triples, in a random order.

    Only those that differ from their answer are drawn, since the others are such rows already; each once before any
    comes again.
    """
    flawed = [row for row in triples if not row.is_identity]
    wanted, random, drawn = round(len(triples) * share), Random(seed), list[Triple]()
    while flawed and len(drawn) < wanted:
        drawn += random.sample(flawed, min(len(flawed), wanted - len(drawn)))
    return [replace(row, answer=row.correction, sources=_copied(row.sources)) for row in drawn]


def _copied(sources: tuple[str, str, str]) -> tuple[str, str, str]:
    question, _, correction = sources
    return question, correction, correction
