"""A table of rows as a picture: for each rate a panel, for each row a point with its interval."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from markupsafe import Markup

from aligner.ablating.table import RATES, Line
from aligner.files import write_text_atomic
from aligner.scoring.intervals import Interval

_NAMES, _PANEL, _GAP, _ROW, _HEAD, _FOOT = 230, 210, 30, 26, 58, 26
_TICKS = 4
_STYLE = Markup("""
svg { font: 12px system-ui, sans-serif; background: #fff; }
text { fill: #444; } .heading { font-weight: 600; fill: #222; }
.grid { stroke: #e4e4e4; } .edge { stroke: #999; stroke-dasharray: 3 3; }
.fixed { stroke: #15803d; fill: #15803d; } .broken { stroke: #c0262d; fill: #c0262d; }
.copied { stroke: #2563ab; fill: #2563ab; } .whisker { stroke-width: 2; }
@media (prefers-color-scheme: dark) {
  svg { background: #16181c; } text { fill: #b9bec7; } .heading { fill: #eceef2; }
  .grid { stroke: #2c3037; } .edge { stroke: #6b7280; }
  .fixed { stroke: #5fcb84; fill: #5fcb84; } .broken { stroke: #f4787e; fill: #f4787e; }
  .copied { stroke: #74aef0; fill: #74aef0; }
}""")
_SHAPE = Markup(
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {} {}" width="{}" height="{}" role="img">{}</svg>\n'
)


class _Panel(NamedTuple):
    """A rate's part of the picture, and the figures that it spans."""

    what: str
    left: int
    low: float
    high: float

    def place(self, value: float) -> float:
        """Where a figure stands."""
        share = (min(max(value, self.low), self.high) - self.low) / (self.high - self.low)
        return round(self.left + share * _PANEL, 1)


def plot(title: str, lines: Sequence[Line], against: str, path: Path) -> None:
    """Write the picture; it needs nothing else to be seen."""
    width = _NAMES + len(RATES) * (_PANEL + _GAP)
    height = _HEAD + len(lines) * _ROW + _FOOT
    panels = [_panel(what, _NAMES + i * (_PANEL + _GAP), lines) for i, what in enumerate(RATES)]
    parts = [
        Markup("<title>{}</title><style>{}</style>").format(title, _STYLE),
        Markup('<text class="heading" x="8" y="20">{}</text>').format(title),
        *(_name(line.name, i) for i, line in enumerate(lines)),
        *(part for panel in panels for part in _drawn(panel, lines, against, height)),
    ]
    write_text_atomic(path, _SHAPE.format(width, height, width, height, Markup("").join(parts)))


def _panel(what: str, left: int, lines: Sequence[Line]) -> _Panel:
    """Wide enough for all intervals, within 0 and 1."""
    found = [line.rates[what] for line in lines]
    low, high = max(0.0, min(one.low for one in found)), min(1.0, max(one.high for one in found))
    spare = max(high - low, 0.02) * 0.08
    return _Panel(what, left, max(0.0, low - spare), min(1.0, high + spare))


def _name(name: str, number: int) -> Markup:
    return Markup('<text x="8" y="{}">{}</text>').format(_middle(number) + 4, name)


def _drawn(panel: _Panel, lines: Sequence[Line], against: str, height: int) -> Iterator[Markup]:
    yield Markup('<text class="heading" x="{}" y="44">{}</text>').format(panel.left, panel.what)
    for i in range(_TICKS + 1):
        value = panel.low + (panel.high - panel.low) * i / _TICKS
        yield _upright("grid", panel.place(value), height)
        yield Markup('<text x="{}" y="{}" text-anchor="middle">{}</text>').format(
            panel.place(value), height - 8, f"{100 * value:.3g}"
        )
    reference = next((line for line in lines if line.name == against), None)
    if reference:
        yield _upright("edge", panel.place(reference.rates[panel.what].value), height)
    for number, line in enumerate(lines):
        yield _whisker(panel, line.rates[panel.what], number)


def _upright(tone: str, x: float, height: int) -> Markup:
    bottom = height - _FOOT
    return Markup('<line class="{}" x1="{}" x2="{}" y1="{}" y2="{}"/>').format(tone, x, x, _HEAD, bottom)


def _whisker(panel: _Panel, found: Interval, number: int) -> Markup:
    low, middle, high = (panel.place(value) for value in (found.low, found.value, found.high))
    y = _middle(number)
    return Markup(
        '<line class="whisker {}" x1="{}" x2="{}" y1="{}" y2="{}"/><circle class="{}" cx="{}" cy="{}" r="4"/>'
    ).format(panel.what, low, high, y, y, panel.what, middle, y)


def _middle(number: int) -> float:
    return _HEAD + (number + 0.5) * _ROW
