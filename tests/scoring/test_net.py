"""Laws of the net rate."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aligner.scoring.intervals import mean_interval
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


TABLE_10 = [
    (354, 55, 290, 9.1559),
    (119, 537, 42, 11.0315),
    (355, 25, 319, 5.1502),
    (285, 357, 58, 32.4286),
    (304, 64, 331, -3.8627),
    (29, 636, 35, -0.8571),
    (311, 26, 362, -7.2961),
    (32, 610, 58, -3.7143),
]
"""Wins, ties, losses and the margin in per cent (Aligner, Table 10)."""


@pytest.mark.parametrize(("wins", "ties", "losses", "margin"), TABLE_10)
def test_the_published_margins_follow_from_their_counts(wins: int, ties: int, losses: int, margin: float) -> None:
    """Equation 5, to the last digit that is known."""
    assert 100 * net_rate(wins, losses, ties).rate == pytest.approx(margin, abs=5e-5)


TABLE_1 = {
    "empathy": (
        (
            "26.0 27.7 42.6 26.3 25.6 43.7 83.1 90.4 90.6 95.3 98.3 98.1 97.7 99.4 99.0 44.9 95.4 96.3 53.9 94.0 95.9 "
            "45.7 89.3 90.0 88.1 95.6 96.0 85.3 96.6 95.4 86.7 95.0 94.6"
        ),
        (66.6, 82.5, 85.6),
    ),
    "BeaverTails helpful": (
        (
            "8.0 18.6 33.9 3.1 9.3 15.1 38.3 58.4 50.0 9.9 21.9 14.2 5.8 34.9 8.5 16.9 26.4 19.1 19.4 37.6 31.8 "
            "24.4 51.0 33.3 25.4 19.9 13.5 18.4 20.1 16.7 17.8 5.2 10.6"
        ),
        (17.0, 27.6, 22.4),
    ),
    "BeaverTails harmless": (
        (
            "28.6 25.8 25.1 7.6 9.3 10.9 15.1 30.3 30.0 12.1 12.0 19.1 45.0 47.0 53.4 15.8 15.9 24.0 14.9 16.6 26.7 "
            "52.4 55.9 63.3 7.2 7.4 4.6 12.3 10.3 10.6 5.5 2.4 1.9"
        ),
        (19.7, 21.2, 24.5),
    ),
    "HarmfulQA helpful": (
        (
            "12.5 16.3 25.1 3.6 8.4 7.6 48.0 69.4 45.9 7.8 8.9 8.0 22.6 38.2 3.4 17.7 12.0 19.5 17.1 21.9 30.9 "
            "26.9 -1.0 7.3 11.3 -5.7 12.6 18.6 15.5 30.7 21.3 -6.6 6.3"
        ),
        (18.8, 16.1, 17.9),
    ),
    "HarmfulQA harmless": (
        (
            "29.2 28.0 20.1 4.4 7.0 7.7 14.4 42.1 28.6 7.6 6.0 11.6 65.3 70.7 75.9 27.1 29.3 31.0 16.1 18.9 18.9 "
            "32.6 33.6 33.3 25.9 22.1 32.3 27.6 28.6 35.0 7.2 4.1 7.6"
        ),
        (23.4, 26.4, 27.4),
    ),
    "TruthfulQA": (
        (
            "-0.5 -1.2 -0.2 0.7 0.0 0.5 0.7 2.0 0.5 5.4 10.3 13.0 10.0 11.8 16.9 4.9 2.7 6.6 7.6 2.7 7.1 "
            "5.1 3.2 6.1 3.9 1.5 4.2 1.2 1.7 1.0 10.8 9.1 10.3"
        ),
        (4.5, 4.0, 6.0),
    ),
}
"""Margins of eleven upstreams with Aligner-2B, 7B and 13B, and their printed averages (Aligner, Table 1)."""


@pytest.mark.parametrize("column", TABLE_1)
def test_the_published_averages_follow_from_their_cells(column: str) -> None:
    """As one figure for many upstreams: the mean of their net rates; cells and averages are both rounded to 0.1."""
    cells, printed = TABLE_1[column]
    margins = [float(cell) for cell in cells.split()]
    assert len(margins) == 33
    means = [100 * mean_interval([margin / 100 for margin in margins[size::3]]).value for size in range(3)]
    assert means == pytest.approx(printed, abs=0.1)
