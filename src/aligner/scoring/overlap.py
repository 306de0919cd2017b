"""Where an answer comes from: how much of it stands, word for word, in other texts."""

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

WORDS = 6
"""in a row, that have to be the same"""
HALF = 0.5
"""the share of an answer that makes it another text's"""
SHORTEST = 30
"""words of an answer that is looked at: shorter ones are alike by chance"""

Gram = tuple[str, ...]


class Match(NamedTuple):
    """The text that an answer shares most with."""

    source: str
    """the name of its set"""
    place: int
    """its number there"""
    share: float
    """of the answer's word sequences"""


class Overlap(NamedTuple):
    """What was found of a set of answers."""

    matches: Mapping[int, Match]
    """by the number of each answer that is looked at: the closest text of the other sets, where one shares anything"""
    upstream: Mapping[int, float]
    """for each of them, the share that stands in its upstream's answer"""
    half: float

    @property
    def counted(self) -> int:
        """Answers that were long enough."""
        return len(self.upstream)

    @property
    def flagged(self) -> list[int]:
        """Answers of which at least half stands in one text that is not the upstream's."""
        return [place for place, match in self.matches.items() if match.share >= self.half]

    @property
    def copied(self) -> list[int]:
        """Answers of which at least half stands in the upstream's."""
        return [place for place, share in self.upstream.items() if share >= self.half]

    @property
    def sources(self) -> Mapping[str, int]:
        """How many are flagged for each set."""
        return Counter(self.matches[place].source for place in self.flagged)


def grams(text: str, words: int = WORDS) -> frozenset[Gram]:
    """The sequences of so many words, which white space parts; a shorter text has none."""
    found = text.split()
    return frozenset(tuple(found[start : start + words]) for start in range(len(found) - words + 1))


def shared(answer: frozenset[Gram], other: frozenset[Gram]) -> float:
    """The share of an answer's sequences that another text has, too."""
    return len(answer & other) / len(answer) if answer else 0.0


def overlap_by_prompt(
    answers: Sequence[str],
    upstream: Sequence[str],
    others: Mapping[str, Sequence[str]],
    *,
    words: int = WORDS,
    half: float = HALF,
    shortest: int = SHORTEST,
) -> Overlap:
    """Compare each answer with those to the same prompt: its upstream's, and those of other sets.

    All sets have as many texts, in the same order; raises ValueError where they do not.
    """
    for name, texts in {"upstream": upstream, **others}.items():
        if len(texts) != len(answers):
            raise ValueError(f"{len(answers)} answers, but {len(texts)} of {name}")

    def closest(place: int, mine: frozenset[Gram]) -> Match | None:
        found = [Match(name, place, shared(mine, grams(texts[place], words))) for name, texts in others.items()]
        best = max(found, key=lambda match: match.share, default=None)
        return best if best is not None and best.share > 0 else None

    return _overlap(answers, upstream, closest, words=words, half=half, shortest=shortest)


def overlap_with_any(
    answers: Sequence[str],
    upstream: Sequence[str],
    others: Mapping[str, Sequence[str]],
    *,
    words: int = WORDS,
    half: float = HALF,
    shortest: int = SHORTEST,
) -> Overlap:
    """The same, but an answer may come from any text of the other sets, such as all training targets."""
    if len(upstream) != len(answers):
        raise ValueError(f"{len(answers)} answers, but {len(upstream)} of upstream")
    holders = defaultdict[Gram, list[tuple[str, int]]](list)
    for name, texts in others.items():
        for number, text in enumerate(texts):
            for gram in grams(text, words):
                holders[gram].append((name, number))

    def closest(_: int, mine: frozenset[Gram]) -> Match | None:
        counts = Counter(holder for gram in mine for holder in holders.get(gram, ()))
        if not counts:
            return None
        ((name, number), count) = min(counts.items(), key=lambda item: (-item[1], item[0]))
        return Match(name, number, count / len(mine))

    return _overlap(answers, upstream, closest, words=words, half=half, shortest=shortest)


def _overlap(
    answers: Sequence[str],
    upstream: Sequence[str],
    closest: Callable[[int, frozenset[Gram]], Match | None],
    *,
    words: int,
    half: float,
    shortest: int,
) -> Overlap:
    """Each answer that is long enough, with what `closest` finds for its number and its word sequences."""
    matches, kept = dict[int, Match](), dict[int, float]()
    for place, answer in enumerate(answers):
        if len(answer.split()) < shortest:
            continue
        mine = grams(answer, words)
        kept[place] = shared(mine, grams(upstream[place], words))
        if (best := closest(place, mine)) is not None:
            matches[place] = best
    return Overlap(matches, kept, half)
