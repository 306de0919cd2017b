"""Laws of a study's intervals: prompts are drawn with all seeds, and what is alike on all of them is not certain."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aligner.bootstrapping.intervals import difference, gain_over_seeds, share_over_seeds, widened, written_marks
from aligner.scoring.intervals import Interval
from aligner.scoring.shares import wilson

MARKS = st.lists(st.booleans(), min_size=1, max_size=30)


def test_marks_that_are_all_alike_are_not_certain() -> None:
    """A share of all prompts, and a gain on none or all of them, are as uncertain as Wilson's interval says."""
    twenty, ends = "1" * 20, wilson(20, 20)
    assert ends is not None
    assert share_over_seeds([twenty, twenty]) == (1.0, *ends)
    assert gain_over_seeds([twenty], [twenty]) == pytest.approx((0.0, ends[0] - 1, 1 - ends[0]))
    assert gain_over_seeds(["0" * 20], [twenty]) == pytest.approx((1.0, 2 * ends[0] - 1, 1.0))


@given(MARKS, st.integers(1, 4))
def test_seeds_that_say_the_same_make_nothing_surer(marks: list[bool], seeds: int) -> None:
    """As many copies of a seed as there are, the interval is that of one: prompts are what is drawn."""
    one, none = written_marks(marks), "0" * len(marks)
    assert share_over_seeds([one] * seeds) == pytest.approx(share_over_seeds([one]))
    assert gain_over_seeds([none] * seeds, [one] * seeds) == pytest.approx(gain_over_seeds([none], [one]))


@given(MARKS)
def test_a_loss_is_a_gain_seen_from_the_other_side(marks: list[bool]) -> None:
    """Before and after changed round, a gain turns round, and figures lie within their ends."""
    one, other = written_marks(marks), written_marks([not mark for mark in marks])
    there, back = gain_over_seeds([one], [other]), gain_over_seeds([other], [one])
    assert back.value == -there.value
    assert -1 <= there.low <= there.value <= there.high <= 1


def test_an_interval_with_a_width_is_left_as_it_is() -> None:
    """What varies between prompts has the bootstrap's own interval."""
    found = Interval(0.5, 0.4, 0.6)
    assert widened(found, 20, lowest=0.0) == found


def test_shares_that_are_measured_apart_have_newcombe_s_interval() -> None:
    """The example of Newcombe (1998), 56 of 70 against 48 of 80, by his method 10."""
    ends = [Interval(count / total, *(wilson(count, total) or ())) for count, total in ((56, 70), (48, 80))]
    assert difference(*ends) == pytest.approx((0.2, 0.0524, 0.3339), abs=5e-5)
