"""Intervals by the bootstrap: prompts are drawn, and with a prompt all that was measured on it."""

from collections.abc import Hashable, Sequence
from typing import NamedTuple

import numpy as np

RESAMPLES = 2000


class Interval(NamedTuple):
    """A figure and the ends of its 95 % interval."""

    value: float
    low: float
    high: float

    @property
    def is_certain(self) -> bool:
        """Whether zero lies outside."""
        return self.low > 0 or self.high < 0


def mean_interval(
    values: Sequence[float], prompts: Sequence[Hashable] | None = None, *, seed: int = 0, resamples: int = RESAMPLES
) -> Interval:
    """The mean of the values, with the percentile interval of a bootstrap over prompts.

    Values of the same prompt are drawn together; without `prompts` each value is one of its own. Raises ValueError for
    no values, or where there are not as many prompts as values.
    """
    if not values:
        raise ValueError("no values to average")
    groups = range(len(values)) if prompts is None else prompts
    if len(groups) != len(values):
        raise ValueError(f"{len(values)} values, but {len(groups)} prompts")
    places = {prompt: place for place, prompt in enumerate(dict.fromkeys(groups))}
    group = np.array([places[prompt] for prompt in groups])
    sums, counts = np.bincount(group, weights=np.asarray(values, dtype=float)), np.bincount(group)
    drawn = np.random.default_rng(seed).multinomial(len(places), np.full(len(places), 1 / len(places)), size=resamples)
    low, high = np.quantile((drawn @ sums) / (drawn @ counts), [0.025, 0.975])
    return Interval(float(np.mean(values)), float(low), float(high))
