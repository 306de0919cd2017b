"""A table of rows as people read it: on the terminal, as Markdown, and as a plot."""

from collections.abc import Sequence
from pathlib import Path

from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from aligner.ablating.plot import plot
from aligner.ablating.table import RATES, Line
from aligner.files import write_text_atomic
from aligner.scoring.intervals import Interval

_HEADINGS = ("", "steps", "parameters", *RATES, *(f"{what}, difference" for what in RATES))


def show(title: str, lines: Sequence[Line], against: str, *, out: Path) -> None:
    """Print the table, and write table.md and table.svg into the folder."""
    out.mkdir(parents=True, exist_ok=True)
    rows = [cells(line) for line in lines]
    write_text_atomic(out / "table.md", markdown(title, rows, against, seeds=lines[0].seeds))
    plot(title, lines, against, out / "table.svg")
    table = Table(title=title, box=SIMPLE, caption=f"difference from: {against}; {out / 'table.md'}")
    for heading in _HEADINGS:
        table.add_column(heading, justify="right" if heading else "left", no_wrap=True)
    for row in rows:
        table.add_row(*row)
    Console(highlight=False).print(table)


def cells(line: Line) -> list[str]:
    """One row of the table as texts."""
    rates = [_rate(line.rates[what]) for what in RATES]
    gains = [_gain(line.gains[what]) if line.gains else "" for what in RATES]
    return [line.name, f"{line.steps:,.0f}", f"{line.parameters / 1e6:.2f} M", *rates, *gains]


def markdown(title: str, rows: Sequence[Sequence[str]], against: str, *, seeds: int) -> str:
    """The table as Markdown."""
    said = f"Means over {seeds} seeds with 95 % intervals of Student's t; differences from **{against}**, seed by seed."
    bars = "|".join(["---", *("--:" for _ in _HEADINGS[1:])])
    body = "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows)
    return f"{title}\n\n{said}\n\n| {' | '.join(_HEADINGS)} |\n|{bars}|\n{body}\n"


def _rate(found: Interval) -> str:
    return f"{found.value:.1%} ± {100 * (found.high - found.value):.1f}"


def _gain(found: Interval) -> str:
    return f"{100 * found.value:+.1f} [{100 * found.low:+.1f}, {100 * found.high:+.1f}]"
