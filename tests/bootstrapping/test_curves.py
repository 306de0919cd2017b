"""Laws of curves: higher figures stand higher, what was rolled back is hollow, and words say the same."""

import re
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aligner.bootstrapping.curves import Bound, Chart, Curve, Point, drawn, swatch, told
from aligner.bootstrapping.wording import per_cent, short
from aligner.scoring.intervals import Interval


def point(number: int, value: float, *, accepted: bool = True, said: str = "") -> Point:
    """A figure with an interval around it."""
    return Point(number, Interval(value, value - 0.05, value + 0.05), said or f"round {number}", accepted)


def chart(*curves: Curve, bounds: tuple[Bound, ...] = ()) -> Chart:
    """A chart of shares."""
    return Chart("Good answers", curves, per_cent, bounds)


def marks(picture: str, kind: str) -> list[tuple[float, float]]:
    """Where the points of that kind stand, in per cent."""
    pattern = rf'<svg class="at" x="([-\d.]+)%" y="([-\d.]+)%"><path class="{kind} '
    return [(float(x), float(y)) for x, y in re.findall(pattern, picture)]


@given(values=st.lists(st.floats(-3, 3), min_size=1, max_size=12), bound=st.floats(-3, 3))
def test_points_stand_in_order_and_inside(values: list[float], bound: float) -> None:
    """Later rounds stand further right and larger figures no lower, and nothing leaves the picture."""
    picture = drawn(chart(Curve("sft", 0, [point(i, value) for i, value in enumerate(values)]), bounds=(Bound(bound),)))
    places = marks(picture, "seed")
    assert len(places) == len(values)
    assert [x for x, _ in places] == sorted({x for x, _ in places})
    by_value = sorted(zip(values, (y for _, y in places), strict=True))
    assert [y for _, y in by_value] == sorted((y for _, y in places), reverse=True)
    ET.fromstring(picture)  # noqa: S314 - our own picture
    assert all(0 <= float(number) <= 100 for number in re.findall(r'[xy]\d?="([-\d.]+)%"', picture))


def test_what_was_rolled_back_is_hollow_and_beside_the_line() -> None:
    """The line goes from accepted to accepted; a branch leads to the round that was not, and its reason is there."""
    points = [point(0, 0.5), point(1, 0.3, accepted=False, said="rolled back: <b>too short</b>"), point(2, 0.7)]
    picture = drawn(chart(Curve("dpo", 0, points)))
    assert len(marks(picture, "seed")) == 2
    (hollow,) = marks(picture, "hollow")
    assert picture.count('<line class="seed ') == 1
    (branch,) = re.findall(
        r'<line class="branch arm-0" x1="([\d.]+)%" y1="([\d.]+)%" x2="([\d.]+)%" y2="([\d.]+)%"', picture
    )
    assert tuple(map(float, branch)) == (*marks(picture, "seed")[0], *hollow)
    assert "<title>dpo: rolled back: &lt;b&gt;too short&lt;/b&gt;</title>" in picture


def test_a_round_without_a_start_has_no_branch() -> None:
    """Where round 0 is unknown, a round that was rolled back stands alone."""
    picture = drawn(chart(Curve("dpo", 0, [point(1, 0.3, accepted=False)])))
    assert len(marks(picture, "hollow")) == 1
    assert "branch" not in picture


def test_means_have_intervals_and_stand_on_top() -> None:
    """The mean of an arm is drawn after all seeds, each of its points with its interval."""
    points = [point(0, 0.5), point(1, 0.6)]
    picture = drawn(chart(Curve("sft", 0, points, is_mean=True), Curve("sft, seed 0", 0, points)))
    assert picture.count('class="ends arm-0"') == 2
    assert picture.rindex('class="seed arm-0"') < picture.index('class="mean arm-0"')


def test_arms_can_be_told_without_colours() -> None:
    """Six arms have six colours and six forms, and stand beside one another at the same round."""
    picture = drawn(chart(*(Curve(f"arm {i}", i, [point(0, 0.5)]) for i in range(6))))
    assert len({x for x, _ in marks(picture, "seed")}) == 6
    assert len(set(re.findall(r' d="([^"]+)"', picture))) == 6
    assert len({str(swatch(i)) for i in range(6)}) == 6


@pytest.mark.parametrize("means", [True, False])
def test_words_say_what_the_picture_shows(means: bool) -> None:
    """The text in the picture's place names the chart, and of each curve every point."""
    curves = [Curve(name, i, [point(0, 0.5), point(1, 0.6)], is_mean=means) for i, name in enumerate(("sft", "dpo"))]
    words = told(chart(*curves))
    assert words == "Good answers. sft: round 0; round 1. dpo: round 0; round 1"
    assert f'aria-label="{words}"' in drawn(chart(*curves))


@given(low=st.floats(-2, 0.9), high=st.floats(1.1, 3), value=st.floats(-3, 3))
def test_bounds_say_their_figures_and_nothing_is_written_through(low: float, high: float, value: float) -> None:
    """Each bound has its figure at its end, on the side where a guard trips; no tick but zero is as near as a line."""
    bounds = (Bound(low, is_least=True), Bound(high))
    picture = drawn(Chart("Length", [Curve("sft", 0, [point(0, value)])], short, bounds))
    limits = re.findall(r'<text class="limit" x="100%" y="([\d.]+)%" dy="(-?\d+)">([^<]+)</text>', picture)
    assert [(said, int(aside) > 0) for _, aside, said in limits] == [(short(low), True), (short(high), False)]
    ticks = re.findall(r'<text class="tick" x="0" y="([\d.]+)%" dy="-3">([^<]+)</text>', picture)
    assert "0" in [said for _, said in ticks]
    assert all(abs(float(y) - float(at)) > 8.9 for y, said in ticks if said != "0" for at, _, _ in limits)
    starts = re.findall(r'<line class="bound" x1="([\d.]+)%"', picture)
    assert all(float(start) > 14 for start in starts)


@pytest.mark.parametrize(
    ("value", "said"), [(0.0, "0"), (1.0, "1"), (0.5, "0.5"), (3 * 0.1, "0.3"), (100.0, "100"), (-0.05, "\u22120.05")]
)
def test_ticks_have_no_digits_that_say_nothing(value: float, said: str) -> None:
    """A figure at an axis is as short as it can be, and zero has no sign."""
    assert short(value) == said
    assert short(value, "+") == ("+" if value > 0 else "") + said


def test_an_axis_ends_where_figures_do() -> None:
    """A share of all is the top of its axis, where none is zero is the foot, and there is no tick beyond."""
    picture = drawn(chart(Curve("sft", 0, [Point(0, Interval(0.5, 0.4, 0.6), ""), Point(1, Interval(1, 0.8, 1), "")])))
    assert re.findall(r'<text class="tick"[^>]*>([^<]+)<', picture) == ["0.0 %", "50.0 %", "100.0 %"]
    tiny = drawn(Chart("Divergence", [Curve("sft", 0, [Point(1, Interval(1e-12, 1e-12, 1e-12), "")])], short))
    assert re.findall(r'<text class="tick"[^>]*>([^<]+)<', tiny)[::10] == ["0", "1e\u221212"]


def test_no_curve_is_no_error() -> None:
    """A study that has just begun has an empty picture."""
    ET.fromstring(drawn(chart()))  # noqa: S314 - our own picture
    assert marks(drawn(chart(Curve("sft", 0, []))), "seed") == []
