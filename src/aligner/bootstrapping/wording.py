"""How the report of a study writes figures, verdicts and tables, as texts that the page and the Markdown share."""

from collections.abc import Callable, Sequence
from math import isfinite
from typing import NamedTuple

from aligner.bootstrapping.rounds import RoundShown
from aligner.evaluating.formats import points
from aligner.scoring.intervals import Interval
from aligner.training.model_card import plain

_MINUS = "\N{MINUS SIGN}"


class Name(str):
    """A text that may be anything, such as a name: in Markdown it is code."""

    __slots__ = ()


class Table(NamedTuple):
    """Headings and rows of texts, with a sentence that says how to read them."""

    title: str
    note: str
    headings: Sequence[str]
    rows: Sequence[Sequence[str]]


def markdown(table: Table) -> str:
    """The table as Markdown, with its title and its note."""
    rows = (table.headings, ["---"] * len(table.headings), *([_cell(text) for text in row] for row in table.rows))
    lines = "\n".join(f"| {' | '.join(row)} |" for row in rows)
    return f"### {table.title}\n\n{table.note}\n\n{lines}"


def verdict(one: RoundShown) -> str:
    """What became of a round, in words."""
    if not one.number:
        return "where all arms begin"
    if one.verdict.accepted:
        return one.verdict.why if one.is_noted else "accepted"
    return f"rolled back: {one.verdict.why}"


def number(value: float | None, places: int = 2) -> str:
    """A number, or that there is none."""
    return _known(value, lambda one: f"{one:.{places}f}")


def signed(value: float | None) -> str:
    """A change, to three places."""
    return _known(value, lambda one: f"{one:+.3f}".replace("-", _MINUS))


def per_cent(value: float | None) -> str:
    """A share."""
    return _known(value, lambda one: f"{100 * one:.1f} %")


def short(value: float, sign: str = "") -> str:
    """A number with no more digits than it needs, to three; with `sign` +, one above zero has its sign."""
    return f"{value:{sign}.3g}".replace("-", _MINUS) if value else "0"


def share(figure: Interval | None) -> str:
    """A share in per cent with its interval."""
    return _with_ends(figure, lambda value: f"{100 * value:.1f}", " %")


def net(figure: Interval | None) -> str:
    """A difference in points with its interval."""
    return _with_ends(figure, points, "")


def _known(value: float | None, written: Callable[[float], str]) -> str:
    return "none" if value is None or not isfinite(value) else written(value)


def _with_ends(found: Interval | None, written: Callable[[float], str], unit: str) -> str:
    if found is None or not all(map(isfinite, found)):
        return "none"
    return f"{written(found.value)}{unit} [{written(found.low)}, {written(found.high)}]"


def _cell(text: str) -> str:
    return plain(text) if isinstance(text, Name) else text
