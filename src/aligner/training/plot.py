"""`curves.svg`: the loss and the rates of a training over its steps, a picture that needs nothing else to be seen."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import accumulate
from math import ceil, floor, log10
from typing import Any, NamedTuple, Self

from markupsafe import Markup

_WIDTH, _LEFT, _RIGHT, _HEAD, _GAP = 960, 56, 16, 46, 40
_LOSS_HEIGHT, _RATE_HEIGHT = 260, 180
_LEAST = 1e-6
"""a loss below this is drawn as this"""
_MOST = 500
"""points of one line"""
_LETTER = 6.6
"""width of a letter"""
_STYLE = Markup("""
svg { font: 12px system-ui, sans-serif; background: #fff; }
text { fill: #444; } .heading { font-weight: 600; fill: #222; }
.grid { stroke: #e4e4e4; } .edge { stroke: #999; stroke-dasharray: 3 3; }
.line { fill: none; stroke-width: 1.8; stroke-linejoin: round; } .line.red { stroke-dasharray: 7 3; }
.line.grey { stroke-dasharray: 2 3; } .band { stroke: none; opacity: .15; }
.blue { stroke: #2563ab; fill: #2563ab; } .orange { stroke: #b45309; fill: #b45309; }
.green { stroke: #15803d; fill: #15803d; } .red { stroke: #c0262d; fill: #c0262d; }
.grey { stroke: #6b7280; fill: #6b7280; } .line { fill: none; }
@media (prefers-color-scheme: dark) {
  svg { background: #16181c; } text { fill: #b9bec7; } .heading { fill: #eceef2; }
  .grid { stroke: #2c3037; } .edge { stroke: #6b7280; }
  .blue { stroke: #74aef0; fill: #74aef0; } .orange { stroke: #f0a355; fill: #f0a355; }
  .green { stroke: #5fcb84; fill: #5fcb84; } .red { stroke: #f4787e; fill: #f4787e; }
  .grey { stroke: #9aa1ad; fill: #9aa1ad; } .line { fill: none; }
}""")
_LOSSES = (("training", "blue"), ("edited tokens, held out", "orange"), ("copied tokens, held out", "green"))
_RATES = (
    ("fixed of flawed", "green", "fix_rate"),
    ("broken of good", "red", "break_rate"),
    ("copied of good", "blue", "copy_rate"),
    ("unchanged of flawed", "grey", "unchanged_rate"),
)


class _Point(NamedTuple):
    x: float
    y: float
    low: float
    high: float


class _Line(NamedTuple):
    """A named line in its colour, in parts that are not joined."""

    name: str
    tone: str
    parts: Sequence[Sequence[_Point]]
    dots: bool = False

    @property
    def heights(self) -> list[float]:
        return [point.y for part in self.parts for point in part]


class _Stages(NamedTuple):
    """The stages in their order, laid behind one another on one axis of steps."""

    names: Sequence[str]
    starts: Sequence[int]
    end: int

    @classmethod
    def of(cls, rows: Sequence[Mapping[str, Any]]) -> Self:
        last: dict[str, int] = {}
        for row in rows:
            last[row["stage"]] = max(last.get(row["stage"], 0), row["step"])
        ends = list(accumulate(last.values()))
        return cls(list(last), [0, *ends[:-1]], max(ends[-1], 1))


class _Panel(NamedTuple):
    """A part of the picture: where it is, and what stands at its bottom and top."""

    top: float
    height: float
    end: float
    low: float
    high: float
    scale: Callable[[float], float]

    def x(self, step: float) -> str:
        return _round(_LEFT + (_WIDTH - _LEFT - _RIGHT) * step / self.end)

    def y(self, value: float) -> str:
        low, high = self.scale(self.low), self.scale(self.high)
        share = (self.scale(min(max(value, self.low), self.high)) - low) / (high - low)
        return _round(self.top + self.height * (1 - share))


def curves(rows: Sequence[Mapping[str, Any]]) -> str:
    """The picture of the rows of a metrics.jsonl, light or dark as its reader prefers; the same rows give the same."""
    if not rows:
        return str(_svg(_GAP, [_text("heading", _LEFT, 24, "no figures")]))
    stages = _Stages.of(rows)
    losses, rates = _loss_lines(rows, stages), _rate_lines(rows, stages)
    shapes = [_loss_panel(losses, stages)]
    bottom = _HEAD + _LOSS_HEIGHT
    if rates:
        shapes.append(_rate_panel(rates, stages, bottom + _GAP + _HEAD))
        bottom += _GAP + _HEAD + _RATE_HEIGHT
    return str(_svg(bottom + _GAP, shapes))


def _loss_lines(rows: Sequence[Mapping[str, Any]], stages: _Stages) -> list[_Line]:
    keys = ((), ("measured", "loss_edited"), ("measured", "loss_copied"))
    lines = [
        _Line(name, tone, _parts(rows, stages, key or ("loss",)), dots=bool(key))
        for (name, tone), key in zip(_LOSSES, keys, strict=True)
    ]
    return [line for line in lines if line.heights]


def _rate_lines(rows: Sequence[Mapping[str, Any]], stages: _Stages) -> list[_Line]:
    lines = [_Line(name, tone, _parts(rows, stages, ("measured", key)), dots=True) for name, tone, key in _RATES]
    return [line for line in lines if line.heights]


def _parts(rows: Sequence[Mapping[str, Any]], stages: _Stages, key: Sequence[str]) -> list[list[_Point]]:
    """The points of one figure, a part for each stage; there are no more of them than can be seen."""
    parts: list[list[_Point]] = []
    for name, start in zip(stages.names, stages.starts, strict=True):
        found = [(row["step"], _at(row, key)) for row in rows if row["stage"] == name]
        points = [_point(start + step, value) for step, value in found if value is not None]
        every = ceil(len(points) / _MOST) or 1
        parts.append(points[::every] + (points[-1:] if (len(points) - 1) % every else []))
    return parts


def _at(row: Mapping[str, Any], key: Sequence[str]) -> Any:
    return row.get(key[0]) if len(key) == 1 else _at(row.get(key[0]) or {}, key[1:])


def _point(x: float, value: Any) -> _Point:
    """A rate comes with the ends of its interval; where one is left out, it has none."""
    return _Point(x, *value) if isinstance(value, list) else _Point(x, value, value, value)


def _loss_panel(lines: Sequence[_Line], stages: _Stages) -> Markup:
    """Losses fall by orders of magnitude, so the axis is logarithmic."""
    heights = [10 ** _magnitude(height) for line in lines for height in line.heights] or [1.0]
    low, high = _round_below(min(heights)), _round_above(max(heights))
    high = high if high > low else 10 * low
    panel = _Panel(_HEAD, _LOSS_HEIGHT, stages.end, low, high, _magnitude)
    ticks = _ticks(low, high)
    return _panel("Loss, nats a token", panel, lines, stages, {tick: f"{tick:g}" for tick in ticks})


def _rate_panel(lines: Sequence[_Line], stages: _Stages, top: float) -> Markup:
    panel = _Panel(top, _RATE_HEIGHT, stages.end, 0.0, 1.0, float)
    ticks = {tick / 100: f"{tick} %" for tick in range(0, 101, 25)}
    return _panel("Rates on held-out rows, with 95 % intervals", panel, lines, stages, ticks)


def _panel(heading: str, panel: _Panel, lines: Sequence[_Line], stages: _Stages, ticks: Mapping[float, str]) -> Markup:
    bottom = panel.top + panel.height
    shapes = [_text("heading", _LEFT, panel.top - 28, heading)]
    shapes += _legend(lines, _LEFT + _LETTER * len(heading) + 40, panel.top - 28)
    for tick, label in ticks.items():
        shapes.append(_rule("grid", panel.x(0), panel.y(tick), panel.x(stages.end), panel.y(tick)))
        shapes.append(_text("", _LEFT - 8, float(panel.y(tick)) + 4, label, anchor="end"))
    for step in _steps(stages.end):
        shapes.append(_text("", float(panel.x(step)), bottom + 18, f"{step:,}", anchor="middle"))
    shapes += _edges(panel, stages)
    return Markup("").join([*shapes, *(shape for line in lines for shape in _drawn(panel, line))])


def _edges(panel: _Panel, stages: _Stages) -> Iterable[Markup]:
    """Where each stage begins, and its name where there is room for it."""
    taken = 0.0
    for name, start in zip(stages.names, stages.starts, strict=True):
        x, room = float(panel.x(start)), _LETTER * len(name) + 8
        if start:
            yield _rule("edge", _round(x), _round(panel.top), _round(x), _round(panel.top + panel.height))
        x = min(x, _WIDTH - room)
        if x > taken:
            yield _text("", x + 4, panel.top - 8, name)
            taken = x + room


def _drawn(panel: _Panel, line: _Line) -> Iterable[Markup]:
    for part in (part for part in line.parts if part):
        if any(point.low != point.high for point in part):
            around = [(point.x, point.high) for point in part] + [(point.x, point.low) for point in reversed(part)]
            yield Markup('<polygon class="band {}" points="{}"/>').format(line.tone, _places(panel, around))
        joined = _places(panel, ((point.x, point.y) for point in part))
        yield Markup('<polyline class="{} line" points="{}"/>').format(line.tone, joined)
        if line.dots:
            for point in part:
                yield _dot(line.tone, panel.x(point.x), panel.y(point.y))


def _legend(lines: Sequence[_Line], left: float, y: float) -> Iterable[Markup]:
    for line in lines:
        yield _dot(line.tone, _round(left), _round(y - 4), radius=4)
        yield _text("", left + 9, y, line.name)
        left += 30 + _LETTER * len(line.name)


def _places(panel: _Panel, points: Iterable[tuple[float, float]]) -> str:
    return " ".join(f"{panel.x(x)},{panel.y(y)}" for x, y in points)


def _magnitude(loss: float) -> float:
    return log10(max(loss, _LEAST))


def _round_below(value: float) -> float:
    """The nearest of 1, 2, 5 times a power of ten that is not above."""
    unit = 10.0 ** floor(log10(value) + 1e-9)
    return next(unit * factor for factor in (5, 2, 1) if unit * factor <= value * (1 + 1e-9))


def _round_above(value: float) -> float:
    """The nearest of 1, 2, 5 times a power of ten that is not below."""
    unit = 10.0 ** floor(log10(value))
    return next(unit * factor for factor in (1, 2, 5, 10) if unit * factor >= value * (1 - 1e-9))


def _ticks(low: float, high: float) -> list[float]:
    """Powers of ten, and what lies between where there are few."""
    decades = range(floor(log10(low) + 1e-9), ceil(log10(high) - 1e-9) + 1)
    factors = (1, 2, 5) if len(decades) <= 4 else (1,)
    found = [factor * 10.0**decade for decade in decades for factor in factors]
    return [tick for tick in found if low * (1 - 1e-9) <= tick <= high * (1 + 1e-9)]


def _steps(end: int) -> list[int]:
    """Some round steps from zero on."""
    apart = max(int(_round_above(end / 8)), 1)
    return list(range(0, end + 1, apart))


def _svg(height: float, shapes: Iterable[Markup]) -> Markup:
    return Markup(
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {w} {h}" width="{w}" height="{h}" role="img">'
        "<title>Loss and rates of a training over its steps</title><style>{style}</style>{shapes}</svg>\n"
    ).format(w=_WIDTH, h=_round(height), style=_STYLE, shapes=Markup("").join(shapes))


def _text(kind: str, x: float, y: float, text: str, *, anchor: str = "start") -> Markup:
    given = _round(x), _round(y), anchor, text
    return Markup('<text class="{}" x="{}" y="{}" text-anchor="{}">{}</text>').format(kind, *given)


def _rule(kind: str, *ends: str) -> Markup:
    return Markup('<line class="{}" x1="{}" y1="{}" x2="{}" y2="{}"/>').format(kind, *ends)


def _dot(tone: str, x: str, y: str, *, radius: float = 2.5) -> Markup:
    return Markup('<circle class="{}" cx="{}" cy="{}" r="{}"/>').format(tone, x, y, radius)


def _round(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")
