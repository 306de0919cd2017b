"""A table of rows: the mean over seeds of each rate, and its difference from the row that it is held against."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import sqrt
from statistics import fmean

import numpy as np

from aligner.ablating.found import Found, rate
from aligner.scoring.intervals import Interval

RATES: Mapping[str, Callable[[Found], Sequence[bool]]] = {
    "fixed": lambda found: found.fixed,
    "broken": lambda found: found.broken,
    "copied": lambda found: found.copied,
}
"""what is counted, of which answers"""


@dataclass(frozen=True, slots=True)
class Line:
    """One row of the table."""

    name: str
    rates: Mapping[str, Interval]
    gains: Mapping[str, Interval]
    """over the row that it is held against; empty for that row itself"""
    seeds: int
    steps: float
    seconds: float
    """of the longest run"""
    parameters: int


def lines_of(runs: Mapping[str, Sequence[Found]], against: str) -> list[Line]:
    """The lines of a table, from the runs of each row in the order of seeds."""
    return [
        Line(
            name,
            {what: over_seeds([rate(hits(found)) for found in row]) for what, hits in RATES.items()},
            {} if name == against else {what: _gain(row, runs[against], hits) for what, hits in RATES.items()},
            seeds=len(row),
            steps=fmean(found.steps for found in row),
            seconds=max(found.seconds for found in row),
            parameters=row[0].parameters,
        )
        for name, row in runs.items()
    ]


def over_seeds(values: Sequence[float]) -> Interval:
    """The mean, with the 95 % interval of Student's t over seeds; without width for a single seed.

    With three seeds it is 2.5 standard deviations on either side: wide, and rightly so.
    """
    mean = fmean(values)
    if len(values) < 2:
        return Interval(mean, mean, mean)
    from scipy.stats import t

    half = float(t.ppf(0.975, len(values) - 1)) * float(np.std(values, ddof=1)) / sqrt(len(values))
    return Interval(mean, mean - half, mean + half)


def _gain(row: Sequence[Found], against: Sequence[Found], hits: Callable[[Found], Sequence[bool]]) -> Interval:
    """The difference seed by seed: both rows saw the same data, in the same order, from the same weights."""
    others = {found.seed: rate(hits(found)) for found in against}
    return over_seeds([rate(hits(found)) - others[found.seed] for found in row if found.seed in others])
