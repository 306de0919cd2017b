"""Rounds as curves in SVG beside tables that say the same; colours are those of the style sheet."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import pairwise
from math import ceil
from typing import NamedTuple

from markupsafe import Markup

from aligner.evaluating.charts import Axis, axis_of
from aligner.evaluating.shown import visible
from aligner.scoring.intervals import Interval

_LEFT, _RIGHT, _TOP, _BOTTOM = 16.0, 88.0, 8.0, 86.0
"""per cent of the picture between which figures stand"""
_LINE = 9.0
"""per cent of the height of a small picture that a line of text takes"""
_APART = 1.1
"""per cent of the width between two arms at the same round, so that neither hides the other"""
_NAUGHT = 1e-9
"""share of an axis by which a computed tick may be off"""
_LABELS = 10
"""rounds up to which each is named below"""
_COLOURS = 6
_SHAPES = (
    "M-5 0A5 5 0 1 0 5 0A5 5 0 1 0-5 0Z",
    "M-4.5-4.5H4.5V4.5H-4.5Z",
    "M0-6L6 0L0 6L-6 0Z",
    "M0-5.5L5.5 4.5H-5.5Z",
    "M0 5.5L5.5-4.5H-5.5Z",
    "M-2-5.5H2V-2H5.5V2H2V5.5H-2V2H-5.5V-2H-2Z",
)
"""a form for each arm, so that it can be told without its colour"""


class Point(NamedTuple):
    """A figure after a round, and what is said where the pointer rests on it."""

    number: int
    figure: Interval
    said: str
    accepted: bool = True
    """a round that was rolled back is hollow, and the line goes on without it"""


class Curve(NamedTuple):
    """The figures of one arm: of one seed, or their mean."""

    name: str
    arm: int
    points: Sequence[Point]
    is_mean: bool = False


class Bound(NamedTuple):
    """Beyond what figure a guard trips."""

    figure: float
    is_least: bool = False
    """whether it trips below, rather than above"""


class Chart(NamedTuple):
    """Curves over rounds, with the bounds of a guard."""

    title: str
    curves: Sequence[Curve]
    written: Callable[[float], str]
    """a figure as text, for ticks and bounds"""
    bounds: Sequence[Bound] = ()


def drawn(chart: Chart) -> Markup:
    """The picture; it has a text in its place, and each point says what it is."""
    axis = _axis([*_spanned(chart), *(Interval(*[bound.figure] * 3) for bound in chart.bounds)])
    last = max([1, *(point.number for curve in chart.curves for point in curve.points)])
    arms = 1 + max((curve.arm for curve in chart.curves), default=0)
    ordered = sorted(chart.curves, key=lambda curve: curve.is_mean)
    shapes = [
        *_grid(chart, axis),
        *_numbers(last),
        *(shape for curve in ordered for shape in _curve(curve, axis, last, (curve.arm - (arms - 1) / 2) * _APART)),
    ]
    return Markup('<svg class="curve" role="img" aria-label="{}">{}</svg>').format(told(chart), Markup("").join(shapes))


def told(chart: Chart) -> str:
    """The same in words, for who hears the picture."""
    means = [curve for curve in chart.curves if curve.is_mean]
    lines = (f"{curve.name}: {'; '.join(point.said for point in curve.points)}" for curve in means or chart.curves)
    return visible(". ".join([chart.title, *lines]))


def swatch(arm: int) -> Markup:
    """The mark of an arm, for the legend."""
    return Markup('<svg class="swatch" aria-hidden="true">{}</svg>').format(_mark(50, 50, "mean", arm, ""))


def _axis(figures: Sequence[Interval]) -> Axis:
    """An axis with room for all figures and zero, and no tick further out than need be: no share is above 100 %."""
    ticks = axis_of(figures).ticks
    naught = _NAUGHT * (ticks[-1] - ticks[0])
    low = min([0.0, *(figure.low for figure in figures)]) + naught
    high = max([0.0, *(figure.high for figure in figures)]) - naught
    first = max(place for place, tick in enumerate(ticks) if tick <= low)
    last = min(place for place, tick in enumerate(ticks) if tick >= high and place > first)
    return Axis(ticks[first], ticks[last], ticks[first : last + 1])


def _spanned(chart: Chart) -> Iterator[Interval]:
    return (point.figure for curve in chart.curves for point in curve.points)


def _grid(chart: Chart, axis: Axis) -> Iterator[Markup]:
    bounds = [_y(bound.figure, axis) for bound in chart.bounds]
    for tick in axis.ticks:
        y = _y(tick, axis)
        if tick and any(abs(y - bound) < _LINE for bound in bounds):
            continue  # a bound says its own figure there
        yield _line("grid", (0, y), (100, y))
        yield Markup('<text class="tick" x="0" y="{}%" dy="-3">{}</text>').format(_round(y), chart.written(tick))
    for bound, y in zip(chart.bounds, bounds, strict=True):
        yield _line("bound", (_LEFT - _APART, y), (100, y))
        yield Markup('<text class="limit" x="100%" y="{}%" dy="{}">{}</text>').format(
            _round(y), 13 if bound.is_least else -4, chart.written(bound.figure)
        )


def _numbers(last: int) -> Iterator[Markup]:
    for number in range(0, last + 1, ceil(last / _LABELS)):
        yield Markup('<text class="number" x="{}%" y="98%">{}</text>').format(_round(_x(number, last)), number)


def _curve(curve: Curve, axis: Axis, last: int, aside: float) -> Iterator[Markup]:
    """Its line through what was accepted, a branch to each round that was not, and its points."""
    kind = "mean" if curve.is_mean else "seed"

    def place(point: Point, value: float) -> tuple[float, float]:
        return _x(point.number, last) + aside, _y(value, axis)

    for joined, start, end in _joints(curve.points):
        tone = f"{kind if joined else 'branch'} arm-{curve.arm % _COLOURS}"
        yield _line(tone, place(start, start.figure.value), place(end, end.figure.value))
    for point in curve.points:
        if curve.is_mean:
            tone = f"ends arm-{curve.arm % _COLOURS}"
            yield _line(tone, place(point, point.figure.low), place(point, point.figure.high))
        tone = kind if point.accepted else "hollow"
        said = f"{curve.name}: {point.said}"
        yield _mark(*place(point, point.figure.value), tone, curve.arm, said)


def _joints(points: Sequence[Point]) -> Iterator[tuple[bool, Point, Point]]:
    """What is joined to what: accepted to accepted, and each that was rolled back to where it began."""
    kept = [point for point in points if point.accepted]
    yield from ((True, start, end) for start, end in pairwise(kept))
    for point in points:
        before = [one for one in kept if one.number < point.number]
        if not point.accepted and before:
            yield False, before[-1], point


def _mark(x: float, y: float, kind: str, arm: int, said: str) -> Markup:
    title = Markup("<title>{}</title>").format(visible(said)) if said else Markup("")
    return Markup('<svg class="at" x="{}%" y="{}%"><path class="{} arm-{}" d="{}">{}</path></svg>').format(
        _round(x), _round(y), kind, arm % _COLOURS, _SHAPES[arm % len(_SHAPES)], title
    )


def _line(tone: str, start: Iterable[float], end: Iterable[float]) -> Markup:
    return Markup('<line class="{}" x1="{}%" y1="{}%" x2="{}%" y2="{}%"/>').format(tone, *map(_round, (*start, *end)))


def _x(number: int, last: int) -> float:
    return _LEFT + (_RIGHT - _LEFT) * number / last


def _y(value: float, axis: Axis) -> float:
    return _BOTTOM - (_BOTTOM - _TOP) * axis.place(value) / 100


def _round(value: float) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".")
