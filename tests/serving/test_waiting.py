"""Laws of the queue of rows."""

from hypothesis import given
from hypothesis import strategies as st
from logged_rows import row

from aligner.serving.logged import Logged
from aligner.serving.waiting import Waiting


def rows_of(lengths: list[int]) -> list[Logged]:
    """Rows whose texts are so long."""
    return [row(i, messages=None, question="q" * n, answer="", correction="") for i, n in enumerate(lengths)]


@given(st.lists(st.integers(0, 9)), st.integers(0, 8), st.integers(0, 30))
def test_the_newest_that_fit_wait_in_order(lengths: list[int], most: int, characters: int) -> None:
    """What waits is the longest end of the rows within both bounds, and all else was dropped."""
    waiting, rows = Waiting(most, characters), rows_of(lengths)
    for one in rows:
        waiting.add(one)
    fits = [
        rest
        for rest in (rows[i:] for i in range(len(rows) + 1))
        if len(rest) <= most and sum(one.size for one in rest) <= characters
    ]
    assert len(waiting) + waiting.dropped == len(rows)
    assert waiting.take(len(rows)) == fits[0]


@given(st.lists(st.integers(0, 9), max_size=20), st.integers(0, 20))
def test_what_is_put_back_was_never_gone(lengths: list[int], count: int) -> None:
    """Taking rows and putting them back changes nothing."""
    waiting, rows = Waiting(20, 1000), rows_of(lengths)
    for one in rows:
        waiting.add(one)
    taken = waiting.take(count)
    assert taken == rows[:count]
    waiting.put_back(taken)
    assert waiting.take(len(rows)) == rows
    assert waiting.dropped == 0


def test_rows_put_back_are_the_first_to_be_dropped() -> None:
    """When the queue has filled up in the meantime, the oldest go, which are those put back."""
    waiting, rows = Waiting(3, 1000), rows_of([1] * 5)
    for one in rows[:3]:
        waiting.add(one)
    taken = waiting.take(2)
    for one in rows[3:]:
        waiting.add(one)
    waiting.put_back(taken)
    assert waiting.dropped == 2
    assert waiting.drop_all() == 3
    assert (len(waiting), waiting.dropped) == (0, 5)
