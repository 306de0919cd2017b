"""A report as CSV, and as Markdown for a pull request; texts of models stand in neither."""

import csv
from collections.abc import Iterable, Iterator, Sequence
from io import StringIO

from aligner.evaluating.content import Report
from aligner.evaluating.evidence import Agreed, Judged, Marked
from aligner.evaluating.figures import Figure, figures_of
from aligner.evaluating.formats import count, p_value, points, share
from aligner.evaluating.shown import visible
from aligner.evaluating.verdicts import sentences, tone
from aligner.scoring.intervals import Interval

CLOSED_WORLD = "Figures of the closed world: they show that the software works, not what it does to real models."
_MOST = 100
"""rows of a table in Markdown"""


def as_csv(report: Report) -> str:
    """One row a figure; a share is a number from 0 to 1."""
    text = StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(Figure._fields)
    for figure in figures_of(report.evidence, report.overlaps):
        writer.writerow([_cell(value) if isinstance(value, str) else value for value in figure])
    return text.getvalue()


def as_markdown(report: Report) -> str:
    """The verdict and the main tables."""
    return "\n".join([*_markdown(report), ""])


def _cell(text: str) -> str:
    """A text that no spreadsheet takes for a formula."""
    shown = visible(text)
    return f"'{shown}" if shown.startswith(("=", "+", "-", "@", "\t")) else shown


def _markdown(report: Report) -> Iterator[str]:
    evidence = report.evidence
    yield f"## {_prose(report.title)}{' (closed world)' if report.closed_world else ''}\n"
    if report.closed_world:
        yield f"> {CLOSED_WORLD}\n"
    yield from (f"- {_prose(sentence.text)}" for sentence in sentences(evidence, timed=True))
    yield ""
    yield from _table(("upstream", "task", *_MARKED), [_marked(row) for row in evidence.marked])
    yield from _table(("upstream", "task", *_JUDGED), [_judged(row) for row in evidence.judged])
    agreed = [
        [
            _name(row.task),
            row.quality,
            _name(" and ".join(row.judges)),
            f"{row.same:.0%}",
            _kappa(row),
            count(row.pairs),
        ]
        for row in evidence.agreed
    ]
    yield from _table(("task", "quality", "judges", "same verdict", "Cohen's kappa", "n"), agreed)
    rows = [
        [_name(o.upstream), _name(o.task), count(o.flagged), count(o.copied), count(o.counted)] for o in report.overlaps
    ]
    yield from _table(("upstream", "task", "from other texts", "from the answer", "n"), rows)
    made = report.provenance
    aligner = f"Aligner {_name(made.aligner)} (fingerprint {_name(made.fingerprint)})"
    yield f"{aligner}, seed {made.seed}: {_name(made.command)}"


_MARKED = ("broken", "fixed", "before", "after", "points, 95 % CI", "McNemar p", "Holm p", "n")
_JUDGED = ("quality", "judge", "worse", "better", "tie", "net rate %, 95 % CI", "Holm p", "flips", "unread", "n")


def _marked(row: Marked) -> list[str]:
    pairs = row.pairs
    shares = (share(number / pairs.total) if pairs.total else "" for number in (pairs.before, pairs.after))
    changes = (count(pairs.broken), count(pairs.fixed))
    chances = (p_value(row.p), p_value(row.p_adjusted))
    return [
        _name(row.upstream),
        _name(row.task),
        *changes,
        *shares,
        _interval(row.gain, row.p_adjusted),
        *chances,
        count(pairs.total),
    ]


def _judged(row: Judged) -> list[str]:
    names = (_name(name) for name in (row.upstream, row.task, row.quality, row.judge))
    counts = (count(number) for number in (row.losses, row.wins, row.ties))
    rest = (
        _interval(row.net, row.p_adjusted),
        p_value(row.p_adjusted),
        share(row.flips),
        share(row.unread),
        count(row.total),
    )
    return [*names, *counts, *rest]


def _interval(figure: Interval, p: float) -> str:
    shown = f"{points(figure.value)} [{points(figure.low)}, {points(figure.high)}]"
    return shown if tone(figure, p) == "open" else f"**{shown}**"


def _kappa(row: Agreed) -> str:
    return "none" if row.kappa is None else f"{row.kappa:.2f}"


def _table(headings: Sequence[str], rows: Sequence[Iterable[str]]) -> Iterator[str]:
    if not rows:
        return
    yield f"| {' | '.join(headings)} |"
    yield f"|{'---|' * len(headings)}"
    yield from (f"| {' | '.join(row)} |" for row in rows[:_MOST])
    yield f"\n{count(len(rows) - _MOST)} more rows stand in report.csv.\n" if len(rows) > _MOST else ""


def _name(text: str) -> str:
    """A name as code, so that nothing in it is a link, a mention, or HTML."""
    shown = " ".join(visible(text).split()).replace("`", "'").replace("|", "\\|")
    return f"`{shown}`" if shown else ""


def _prose(text: str) -> str:
    """A sentence in which a name is no Markdown, and calls nobody."""
    signs = {sign: f"\\{sign}" for sign in "\\`*_[]<>#|~"} | {"@": "`@`", "\n": " "}
    return visible(text).translate(str.maketrans(signs))
