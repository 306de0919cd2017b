"""Two reports, figure by figure, and the bars that a run has to clear."""

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table
from rich.text import Text

from aligner.errors import visible
from aligner.evaluating.evidence import Evidence
from aligner.evaluating.figures import Figure, evidence_of, figures_of, overlaps_of, read_report
from aligner.evaluating.formats import count, points

Key = tuple[str, ...]
_WIDTH = 120
"""columns where the output is no terminal"""
_HIGHER_IS_BETTER = {
    "net rate": True,
    "net rate of like length": True,
    "win rate at equal length": True,
    "losses": False,
    "wins": True,
    "gain": True,
    "broken": False,
    "fixed": True,
    "right after": True,
    "elsewhere": False,
    "flips": False,
    "unread": False,
}
"""figures that can be better or worse"""


@dataclass(frozen=True, slots=True)
class Compared:
    """One figure in two reports."""

    old: Figure
    new: Figure

    @property
    def difference(self) -> float:
        """The new figure less the old one."""
        return self.new.value - self.old.value

    @property
    def overlaps(self) -> bool | None:
        """Whether the intervals overlap; none where there are no intervals."""
        if None in (self.old.low, self.old.high, self.new.low, self.new.high):
            return None
        return max(self.old.low or 0.0, self.new.low or 0.0) <= min(self.old.high or 0.0, self.new.high or 0.0)

    @property
    def verdict(self) -> str:
        """`better` or `worse` where the intervals lie apart; `perhaps ...` where they overlap; `changed`, or `same`."""
        if not self.difference:
            return "same"
        if self.new.name not in _HIGHER_IS_BETTER:
            return "changed"
        verdict = "better" if (self.difference > 0) == _HIGHER_IS_BETTER[self.new.name] else "worse"
        return verdict if self.overlaps is False else f"perhaps {verdict}"


@dataclass(frozen=True, slots=True)
class Comparison:
    """All figures of two reports."""

    compared: tuple[Compared, ...]
    only_old: tuple[Figure, ...]
    only_new: tuple[Figure, ...]
    differences: tuple[str, ...]
    """what else is not the same: the Aligner, judges, files, versions, ..."""

    @property
    def worse(self) -> list[Compared]:
        """What got worse, and not by chance."""
        return [compared for compared in self.compared if compared.verdict == "worse"]


def compare(old: Path, new: Path) -> Comparison:
    """Hold two report.json against each other; raises InputFileError where one cannot be read."""
    before, after = read_report(old), read_report(new)
    left, right = _by_key(before), _by_key(after)
    return Comparison(
        tuple(Compared(left[key], figure) for key, figure in right.items() if key in left),
        tuple(figure for key, figure in left.items() if key not in right),
        tuple(figure for key, figure in right.items() if key not in left),
        tuple(_differences(before["provenance"], after["provenance"])),
    )


def show_comparison(comparison: Comparison) -> None:
    """Print the figures that are not the same, the worst first, and say which got worse."""
    console = Console(highlight=False, width=None if sys.stdout.isatty() else _WIDTH)
    changed = sorted((c for c in comparison.compared if c.difference), key=lambda c: _ORDER.index(c.verdict))
    for line in comparison.differences:
        console.print(Text(f"Not the same: {visible(line)}"))
    if changed:
        console.print(_table(changed))
    console.print(Text("\n".join(_last_words(comparison, len(comparison.compared) - len(changed)))))


def missed_bars(evidence: Evidence, *, min_net: float | None, max_broken: int | None) -> list[str]:
    """One line for each bar that is missed; a bar about what was not measured is missed, too.

    `min_net` is a share, and each net rate has to reach it; `max_broken` counts the broken answers of all together.
    """
    return [*_missed_net(evidence, min_net), *_missed_broken(evidence, max_broken)]


def _missed_net(evidence: Evidence, least: float | None) -> Iterator[str]:
    if least is None:
        return
    if not evidence.judged:
        yield "no net rate: no judge compared anything"
    for row in evidence.judged:
        if row.net.value < least:
            where = f"{row.upstream}, {row.task}, {row.quality} ({row.judge})"
            yield visible(f"{where}: net rate {points(row.net.value)} %, below {points(least)} %")


def _missed_broken(evidence: Evidence, most: int | None) -> Iterator[str]:
    if most is None:
        return
    if not evidence.marked:
        yield "no count of broken answers: no task marks them right or wrong"
    arms = [(row.pairs.broken, f"{row.upstream}, {row.task}: {row.pairs.broken:,}") for row in evidence.marked]
    if (broken := sum(number for number, _ in arms)) > most:
        worst = sorted((arm for arm in arms if arm[0]), key=lambda arm: -arm[0])[:5]
        yield visible(
            f"{count(broken)} answers broken, more than {count(most)} ({'; '.join(told for _, told in worst)})"
        )


_ORDER = ("worse", "perhaps worse", "changed", "perhaps better", "better")
_COLOURS = {"worse": "bold red", "perhaps worse": "red", "perhaps better": "green", "better": "bold green"}


def _by_key(report: Mapping[str, Any]) -> dict[Key, Figure]:
    """The figures of a report, but for p-values: their differences say nothing."""
    figures = figures_of(evidence_of(report), overlaps_of(report))
    return {figure[:6]: figure for figure in figures if figure.name not in ("p", "Holm p")}


def _differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[str]:
    """What of the provenance differs, a line each."""
    for name in sorted({*old, *new}):
        left, right = old.get(name), new.get(name)
        if isinstance(left, Mapping) and isinstance(right, Mapping):
            parts = cast(Mapping[str, Any], left), cast(Mapping[str, Any], right)
            yield from (f"{name}: {line}" for line in _differences(*parts))
        elif left != right:
            yield f"{name}: {left} before, {right} now"


def _table(changed: Sequence[Compared]) -> Table:
    table = Table(box=SIMPLE)
    table.add_column("", no_wrap=True)
    table.add_column("figure", overflow="fold")
    for heading in ("old", "new", "difference", "n"):
        table.add_column(heading, justify="right", no_wrap=True)
    for row in changed:
        numbers = (_shown(row.old), _shown(row.new), f"{row.difference:+.3g}", _n(row))
        cells = [Text(visible(cell)) for cell in (_name(row.new), *numbers)]
        table.add_row(Text(row.verdict, _COLOURS.get(row.verdict, "")), *cells)
    return table


def _name(figure: Figure) -> str:
    return ", ".join(part for part in (figure.upstream, figure.task, figure.judge, figure.quality, figure.name) if part)


def _shown(figure: Figure) -> str:
    if figure.low is None or figure.high is None:
        return f"{figure.value:.4g}"
    return f"{figure.value:.3f} [{figure.low:.3f}, {figure.high:.3f}]"


def _n(row: Compared) -> str:
    old, new = (count(figure.n or 0) for figure in (row.old, row.new))
    return new if old == new else f"{old}, {new}"


def _last_words(comparison: Comparison, same: int) -> Iterator[str]:
    yield f"{count(same)} of {count(len(comparison.compared))} figures are the same."
    for figures, which in ((comparison.only_old, "old"), (comparison.only_new, "new")):
        if figures:
            yield f"{count(len(figures))} stand in the {which} report alone."
    names = [_name(row.new) for row in comparison.worse]
    yield f"Worse: {visible('; '.join(names))}." if names else "Nothing got worse beyond its interval."
