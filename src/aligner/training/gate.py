"""The gate: how probably an answer needs no change, and from which probability it is left alone.

The raw confidence is that of the first pass (`decoding.decoder.Decoded.confidence`). What it means is fitted on answers
that are known to be good or flawed, and the threshold is chosen so that a promise about further answers can be kept.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from random import Random
from typing import Any, Literal, NamedTuple, Self, cast

import numpy as np

from aligner.config import Gate
from aligner.errors import MisuseError
from aligner.scoring.calibration import calibration_gap
from aligner.scoring.platt import Platt, fit_platt

_FOLDS = 5
_FEWEST = 4 * _FOLDS
"""answers of either kind, below which the figures of a fold would say nothing"""
_SURE = 0.95
"""how surely the promise is kept"""


class TooFewAnswersError(MisuseError):
    """There are not enough answers of either kind for any gate."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FittedGate:
    """A calibrated gate, and what is known of it."""

    slope: float
    offset: float
    """the curve from raw confidences to probabilities (`scoring.platt`)"""
    threshold: float | None
    """probability from which an answer passes and is left alone; none where no threshold keeps the promise"""
    wanted: float
    of: Literal["let_through", "needless"]
    """the promise: that this rate is at most so high"""
    at_most: float
    """what the rate of the promise is below, with 95 % confidence, at the threshold or at the strictest one"""
    let_through: float
    """flawed answers that pass"""
    needless: float
    """good answers that do not pass, and may so be changed"""
    ece: float
    """expected calibration error, of folds that the curve was not fitted to"""
    good: int
    flawed: int
    """answers that it was fitted to"""

    @property
    def curve(self) -> Platt:
        """From raw confidences to probabilities, and back."""
        return Platt(self.slope, self.offset)

    @property
    def card(self) -> Mapping[str, Any]:
        """As `aligner.json` holds it."""
        return asdict(self)

    @classmethod
    def read(cls, card: Mapping[str, Any]) -> Self:
        """The gate of a card; raises ValueError for what is none."""
        try:
            gate = cls(**card)
            usable = gate.slope > 0 and np.isfinite([gate.slope, gate.offset, gate.threshold or 0.0]).all()
        except TypeError as error:
            raise ValueError(f"no gate: {error}") from None
        if not usable:
            raise ValueError("no gate: its curve falls, or is no curve")
        return gate

    @property
    def told(self) -> str:
        """What it promises, in one line, or why it promises nothing."""
        what = "of flawed answers pass" if self.of == "let_through" else "of good answers do not pass"
        if self.threshold is not None:
            return f"at most {self.wanted:.2%} {what} (95 % confidence), from probability {self.threshold:.3f} on"
        rows, kind = (self.flawed, "flawed") if self.of == "let_through" else (self.good, "good")
        if rows < (needed := rows_needed(self.wanted)):
            return f"no threshold: that at most {self.wanted:.2%} {what} takes {needed:,} {kind} answers, not {rows:,}"
        return f"no threshold: none lets good answers pass of which at most {self.wanted:.2%} {what}"


def gate_of(
    raw: Sequence[float | None], good: Sequence[bool], how: Gate, say: Callable[[str], object]
) -> Mapping[str, Any] | None:
    """What a card holds of the gate that `fit_gate` finds, and none where there are too few answers; says which."""
    try:
        gate = fit_gate(raw, good, how)
    except TooFewAnswersError as error:
        say(f"no gate: {error}")
        return None
    say(f"gate: {gate.told}")
    return gate.card


def fit_gate(raw: Sequence[float | None], good: Sequence[bool], how: Gate) -> FittedGate:
    """The gate that answers with these raw confidences give, where each is known to be good or flawed.

    A confidence that is none never passes. Raises TooFewAnswersError, and MisuseError for a rate that is none.
    """
    if not 0 < how.wanted < 1:
        raise MisuseError(f"the wanted rate of a gate lies between 0 and 1, and is not {how.wanted}")
    known = [(float(confidence), one) for confidence, one in zip(raw, good, strict=True) if confidence is not None]
    if min(sum(one for _, one in known), sum(not one for _, one in known)) < _FEWEST:
        told = f"{sum(good):,} good and {len(good) - sum(good):,} flawed ones, {len(known):,} of all with a confidence"
        raise TooFewAnswersError(f"it takes {_FEWEST} answers of either kind, and there are {told}")
    curve = fit_platt(*_columns(known))
    # What has no confidence is as unsure as can be.
    found = np.array([-1.0 if confidence is None else curve.probability(confidence) for confidence in raw])
    choice = _choose(found[np.array(good)], found[~np.array(good)], how)
    return FittedGate(
        slope=curve.slope,
        offset=curve.offset,
        threshold=choice.threshold,
        wanted=how.wanted,
        of=how.of,
        at_most=_rounded(choice.at_most),
        let_through=_rounded(choice.let_through),
        needless=_rounded(choice.needless),
        ece=_rounded(_held_out_error(known)),
        good=sum(good),
        flawed=len(good) - sum(good),
    )


def rows_needed(wanted: float) -> int:
    """Answers of the kind that the promise is about, of which none may break it, before it can be made."""
    return int(np.ceil(np.log(1 - _SURE) / np.log1p(-wanted)))


class _Choice(NamedTuple):
    threshold: float | None
    at_most: float
    let_through: float
    needless: float


def _choose(good: Any, flawed: Any, how: Gate) -> _Choice:
    """The loosest threshold, or for needless the strictest, that keeps the promise; it is that of a good answer.

    The bound is exact (Clopper and Pearson, 1934), and holds although the threshold is chosen on the same answers,
    since the rate only grows, or only falls, with it (Bates et al., 2021: risk-controlling prediction sets).
    """
    # The statistics of SciPy take long to import, and a gate that is there needs none of them.
    from scipy.stats import beta

    places = np.unique(good[good >= 0])
    through, needless = len(flawed) - np.searchsorted(np.sort(flawed), places), np.searchsorted(np.sort(good), places)
    broken, rows = (through, len(flawed)) if how.of == "let_through" else (needless, len(good))
    # Where all rows break the promise, the bound is no number.
    bounds = np.nan_to_num(cast("Any", beta).ppf(_SURE, broken + 1, rows - broken), nan=1.0)
    kept = np.flatnonzero(bounds <= how.wanted)
    if not len(kept):
        return _Choice(None, float(bounds.min()), 0.0, 1.0)
    place = int(kept[0] if how.of == "let_through" else kept[-1])
    shares = through[place] / len(flawed), needless[place] / len(good)
    return _Choice(float(places[place]), float(bounds[place]), *map(float, shares))


def _held_out_error(known: Sequence[tuple[float, bool]]) -> float:
    """The calibration error where each fold's probabilities come from a curve of the others."""
    # Each kind apart, so that each fold has some of both.
    shuffled = sorted(Random(0).sample(known, len(known)), key=lambda row: row[1])
    probabilities, outcomes = list[float](), list[bool]()
    for fold in range(_FOLDS):
        curve = fit_platt(*_columns([row for i, row in enumerate(shuffled) if i % _FOLDS != fold]))
        held_out = shuffled[fold::_FOLDS]
        probabilities += [curve.probability(confidence) for confidence, _ in held_out]
        outcomes += [one for _, one in held_out]
    return calibration_gap(probabilities, outcomes)


def _columns(rows: Sequence[tuple[float, bool]]) -> tuple[list[float], list[bool]]:
    return [confidence for confidence, _ in rows], [one for _, one in rows]


def _rounded(value: float) -> float:
    # Not to the last digit, which depends on how a processor adds.
    return round(value, 6)
