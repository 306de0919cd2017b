"""Rows to copy: identity rows made of triples, and random short texts for a model that has never read anything."""

from collections.abc import Iterator, Sequence
from random import Random

from aligner.records import Triple

_WORDS_FIRST, _WORDS_LAST = 3, 14
"""most words of a random text, at the beginning and at the end"""
_KNOWN_WORDS = 20_000


def identity_rows(triples: Sequence[Triple], *, share: float, seed: int) -> list[Triple]:
    """A random share of the triples, each with its answer in place of its correction.

    Aligner, section 3.1: the warm-up set Q-A-A; the FAQ finds 20 % best.
    """
    count = max(1, round(len(triples) * share)) if share > 0 and triples else 0
    chosen = Random(seed).sample(triples, count)
    return [Triple(row.question, row.answer, row.answer, row.sources) for row in chosen]


def random_copies(triples: Sequence[Triple], *, count: int, seed: int, growing: bool) -> Iterator[Triple]:
    """Random texts to copy: words of the triples and invented ones; when `growing`, from a few words to many.

    Copying short text that means nothing is what a new model must learn first: without it, names and numbers are
    not copied for a long time, however many answers it reads.
    """
    random = Random(seed)
    known = sorted({word for row in triples[:_KNOWN_WORDS] for word in row.answer.split()}) or ["word"]
    for i in range(count):
        longest = _WORDS_FIRST + (_WORDS_LAST - _WORDS_FIRST) * i // count if growing else _WORDS_LAST
        text = _random_text(random, known, random.randint(1, longest))
        yield Triple(_random_text(random, known, random.randint(1, longest)), text, text, ("random",) * 3)


def _random_text(random: Random, known: Sequence[str], length: int) -> str:
    return " ".join(_invented(random) if random.random() < 1 / 3 else random.choice(known) for _ in range(length))


def _invented(random: Random) -> str:
    """A name that nothing else contains, or a number."""
    if random.random() < 1 / 3:
        return str(random.randrange(10 ** random.randint(1, 4)))
    letters = (random.choice("bcdfghjklmnprstvwz") + random.choice("aeiou") for _ in range(random.randint(1, 3)))
    return ("".join(letters) + random.choice("lnrsxmt")).capitalize()
