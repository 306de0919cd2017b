"""Laws of Platt's scaling: it never falls, both sides of it mean the same, and no data make it infinitely steep."""

import math
from collections.abc import Callable
from random import Random

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from aligner.scoring.calibration import calibration_error, calibration_gap
from aligner.scoring.platt import Platt, fit_platt

SHARES = st.floats(0, 1)
CURVES = st.builds(Platt, st.floats(1e-3, 50), st.floats(-30, 30))


@given(curve=CURVES, one=SHARES, other=SHARES)
def test_a_curve_never_falls(curve: Platt, one: float, other: float) -> None:
    """Who is surer is no less probably right, and a probability is one."""
    low, high = sorted((one, other))
    assert 0 <= curve.probability(low) <= curve.probability(high) <= 1


@given(curve=CURVES, raw=SHARES, probability=SHARES)
@example(curve=Platt(1e-3, 0.0), raw=0.5, probability=0.5)
@example(curve=Platt(50, 30), raw=1.0, probability=1.0)
def test_a_threshold_is_the_same_on_both_sides(curve: Platt, raw: float, probability: float) -> None:
    """A confidence reaches the raw threshold exactly where its probability reaches the other."""
    assert (raw >= curve.raw(probability)) == (curve.probability(raw) >= probability)
    assert (raw >= curve.raw(curve.probability(raw))) is True


def test_what_no_confidence_means_no_confidence_reaches() -> None:
    """Beyond the ends of the curve there is a threshold that all reach, and one that none does."""
    curve = Platt(0.5, 0.0)
    assert (curve.raw(0.0), curve.raw(1.0)) == (0.0, math.inf)


def drawn(count: int, chance: Callable[[float], float]) -> tuple[list[float], list[bool]]:
    """Confidences, and outcomes that come true with the chance that each really means."""
    random = Random(0)
    raw = [random.random() for _ in range(count)]
    return raw, [random.random() < chance(one) for one in raw]


def test_the_curve_is_found_again() -> None:
    """From 20,000 outcomes, slope and offset of the curve that they were drawn by; and it is calibrated."""
    true = Platt(1.7, -0.6)
    raw, outcomes = drawn(20_000, true.probability)
    found = fit_platt(raw, outcomes)
    assert (found.slope, found.offset) == (pytest.approx(true.slope, abs=0.08), pytest.approx(true.offset, abs=0.05))
    fresh, came_true = drawn(30_000, true.probability)
    assert calibration_gap([found.probability(one) for one in fresh[20_000:]], came_true[20_000:]) < 0.02


@pytest.mark.parametrize("count", [1, 20, 1000])
def test_what_tells_all_apart_is_not_infinitely_steep(count: int) -> None:
    """Of so many rows of each kind, none is believed more than one more row could refute."""
    curve = fit_platt([0.001] * count + [0.999] * count, [False] * count + [True] * count)
    assert curve.probability(0.999) == pytest.approx((count + 1) / (count + 2), abs=1e-4)
    assert curve.probability(0.001) == pytest.approx(1 / (count + 2), abs=1e-4)


def test_a_confidence_that_lies_gives_a_flat_curve() -> None:
    """Where the less sure are the better ones, the curve says little, and still does not fall."""
    raw, outcomes = drawn(2000, lambda one: 1 - one)
    curve = fit_platt(raw, outcomes)
    assert curve.slope > 0
    assert abs(curve.probability(0.99) - curve.probability(0.01)) < 0.01


def test_one_outcome_alone_is_no_curve() -> None:
    """Nothing is known of the other."""
    with pytest.raises(ValueError, match="one outcome"):
        fit_platt([0.1, 0.9], [True, True])


@given(rows=st.lists(st.tuples(SHARES, st.booleans()), min_size=1, max_size=30))
def test_the_gap_is_the_value_of_the_error(rows: list[tuple[float, bool]]) -> None:
    """The same figure, without its interval."""
    probabilities, outcomes = [one for one, _ in rows], [one for _, one in rows]
    assert calibration_gap(probabilities, outcomes) == pytest.approx(calibration_error(probabilities, outcomes).value)
