"""Small charts as SVG beside figures that say the same: only shapes, in colours that the style sheet gives."""

from collections.abc import Iterable, Iterator, Sequence
from math import ceil, floor, log10
from typing import NamedTuple

from markupsafe import Markup

from aligner.scoring.intervals import Interval

_NAUGHT = 1e-9
"""below this, a tick is that of zero"""
_NEAR = 30
"""per cent of the width within which two labels may touch"""


class Axis(NamedTuple):
    """The figures that a row of charts spans, with the ticks below."""

    low: float
    high: float
    ticks: Sequence[float]

    def place(self, value: float) -> float:
        """Where a figure stands, in per cent of the width."""
        return 100 * (min(max(value, self.low), self.high) - self.low) / (self.high - self.low)


def axis_of(figures: Iterable[Interval]) -> Axis:
    """An axis on which all intervals and zero have room."""
    ends = [end for figure in figures for end in (figure.low, figure.high)]
    low, high = min([0.0, *ends]), max([0.0, *ends])
    if low == high:
        low, high = -0.1, 0.1
    step = _step((high - low) / 3)
    first, last = floor(low / step - 1e-9), ceil(high / step + 1e-9)
    return Axis(first * step, last * step, [place * step for place in range(first, last + 1)])


def whisker(figure: Interval, axis: Axis, tone: str) -> Markup:
    """A figure with its interval, over the line of zero."""
    zero, low, high = (axis.place(value) for value in (0, figure.low, figure.high))
    return _svg(
        "whisker",
        [
            _line("zero", zero, "0", zero, "100%"),
            _line(tone, low, "50%", high, "50%"),
            Markup('<circle class="{}" cx="{}%" cy="50%" r="4"/>').format(tone, _round(axis.place(figure.value))),
        ],
    )


def split(parts: Sequence[tuple[str, int]]) -> Markup:
    """Counts side by side as parts of one bar, each in the colour of its kind."""
    total, left, found = sum(number for _, number in parts) or 1, 0.0, list[Markup]()
    for kind, number in parts:
        width = 100 * number / total
        found.append(_bar(kind, left, width))
        left += width
    return _svg("split", found)


def columns(numbers: Sequence[int]) -> Markup:
    """A histogram."""
    most, width = max([*numbers, 1]), 100 / max(len(numbers), 1)
    bars = (
        Markup('<rect class="some" x="{}%" y="{}%" width="{}%" height="{}%"/>').format(
            _round(place * width), _round(100 - height), _round(width * 0.86), _round(height)
        )
        for place, number in enumerate(numbers)
        if (height := 100 * number / most)
    )
    return _svg("columns", bars)


def against(left: int, right: int, most: int) -> Markup:
    """What speaks against to the left of the middle, what speaks for to the right, on the scale of the most of all."""
    unit = 50 / max(most, 1)
    bars = (_bar("loss", 50 - left * unit, left * unit), _bar("win", 50, right * unit))
    return _svg("against", [*bars, _line("zero", 50, "0", 50, "100%")])


def scale(axis: Axis) -> Markup:
    """The ticks of an axis, in per cent."""
    labels = (
        Markup('<text class="{}" x="{}%" y="70%">{}</text>').format(side, _round(axis.place(tick)), _label(tick))
        for side, tick in zip(_sides(axis), axis.ticks, strict=True)
    )
    return _svg("scale", labels)


def _sides(axis: Axis) -> Iterator[str]:
    """How the labels are set: those at the ends stay within; where room is short, zero and what is far from it stay."""
    zero = axis.place(0)
    for place, tick in enumerate(axis.ticks):
        side = {0: "first", len(axis.ticks) - 1: "last"}.get(place, "between")
        near = abs(axis.place(tick) - zero) < _NEAR and abs(tick) > _NAUGHT
        yield "naught" if side == "between" and abs(tick) < _NAUGHT else f"{side} near" if near else side


def _label(tick: float) -> str:
    return f"{100 * tick:+.3g}".replace("-", "\u2212") if abs(tick) > _NAUGHT else "0"


def _step(rough: float) -> float:
    """The nearest larger round step."""
    unit = 10.0 ** floor(log10(rough))
    return next(unit * round_number for round_number in (1, 2, 2.5, 5, 10) if unit * round_number >= rough - 1e-12)


def _svg(kind: str, shapes: Iterable[Markup]) -> Markup:
    return Markup('<svg class="{}" aria-hidden="true">{}</svg>').format(kind, Markup("").join(shapes))


def _bar(kind: str, left: float, width: float) -> Markup:
    if not width:
        return Markup("")
    return Markup('<rect class="{}" x="{}%" y="0" width="{}%" height="100%"/>').format(
        kind, _round(left), _round(width)
    )


def _line(kind: str, left: float, top: str, right: float, bottom: str) -> Markup:
    return Markup('<line class="{}" x1="{}%" y1="{}" x2="{}%" y2="{}"/>').format(
        kind, _round(left), top, _round(right), bottom
    )


def _round(value: float) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".")
