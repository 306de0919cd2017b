"""Learning from one's own corrections: which triples are sampled for, and which samples are worth learning.

Good answers are among them: a model that learns only from what it changed well forgets to leave good answers alone.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from random import Random
from typing import NamedTuple

from aligner.records import Triple

Value = Callable[[Sequence[tuple[Triple, str]]], Sequence[bool]]
"""Whether each sampled correction of a flawed answer is worth learning: better than that answer."""

SOURCE = "sampled"
"""the source of corrections that are samples"""


class Valued(NamedTuple):
    """What is kept of the samples, and of how many rows it is."""

    triples: list[Triple]
    flawed: int
    """rows whose answer has a correction"""
    fixed: int
    """of these, those of which a sample is kept"""
    good: int
    """rows whose answer is good"""
    copied: int
    """of these, those of which a copy is kept"""


def drawn(triples: Sequence[Triple], *, share: float, seed: int) -> list[Triple]:
    """A random share of the triples, in their order: those that are sampled for."""
    places = Random(seed).sample(range(len(triples)), min(round(len(triples) * share), len(triples)))
    return [triples[place] for place in sorted(places)]


def valued(triples: Sequence[Triple], samples: Sequence[Sequence[str]], value: Value) -> Valued:
    """The triples with the sampled correction in place of theirs that is worth learning; those without are left out.

    Of a good answer only an exact copy is kept. Of a flawed one, of the samples that the value calls better, it is the
    one that came most often. No row is kept twice, so that those on which every sample is good, the easy ones, do not
    weigh more. Raises ValueError where triples and samples are not equally many.
    """
    candidates = [_candidates(row, texts) for row, texts in zip(triples, samples, strict=True)]
    each = list(zip(triples, candidates, strict=True))
    worth = iter(value([(row, text) for row, texts in each for text in texts if text != row.answer]))
    kept: list[Triple] = []
    for row, texts in each:
        good = [text for text in texts if text == row.answer or next(worth)]
        kept += [replace(row, correction=text, sources=(*row.sources[:2], SOURCE)) for text in good[:1]]
    copied = sum(row.is_identity for row in kept)
    were_good = sum(row.is_identity for row in triples)
    return Valued(kept, len(triples) - were_good, len(kept) - copied, were_good, copied)


def mixed(kept: Sequence[Triple], triples: Sequence[Triple], *, mix: float, seed: int) -> list[Triple]:
    """What was kept, and among it other triples as they are, as many as that share of it; in a random order.

    Own corrections alone lead away from what was given (SCoRe, and for preferences 2508.10530), so given ones are mixed
    in.
    """
    random = Random(seed)
    others = random.sample(triples, min(round(len(kept) * mix), len(triples)))
    return random.sample([*kept, *others], len(kept) + len(others))


def exact_value(pairs: Sequence[tuple[Triple, str]]) -> list[bool]:
    """Worth learning is what is the correction itself."""
    return [text == row.correction for row, text in pairs]


def _candidates(row: Triple, texts: Sequence[str]) -> list[str]:
    """Different samples that may be kept, the most frequent first; of a flawed answer no copy may be."""
    by_frequency = [text for text, _ in Counter(texts).most_common()]
    return [text for text in by_frequency if (text == row.answer) == row.is_identity]
