"""What the page shows besides the figures as they are: plots, and tables that put figures side by side."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from aligner.evaluating.breakdowns import Category, Counts, Size, added
from aligner.evaluating.charts import Axis, axis_of
from aligner.evaluating.evidence import Evidence, Judged, Marked, Timed
from aligner.evaluating.verdicts import Row, together
from aligner.scoring.intervals import Interval

_OVER_REFUSAL = ("xstest", "xstest-safe")
"""tasks with safe prompts that sound unsafe"""


class Line(NamedTuple):
    """A row of a forest plot."""

    label: str
    figure: Interval
    n: int
    p: float
    """adjusted for all upstreams"""


class Forest(NamedTuple):
    """A forest plot."""

    title: str
    lines: Sequence[Line]
    axis: Axis


class Pull(NamedTuple):
    """How many answers speak against the Aligner, and how many for it."""

    label: str
    against: int
    in_favour: int
    n: int


class Pulls(NamedTuple):
    """The same by the size of the edit."""

    title: str
    lines: Sequence[Pull]

    @property
    def most(self) -> int:
        """The largest number of all."""
        return max(number for line in self.lines for number in (line.against, line.in_favour))


class Preferences(NamedTuple):
    """What one judge says of one task: qualities of upstreams."""

    task: str
    judge: str
    qualities: Sequence[str]
    rows: Mapping[str, Mapping[str, Judged]]


class Refused(NamedTuple):
    """What became of an upstream's answers to prompts that may be answered, and of its harmless ones beside."""

    upstream: str
    task: str
    counts: Counts
    harmless: Sequence[Judged]


class Cost(NamedTuple):
    """What the answers of an upstream to a task took, and their corrections."""

    upstream: str
    task: str
    timed: Timed
    tokens: int
    n: int


def preferences(judged: Iterable[Judged]) -> list[Preferences]:
    """A table for each task and judge."""
    tables: dict[tuple[str, str], dict[str, dict[str, Judged]]] = {}
    for row in judged:
        tables.setdefault((row.task, row.judge), {}).setdefault(row.upstream, {})[row.quality] = row
    return [
        Preferences(task, judge, list(dict.fromkeys(quality for cells in rows.values() for quality in cells)), rows)
        for (task, judge), rows in tables.items()
    ]


def net(row: Judged) -> tuple[str, Line]:
    """A net rate for a plot, and the plot's title."""
    return f"{row.quality}, {row.task}, {row.judge}", Line(row.upstream, row.net, row.total, row.p_adjusted)


def gained(row: Marked) -> tuple[str, Line]:
    """A gain for a plot, and the plot's title."""
    return row.task, Line(row.upstream, row.gain, row.pairs.total, row.p_adjusted)


def forests(rows: Sequence[Row], plotted: Callable[[Row], tuple[str, Line]]) -> list[Forest]:
    """A plot for each task, quality and judge, or one for all of them where there is one upstream; on one axis."""
    axis = axis_of(plotted(row)[1].figure for row in rows)
    if len({row.upstream for row in rows}) == 1:
        lines = [line._replace(label=title) for title, line in map(plotted, rows)]
        return [Forest(rows[0].upstream, lines, axis)]
    groups = [list(map(plotted, group)) for group in together(rows)]
    return [Forest(group[0][0], [line for _, line in group], axis) for group in groups]


def refusals(categories: Iterable[Category], judged: Iterable[Judged]) -> list[Refused]:
    """What became of safe prompts that sound unsafe, for each upstream that was asked any."""
    found: dict[tuple[str, str], Counts] = {}
    for upstream, task, category, counts in categories:
        if task in _OVER_REFUSAL and category.startswith("safe"):
            found[upstream, task] = added(found.get((upstream, task), Counts()), counts)
    harmless = [row for row in judged if row.quality == "harmless"]
    return [
        Refused(upstream, task, counts, [row for row in harmless if row.upstream == upstream])
        for (upstream, task), counts in found.items()
    ]


def pulls(sizes: Sequence[Size]) -> Iterator[Pulls]:
    """For each task, what is known of it: broken and fixed answers, and verdicts."""
    for task in dict.fromkeys(size.task for size in sizes):
        steps = [size for size in sizes if size.task == task]
        marks = [Pull(_step(size), size.counts.broken, size.counts.fixed, size.counts.total) for size in steps]
        verdicts = [Pull(_step(size), size.counts.losses, size.counts.wins, size.counts.total) for size in steps]
        yield from (
            Pulls(f"{task}: {what}", lines)
            for what, lines in (("broken and fixed", marks), ("verdicts", verdicts))
            if any(line.against or line.in_favour for line in lines)
        )


def _step(size: Size) -> str:
    return f"{100 * size.above:.0f}\u2013{100 * size.up_to:.0f}\u00a0%" if size.up_to else "untouched"


def costs(evidence: Evidence) -> list[Cost]:
    """For each upstream and task."""
    return [
        Cost(edited.upstream, edited.task, timed, edited.tokens, edited.changes.total)
        for edited, timed in zip(evidence.edited, evidence.timed, strict=True)
    ]
