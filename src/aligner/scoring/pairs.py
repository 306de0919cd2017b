"""What became of right and wrong answers: fixed, broken, or left as they were."""

from collections.abc import Hashable, Sequence
from typing import NamedTuple

from scipy.stats import binomtest  # pyright: ignore[reportUnknownVariableType]

from aligner.scoring.intervals import Interval, mean_interval


class Pairs(NamedTuple):
    """Counts of answers by whether they were right before and after."""

    fixed: int
    broken: int
    both_right: int
    both_wrong: int

    @property
    def total(self) -> int:
        """All answers."""
        return sum(self)

    @property
    def before(self) -> int:
        """Answers that were right."""
        return self.broken + self.both_right

    @property
    def after(self) -> int:
        """Answers that are right."""
        return self.fixed + self.both_right

    @property
    def swapped(self) -> "Pairs":
        """The same, seen from the other side."""
        return self._replace(fixed=self.broken, broken=self.fixed)


def pairs_of(before: Sequence[bool], after: Sequence[bool]) -> Pairs:
    """Count two verdicts on each answer; raises ValueError where one is missing."""
    verdicts = list(zip(before, after, strict=True))
    return Pairs(*(verdicts.count(kind) for kind in ((False, True), (True, False), (True, True), (False, False))))


def gain(
    before: Sequence[bool], after: Sequence[bool], prompts: Sequence[Hashable] | None = None, *, seed: int = 0
) -> Interval:
    """By how much accuracy grew, as a share, with its interval over prompts; raises ValueError for no answers."""
    return mean_interval(
        [float(now) - float(then) for then, now in zip(before, after, strict=True)], prompts, seed=seed
    )


def mcnemar(pairs: Pairs) -> float:
    """The exact two-sided p-value that fixing and breaking are equally likely (McNemar, 1947); 1 where neither was."""
    changed = pairs.fixed + pairs.broken
    return float(binomtest(pairs.fixed, changed).pvalue) if changed else 1.0


def holm(p_values: Sequence[float]) -> list[float]:
    """The p-values adjusted for looking at all of them, in their order (Holm, 1979)."""
    adjusted, highest = [0.0] * len(p_values), 0.0
    for rank, place in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        highest = max(highest, min((len(p_values) - rank) * p_values[place], 1.0))
        adjusted[place] = highest
    return adjusted
