"""Laws of intervals by the bootstrap."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aligner.scoring.intervals import mean_interval

VALUES = st.lists(st.floats(-1, 1), min_size=1, max_size=40)


@given(VALUES)
def test_a_mean_lies_among_its_values_and_turns_with_them(values: list[float]) -> None:
    """The interval lies between the least and the greatest value, and that of the negatives is its mirror."""
    value, low, high = mean_interval(values)
    assert min(values) - 1e-9 <= low <= high <= max(values) + 1e-9
    mirrored = mean_interval([-each for each in values])
    assert mirrored == pytest.approx((-value, -high, -low), abs=1e-9)


@given(VALUES, st.integers(2, 5))
def test_asking_the_same_again_adds_no_certainty(values: list[float], times: int) -> None:
    """Values that are repeated under their own prompts have the interval of the values themselves."""
    once = mean_interval(values)
    again = mean_interval(values * times, [*range(len(values))] * times)
    assert again == pytest.approx(once, abs=1e-9)


def test_prompts_are_drawn_whole() -> None:
    """Answers to one prompt that are all alike count as one: as wide as with a tenth of the values, not narrower."""
    alike = [float(number % 2) for number in range(40) for _ in range(10)]
    apart, together = mean_interval(alike), mean_interval(alike, [number for number in range(40) for _ in range(10)])
    assert together.high - together.low > 2.5 * (apart.high - apart.low)


def test_what_cannot_be_averaged_is_an_error() -> None:
    """No values, and prompts that do not belong to them."""
    with pytest.raises(ValueError, match="no values to average"):
        mean_interval([])
    with pytest.raises(ValueError, match="2 values, but 1 prompts"):
        mean_interval([1.0, 2.0], ["a"])
