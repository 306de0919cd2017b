"""`funnel.svg`: how many rows came to each stage, went on, or were dropped and why, in one picture."""

from collections.abc import Iterator, Sequence

from markupsafe import Markup

from aligner.building.funnel import OPEN
from aligner.building.nouns import Step
from aligner.errors import visible

_WIDTH, _LEFT, _BAR, _ROW, _HEAD = 960, 150, 560, 62, 44
_SHOWN = 5
"""reasons that are named; the others stand together"""
_TITLES = {
    "questions": "rows read",
    "answers": "answers asked for",
    "corrections": "answers",
    "verdicts": "corrections",
}
_STYLE = Markup("""
svg { font: 12px system-ui, sans-serif; background: #fff; }
text { fill: #444; } .heading { font-weight: 600; fill: #222; } .small { font-size: 11px; }
.left { fill: #15803d; } .dropped { fill: #c0262d; } .open { fill: #b9bec7; }
@media (prefers-color-scheme: dark) {
  svg { background: #16181c; } text { fill: #b9bec7; } .heading { fill: #eceef2; }
  .left { fill: #5fcb84; } .dropped { fill: #f4787e; } .open { fill: #4b515b; }
}""")
_SHAPE = Markup(
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {w} {h}" width="{w}" height="{h}" role="img">'
    "<title>{title}</title><style>{style}</style>{shapes}</svg>\n"
)


def chart(steps: Sequence[Step]) -> str:
    """The picture of a funnel, light or dark as its reader prefers; the same steps give the same bytes."""
    most = max((step.came for step in steps), default=0) or 1
    shapes = [shape for number, step in enumerate(steps) for shape in _bar(step, number, most)]
    head = _text("heading", 8, 22, "What became of the rows of this build")
    shown = Markup("").join([head, *shapes])
    height = _HEAD + len(steps) * _ROW
    return str(_SHAPE.format(w=_WIDTH, h=height, title=_sound(_told(steps)), style=_STYLE, shapes=shown))


def reasons(step: Step) -> list[tuple[str, int]]:
    """Why rows went no further, the most frequent first; what is only open comes last."""
    return sorted(step.dropped.items(), key=lambda pair: (pair[0] == OPEN, -pair[1], pair[0]))


def title(name: str) -> str:
    """What comes to a stage, in words."""
    return _TITLES.get(name, "rows written" if name == "export" else name)


def _bar(step: Step, number: int, most: int) -> Iterator[Markup]:
    y = _HEAD + number * _ROW
    waiting = step.dropped.get(OPEN, 0)
    yield _text("heading", 8, y + 15, title(step.name))
    yield _text("small", 8, y + 30, f"{step.came:,}")
    x = float(_LEFT)
    for tone, count in (("left", step.left), ("dropped", step.came - step.left - waiting), ("open", waiting)):
        width = round(_BAR * count / most, 2)
        if count:
            yield Markup('<rect class="{}" x="{}" y="{}" width="{}" height="22"/>').format(
                tone, round(x, 2), y, max(width, 0.5)
            )
        x += width
    yield _text("", round(x + 8, 2), y + 15, f"{step.left:,} go on" if step.name != "export" else f"{step.left:,}")
    yield _text("small", _LEFT, y + 38, _why(step))


def _why(step: Step) -> str:
    found = reasons(step)
    named = [f"{name} {count:,}" for name, count in found[:_SHOWN]]
    others = sum(count for _, count in found[_SHOWN:])
    return " · ".join([*named, *([f"others {others:,}"] if others else [])])


def _told(steps: Sequence[Step]) -> str:
    """The same in words, for who hears the picture."""
    return "; ".join(f"{title(step.name)} {step.came:,}, of which {step.left:,} go on" for step in steps)


def _text(tone: str, x: float, y: float, text: str) -> Markup:
    return Markup('<text class="{}" x="{}" y="{}">{}</text>').format(tone, x, y, _sound(text))


def _sound(text: str) -> str:
    """A text without what XML does not allow."""
    return visible(text).translate({0xFFFE: 0xFFFD, 0xFFFF: 0xFFFD})
