"""How many draft tokens to verify in the next pass.

A token is worth its price while it is likely enough to be accepted: the policy takes the draft tokens above a
threshold of survival, and of all thresholds the one that gives the most tokens a second. No threshold at all is among
them, which turns drafting off for as long as it does not pay.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

_SIZES = (*range(4, 64, 4), *range(64, 256, 16), *range(256, 4097, 128))
_AS_GOOD = 0.95
"""the most draft tokens whose rate is that near the best: the optimum is flat, and fewer passes depend less on costs"""
_SHORTEST = 8
"""a shorter draft at a doubtful place gains nothing, unless the answer ends there"""
_THRESHOLDS = tuple(0.95 * 0.82**i for i in range(24))


class Prospect(NamedTuple):
    """What is known of the draft of one row."""

    longest: int
    """draft tokens that there are, and that have room"""
    trust: float = 1.0
    """probability that the first one is accepted"""
    hazard: float = 0.0
    """probability that a token is the last one before an edit"""
    first: bool = False
    """whether this is the first pass of the row, which reads its prompt"""


class BlockPolicy(Protocol):
    """Decides how much of each row's draft goes into the next pass."""

    def __call__(self, prospects: Sequence[Prospect], fed: int, /) -> list[int]:
        """Draft tokens for each row; `fed` is the number of tokens that the pass reads anyway."""
        ...


@dataclass(frozen=True, slots=True)
class MeasuredBlocks:
    """The most tokens a second, by the measured cost of a pass; a first pass takes the whole draft.

    That is what makes an unchanged answer take one pass, and is nearly free beside the reading of the prompt.
    """

    costs: Callable[[float], float]

    def __call__(self, prospects: Sequence[Prospect], fed: int) -> list[int]:
        """Draft tokens for each row."""
        best = [p.longest if p.first else 0 for p in prospects]
        open_rows = {i: self._worth_trying(p, fed, len(prospects)) for i, p in enumerate(prospects) if not p.first}
        fed += sum(best)
        choices = [(len(prospects) / self.costs(fed), best)]
        for threshold in _THRESHOLDS if any(open_rows.values()) else ():
            sizes, gain, tokens = list(best), float(len(prospects)), fed
            for i, longest in open_rows.items():
                sizes[i] = size = min(longest, _surviving(prospects[i], threshold))
                gain += _expected(prospects[i], size)
                tokens += size
            choices.append((gain / self.costs(tokens), sizes))
        enough = max(choices)[0] * _AS_GOOD
        return next(sizes for rate, sizes in reversed(choices) if rate >= enough)

    def _worth_trying(self, prospect: Prospect, fed: int, rows: int) -> int:
        """How much of a draft is worth its price at a place that may be wrong.

        A right guess saves one pass, since the next token would have shown the place anyway; a wrong one costs what
        it adds to this pass. So its price may be trust / (1 - trust) times that of a pass at the most.
        """
        if not prospect.longest or prospect.trust >= 1:
            return prospect.longest
        now = self.costs(fed)
        budget = now + now / rows * prospect.trust / (1 - prospect.trust)
        affordable = (size for size in _SIZES if self.costs(fed + size) > budget)
        size = next(affordable, prospect.longest + 1) - 1
        return min(size, prospect.longest) if size >= min(_SHORTEST, prospect.longest) else 0


def whole_drafts(prospects: Sequence[Prospect], _: int) -> list[int]:
    """All that there is of every draft: the fewest passes, whatever they cost."""
    return [p.longest for p in prospects]


def no_drafts(prospects: Sequence[Prospect], _: int) -> list[int]:
    """Plain decoding, a token at a time."""
    return [0] * len(prospects)


def _surviving(prospect: Prospect, threshold: float) -> int:
    """How many tokens survive with at least that probability: trust · (1 - hazard)^(i-1) for the i-th."""
    if prospect.trust < threshold:
        return 0
    if prospect.hazard <= 0:
        return prospect.longest
    return min(prospect.longest, 1 + int(math.log(threshold / prospect.trust) / math.log1p(-prospect.hazard)))


def _expected(prospect: Prospect, size: int) -> float:
    """How many of the first tokens are accepted on average."""
    if prospect.hazard <= 0:
        return prospect.trust * size
    return prospect.trust * -math.expm1(size * math.log1p(-prospect.hazard)) / prospect.hazard
