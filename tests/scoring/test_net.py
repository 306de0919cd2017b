"""Laws of the net rate."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aligner.scoring.net import net_rate

COUNTS = st.integers(0, 500)


@given(COUNTS, COUNTS, COUNTS)
def test_wins_and_losses_are_two_sides(wins: int, losses: int, ties: int) -> None:
    """The rate lies in its interval, and seen from the other side it has the opposite sign."""
    if not wins + losses + ties:
        return
    rate, low, high = net_rate(wins, losses, ties)
    assert rate == (wins - losses) / (wins + losses + ties) == -net_rate(losses, wins, ties).rate
    assert -1 <= low <= rate <= high <= 1


@given(st.integers(1, 500))
def test_what_always_happens_has_no_uncertainty(count: int) -> None:
    """All won, all lost and all tied are certain."""
    assert net_rate(count, 0, 0) == (1, 1, 1)
    assert net_rate(0, count, 0) == (-1, -1, -1)
    assert net_rate(0, 0, count) == (0, 0, 0)


def test_the_interval_is_that_of_the_normal_approximation() -> None:
    """With many answers, the bootstrap interval is 1.96 standard errors on either side."""
    wins, losses, ties = 600, 250, 150
    rate, low, high = net_rate(wins, losses, ties)
    error = (((wins + losses) / 1000 - rate**2) / 1000) ** 0.5
    assert low == pytest.approx(rate - 1.96 * error, abs=0.005)
    assert high == pytest.approx(rate + 1.96 * error, abs=0.005)


def test_the_same_seed_gives_the_same_interval() -> None:
    """The seed is all that the interval depends on besides the counts."""
    assert net_rate(7, 3, 5, seed=1) == net_rate(7, 3, 5, seed=1)
    assert any(net_rate(70, 30, 53, seed=1) != net_rate(70, 30, 53, seed=seed) for seed in range(2, 6))


def test_no_answers_have_no_rate() -> None:
    """Nothing counted is an error, not a zero."""
    with pytest.raises(ValueError, match="no answers to count"):
        net_rate(0, 0, 0)
