"""Laws of the breaker, with a clock that the tests move."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aligner.serving.breaker import Breaker, BreakerOpenError


class Clock:
    """Seconds that pass when a test says so."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def opened(clock: Clock, failures: int = 3) -> Breaker:
    """A breaker after so many failures in a row."""
    breaker = Breaker(failures, 10.0, clock)
    for _ in range(failures):
        breaker.admit().settle("bad")
    return breaker


def test_it_opens_after_failures_in_a_row_and_says_for_how_long() -> None:
    """And not one failure before."""
    clock = Clock()
    breaker = Breaker(3, 10.0, clock)
    for _ in range(3):
        assert breaker.state == "closed"
        breaker.admit().settle("bad")
    assert breaker.state == "open"
    clock.now = 4.0
    with pytest.raises(BreakerOpenError) as raised:
        breaker.admit()
    assert raised.value.seconds == 6.0


@pytest.mark.parametrize(("end", "state"), [("good", "closed"), ("bad", "open"), ("neutral", "half-open")])
def test_after_its_rest_a_single_attempt_decides(end: str, state: str) -> None:
    """While it is under way there is no other; one that taught nothing leaves the place to the next."""
    clock = Clock()
    breaker = opened(clock)
    clock.now = 10.0
    attempt = breaker.admit()
    with pytest.raises(BreakerOpenError):
        breaker.admit()
    attempt.settle(end)  # pyright: ignore[reportArgumentType]
    assert breaker.state == state
    if state != "open":
        breaker.admit()


@given(ends=st.lists(st.sampled_from(["good", "bad", "neutral"]), max_size=30), failures=st.integers(1, 5))
def test_it_opens_exactly_where_so_many_bad_ends_follow_one_another(ends: list[str], failures: int) -> None:
    """Neutral ends neither count nor interrupt."""
    breaker, row = Breaker(failures, 10.0, Clock()), 0
    for end in ends:
        if row >= failures:
            assert breaker.state == "open"
            break
        breaker.admit().settle(end)  # pyright: ignore[reportArgumentType]
        row = 0 if end == "good" else row + (end == "bad")
    assert (breaker.state == "open") == (row >= failures)


def test_without_a_number_of_failures_it_never_opens() -> None:
    """Zero is never."""
    breaker = Breaker(0, 10.0, Clock())
    for _ in range(100):
        breaker.admit().settle("bad")
    assert breaker.state == "closed"
