"""The net rate of a correction, with its interval."""

from typing import NamedTuple

import numpy as np

_RESAMPLES = 10_000


class NetRate(NamedTuple):
    """A net rate and the ends of its 95 % interval, as shares."""

    rate: float
    low: float
    high: float


def net_rate(wins: int, losses: int, ties: int, *, seed: int = 0) -> NetRate:
    """(wins - losses) / all, counted for the corrected answer, with a bootstrap interval over the answers.

    Aligner, eq. 5. Raises ValueError when nothing was counted.
    """
    total = wins + losses + ties
    if total < 1:
        raise ValueError("no answers to count")
    drawn = np.random.default_rng(seed).multinomial(total, np.array([wins, losses, ties]) / total, size=_RESAMPLES)
    low, high = np.quantile((drawn[:, 0] - drawn[:, 1]) / total, [0.025, 0.975])
    return NetRate((wins - losses) / total, float(low), float(high))
