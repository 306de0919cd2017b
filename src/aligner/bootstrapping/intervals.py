"""Intervals of a study's figures: over prompts, of which every seed and every round is asked the same."""

from collections.abc import Sequence
from itertools import chain
from math import hypot
from statistics import fmean

from aligner.scoring.intervals import Interval, mean_interval
from aligner.scoring.pairs import gain
from aligner.scoring.shares import wilson

NOTHING = Interval(0.0, 0.0, 0.0)
"""a difference of what is the same"""


def written_marks(marks: Sequence[bool]) -> str:
    """What an oracle says of each answer as one text: 1 for a good one."""
    return "".join("01"[mark] for mark in marks)


def share_over_seeds(marks: Sequence[str]) -> Interval:
    """The share of good answers, of the marks of each seed on the same prompts, which are drawn with all seeds."""
    found = mean_interval([float(mark) for mark in chain.from_iterable(marks)], _places(marks))
    return widened(found, len(marks[0]), lowest=0.0)


def gain_over_seeds(before: Sequence[str], after: Sequence[str]) -> Interval:
    """By how much the share of good answers grew from the first marks of each seed to the second ones, paired."""
    then, now = ([mark == "1" for mark in chain.from_iterable(marks)] for marks in (before, after))
    return widened(gain(then, now, _places(before)), len(before[0]), lowest=-1.0)


def widened(found: Interval, prompts: int, *, lowest: float, highest: float = 1.0) -> Interval:
    """An interval by the bootstrap; where all prompts gave the same, which leaves it no width, a wider one.

    What was met on none of the prompts has a share of at most Wilson's upper end, and may have been as low or as high
    as can be: for a share of good answers, that is the interval of Wilson.
    """
    ends = wilson(0, prompts)
    if ends is None or found.low < found.high:
        return found
    _, unseen = ends
    low, high = (found.value + unseen * (end - found.value) for end in (lowest, highest))
    return Interval(found.value, low, high)


def pooled(figures: Sequence[Interval]) -> Interval | None:
    """The mean over seeds, between the means of the ends; none of nothing.

    All seeds are measured on the same prompts, so their errors are not independent: this interval is as wide as if
    they were one, and says nothing of how far seeds differ.
    """
    return Interval(*(fmean(ends) for ends in zip(*figures, strict=True))) if figures else None


def difference(after: Interval, before: Interval) -> Interval:
    """What was gained, with the interval of two shares that are measured apart (Newcombe, 1998, method 10).

    It is for where single answers' marks are missing: with them the same prompts are compared one by one.
    """
    value = after.value - before.value
    below = hypot(after.value - after.low, before.high - before.value)
    above = hypot(after.high - after.value, before.value - before.low)
    return Interval(value, value - below, value + above)


def _places(marks: Sequence[str]) -> list[int]:
    return [place for one in marks for place in range(len(one))]
