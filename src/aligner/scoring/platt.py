"""Platt's scaling: what a raw confidence means as a probability, by a curve of two numbers (Platt, 1999).

It is fitted on the log-odds of the confidence, where the confidence of a calibrated model would need no change: slope
1 and offset 0. It never falls, so that a threshold on one side is a threshold on the other.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np

_LEAST = 2.0**-25
"""how near to 0 and to 1 confidences are told apart: those that are computed in float32 have no more digits"""
_FLATTEST = 1e-3
"""a curve that falls would say that the less sure answers are the better ones"""
_DIGITS = 6
"""of slope and offset; the last ones depend on how a processor adds"""


@dataclass(frozen=True, slots=True)
class Platt:
    """A curve from raw confidences to probabilities, both from 0 to 1."""

    slope: float = 1.0
    """above 0"""
    offset: float = 0.0

    def probability(self, raw: float) -> float:
        """What that confidence means."""
        near = min(max(raw, _LEAST), 1 - _LEAST)
        odds = self.slope * (math.log(near) - math.log1p(-near)) + self.offset
        # Of numbers below 1 alone, so that nothing overflows.
        return 1 / (1 + math.exp(-odds)) if odds >= 0 else math.exp(odds) / (1 + math.exp(odds))

    def raw(self, probability: float) -> float:
        """The least confidence that means at least this probability; infinite where none does."""
        if self.probability(0.0) >= probability:
            return 0.0
        if self.probability(1.0) < probability:
            return math.inf
        low, high = 0.0, 1.0
        # To the last digit, so that both thresholds let through the same confidences.
        while low < (middle := (low + high) / 2) < high:
            low, high = (low, middle) if self.probability(middle) >= probability else (middle, high)
        return high


def fit_platt(raw: Sequence[float], outcomes: Sequence[bool]) -> Platt:
    """The curve under which the outcomes are the most likely, with Platt's smoothed targets.

    These keep it from growing infinitely steep where confidences tell all outcomes apart. Raises ValueError unless
    both outcomes are there.
    """
    # SciPy takes long to import, and a curve that is there needs none of it.
    from scipy import optimize
    from scipy.special import expit, logit

    came_true = np.asarray(outcomes, dtype=bool)
    true, false = int(came_true.sum()), int((~came_true).sum())
    if not (true and false):
        raise ValueError("no curve from one outcome alone")
    targets = np.where(came_true, (true + 1) / (true + 2), 1 / (false + 2))
    points: Any = np.stack([logit(np.clip(np.asarray(raw, dtype=float), _LEAST, 1 - _LEAST)), np.ones(len(targets))])

    def loss_and_slope(curve: Any) -> tuple[float, Any]:
        odds = curve @ points
        loss = cast("Any", np.mean(np.logaddexp(0, odds) - targets * odds))
        slope: Any = points @ (expit(odds) - targets) / len(targets)
        return float(loss), slope

    bounds = [(_FLATTEST, None), (None, None)]
    found: Sequence[float] = (
        cast("Any", optimize).minimize(loss_and_slope, [1.0, 0.0], jac=True, bounds=bounds, tol=1e-12).x
    )
    return Platt(*(round(float(value), _DIGITS) for value in found))
