"""Whether probabilities mean what they say."""

from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np

from aligner.scoring.intervals import RESAMPLES, Interval, mean_interval

_BINS = 10


def calibration_error(
    probabilities: Sequence[float],
    outcomes: Sequence[bool],
    prompts: Sequence[Hashable] | None = None,
    *,
    seed: int = 0,
) -> Interval:
    """The expected calibration error in ten bins of equal width (Guo et al., 2017), with its interval over prompts.

    The interval stands above the value where the error is small, since drawing prompts adds noise to each bin.
    Raises ValueError for no probabilities, or where there are not as many outcomes or prompts.
    """
    gaps, bins = _binned(probabilities, outcomes)
    groups = range(len(gaps)) if prompts is None else prompts
    places = {prompt: place for place, prompt in enumerate(dict.fromkeys(groups))}
    group = np.array([places[prompt] for _, prompt in zip(gaps, groups, strict=True)])
    cells = np.bincount(group * _BINS + bins, weights=gaps, minlength=len(places) * _BINS)
    by_bin, counts = cells.reshape(len(places), _BINS), np.bincount(group)
    drawn = np.random.default_rng(seed).multinomial(len(places), np.full(len(places), 1 / len(places)), size=RESAMPLES)
    low, high = np.quantile(np.abs(drawn @ by_bin).sum(axis=1) / (drawn @ counts), [0.025, 0.975])
    return Interval(float(np.abs(by_bin.sum(axis=0)).sum() / len(gaps)), float(low), float(high))


def calibration_gap(probabilities: Sequence[float], outcomes: Sequence[bool]) -> float:
    """The same error without its interval; raises ValueError as `calibration_error`."""
    gaps, bins = _binned(probabilities, outcomes)
    return float(np.abs(np.bincount(bins, weights=gaps)).sum() / len(gaps))


def brier(
    probabilities: Sequence[float],
    outcomes: Sequence[bool],
    prompts: Sequence[Hashable] | None = None,
    *,
    seed: int = 0,
) -> Interval:
    """The mean squared distance of probabilities from what came true (Brier, 1950), with its interval over prompts."""
    squares = [(p - float(outcome)) ** 2 for p, outcome in zip(probabilities, outcomes, strict=True)]
    return mean_interval(squares, prompts, seed=seed)


def _binned(probabilities: Sequence[float], outcomes: Sequence[bool]) -> tuple[Any, Any]:
    """How far each probability is from what came true, and its bin."""
    if not probabilities:
        raise ValueError("no probabilities")
    gaps = np.array([p - float(outcome) for p, outcome in zip(probabilities, outcomes, strict=True)])
    return gaps, np.minimum((np.asarray(probabilities) * _BINS).astype(int), _BINS - 1)
