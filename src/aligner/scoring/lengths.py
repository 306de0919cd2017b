"""Win rates that do not reward length."""

from typing import Any, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from aligner.errors import MissingExtraError

Column = NDArray[np.float64]


class LengthControlled(NamedTuple):
    """Win rates in per cent: as counted, and as they would be between answers of equal length."""

    raw: float
    controlled: float
    """by our own fit: not to be compared with a public leaderboard"""
    effect: float
    """the weight of length in the fit: below zero where longer answers win"""


def length_controlled(
    preference: Column, own_length: Column, other_length: Column, difficulty: Column | None = None
) -> LengthControlled:
    """A logistic fit of preferences on the gap in length, taken at no gap (AlpacaEval 2, `length_controlled_noreg`).

    One row a prompt: `preference` for the own answer is from 0 to 1, lengths are in characters, and `difficulty` is
    that of each prompt, where it is known. Raises ValueError for fewer than two rows.
    """
    try:
        from sklearn.linear_model import LogisticRegression  # takes seconds to import
    except ModuleNotFoundError as error:
        raise MissingExtraError("length control needs an extra: pip install 'aligner-llm[evaluate]'") from error
    if len(preference) < 2:
        raise ValueError("a fit needs at least two prompts")
    gap = other_length - own_length
    spread = gap.std(ddof=1)
    columns = [np.tanh(gap / spread) if spread else gap * 0.0, np.ones(len(gap))]
    rows = np.column_stack(columns if difficulty is None else [*columns, difficulty])
    # Each row twice: once as won and once as lost, each with its probability.
    fit = cast("Any", LogisticRegression)(C=100, fit_intercept=False, max_iter=500).fit(
        np.vstack([rows, rows]),
        np.repeat([1, 0], len(gap)),
        sample_weight=np.concatenate([preference, 1 - preference]),
    )
    level = rows.copy()
    level[:, 0] = 0
    weights = np.asarray(fit.coef_, dtype=np.float64)[0]
    return LengthControlled(float(100 * preference.mean()), float(100 * expit(level @ weights).mean()), weights[0])


def of_like_length(own_length: Column, other_length: Column, share: float = 0.1) -> NDArray[np.bool_]:
    """Which pairs differ in length by no more than this share of the other's."""
    return np.abs(own_length - other_length) <= share * other_length
