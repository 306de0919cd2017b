"""Laws of the numbers and the small charts of the report."""

import re

from hypothesis import given
from hypothesis import strategies as st

from aligner.evaluating.charts import against, axis_of, columns, split, whisker
from aligner.evaluating.formats import p_value, points, seconds, share
from aligner.scoring.intervals import Interval

THOUSANDTHS = st.integers(-1000, 1000).map(lambda number: number / 1000)
ENDS = st.lists(THOUSANDTHS, min_size=3, max_size=3).map(sorted)
INTERVALS = ENDS.map(lambda ends: Interval(ends[1], ends[0], ends[2]))
COUNTS = st.lists(st.integers(0, 10**6), min_size=1, max_size=10)


@given(st.lists(INTERVALS, max_size=12))
def test_an_axis_has_room_for_all_and_for_zero(figures: list[Interval]) -> None:
    """Every end lies on it, in its order, between the first tick and the last; one of the ticks is zero."""
    axis = axis_of(figures)
    assert list(axis.ticks) == sorted(axis.ticks)
    assert min(map(abs, axis.ticks)) < 1e-9
    assert 2 <= len(axis.ticks) <= 8
    for figure in figures:
        assert axis.low - 1e-9 <= figure.low <= figure.high <= axis.high + 1e-9
        assert 0 <= axis.place(figure.low) <= axis.place(figure.value) <= axis.place(figure.high) <= 100


@given(COUNTS, INTERVALS)
def test_shapes_stay_within_their_place(counts: list[int], figure: Interval) -> None:
    """No bar begins before the start, or ends behind the end; only counts of something have one."""
    bars = split([("win", number) for number in counts])
    assert str(bars).count("<rect") == sum(number > 0 for number in counts)
    for chart in (
        bars,
        columns(counts),
        against(counts[0], counts[-1], max(counts)),
        whisker(figure, axis_of([figure]), "good"),
    ):
        for shape in re.findall("<(?:rect|line|circle)[^>]*>", str(chart)):
            numbers = {name: float(number) for name, number in re.findall(r'(\w+)="(-?[\d.e-]+)%?"', shape)}
            assert all(-0.01 <= number <= 100.01 for number in numbers.values())
            assert numbers.get("x", 0) + numbers.get("width", 0) <= 100.1


@given(st.integers(1, 10**6), st.data())
def test_nothing_and_all_are_told_apart_from_nearly_so(total: int, data: st.DataObject) -> None:
    """A share is 0 or 100 per cent only where it is exactly that."""
    counted = data.draw(st.integers(0, total))
    shown = share(counted / total)
    assert (shown == "0\u00a0%") == (counted == 0)
    assert (shown == "100\u00a0%") == (counted == total)


def test_numbers_are_written_as_people_write_them() -> None:
    """A true minus, no signed zero, p-values not smaller than can be meant, and times in their units."""
    assert [points(value) for value in (0.037, -0.02, 0.0, -0.0001)] == ["+3.7", "\u22122.0", "0.0", "0.0"]
    assert [p_value(p) for p in (1.0, 0.04, 1e-9)] == ["1", "0.040", "< 0.001"]
    assert [seconds(value) for value in (1.5, 0.05, 0.0004)] == ["1.50\u00a0s", "50\u00a0ms", "0.4\u00a0ms"]
