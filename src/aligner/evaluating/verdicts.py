"""What the figures say in words: what was broken before what was fixed."""

from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from typing import NamedTuple, TypeVar

from aligner.evaluating.evidence import Evidence, Judged, Marked
from aligner.evaluating.formats import count, points, seconds, share
from aligner.scoring.intervals import Interval

_FEW = 4
"""pairs of upstream and task up to which each has a sentence of its own"""
CERTAIN = 0.05
"""the p-value, adjusted for all upstreams, below which a difference is more than chance"""
T = TypeVar("T")
Row = TypeVar("Row", Judged, Marked)


class Sentence(NamedTuple):
    """A sentence, and whether what it tells is `good`, `bad`, or `open`."""

    text: str
    tone: str


def sentences(evidence: Evidence, *, timed: bool = False) -> list[Sentence]:
    """What the run shows, on request with its measured times."""
    if len(evidence.edited) <= _FEW:
        judged = [_judged(rows) for rows in _by(evidence.judged, lambda row: (row.upstream, row.task, row.judge))]
        return [*_arms(evidence, timed=timed), *judged]
    marked = [_marked_together(rows) for rows in _by(evidence.marked, lambda row: row.task)]
    judged = [_judged_together(rows) for rows in _by(evidence.judged, lambda row: (row.task, row.judge))]
    return [*marked, _untouched(evidence), *judged, *([_times(evidence)] if timed else [])]


def together(rows: Sequence[Row]) -> list[list[Row]]:
    """The rows of all upstreams together: of one task, and as one judge sees one quality."""
    return _by(rows, lambda row: (row.task, row.quality, row.judge) if isinstance(row, Judged) else row.task)


def tone(interval: Interval, p: float = 0.0) -> str:
    """Whether a difference lies above zero, below, or may be chance: by its interval, and by its adjusted p-value."""
    return "open" if not interval.is_certain or p >= CERTAIN else "good" if interval.low > 0 else "bad"


def _arms(evidence: Evidence, *, timed: bool) -> Iterator[Sentence]:
    """A sentence for each pair of upstream and task."""
    marks = {(row.upstream, row.task): row for row in evidence.marked}
    for edited, measured in zip(evidence.edited, evidence.timed, strict=True):
        row = marks.get((edited.upstream, edited.task))
        where = f"On {count(edited.changes.total)} {edited.task} answers of {edited.upstream} the Aligner"
        left = f"left {share(edited.untouched)} untouched"
        time = f"; +{seconds(measured.correct[0])} median" if timed else ""
        if row is None:
            yield Sentence(f"{where} {left}{time}.", "open")
        else:
            told = f"broke {count(row.pairs.broken)} and fixed {count(row.pairs.fixed)}"
            gained = f"{points(row.gain.value)} points {_ends(row.gain, row.p_adjusted)}"
            yield Sentence(f"{where} {told}: {gained}; it {left}{time}.", tone(row.gain, row.p_adjusted))


def _judged(rows: Sequence[Judged]) -> Sentence:
    """All qualities of one upstream's answers, as one judge sees them."""
    told = (
        f"{_compared(row.quality, [row])}, net rate {points(row.net.value)} % {_ends(row.net, row.p_adjusted)}"
        for row in rows
    )
    where = f"{count(rows[0].total)} {rows[0].task} answers of {rows[0].upstream}"
    return Sentence(
        f"As {rows[0].judge} sees {where}: {'; '.join(told)}.", _worst(tone(row.net, row.p_adjusted) for row in rows)
    )


def _marked_together(rows: Sequence[Marked]) -> Sentence:
    pairs = [row.pairs for row in rows]
    sure = _sure([row.gain for row in rows], [row.p_adjusted for row in rows])
    return Sentence(
        f"On {count(sum(p.total for p in pairs))} {rows[0].task} answers of {len(rows)} upstreams the Aligner "
        f"broke {count(sum(p.broken for p in pairs))} and fixed {count(sum(p.fixed for p in pairs))}: "
        f"{sure.text} (Holm, 5 %).",
        sure.tone,
    )


def _judged_together(rows: Sequence[Judged]) -> Sentence:
    """All qualities and upstreams of a task, as one judge sees them."""
    told = list[Sentence]()
    for group in together(rows):
        sure = _sure([row.net for row in group], [row.p_adjusted for row in group])
        told.append(Sentence(f"{_compared(group[0].quality, group)}: {sure.text}", sure.tone))
    upstreams = len({row.upstream for row in rows})
    where = f"{count(sum(row.total for row in together(rows)[0]))} {rows[0].task} answers of {upstreams} upstreams"
    words = "; ".join(sentence.text for sentence in told)
    return Sentence(
        f"As {rows[0].judge} sees {where}: {words} (Holm, 5 %).", _worst(sentence.tone for sentence in told)
    )


def _compared(quality: str, rows: Sequence[Judged]) -> str:
    losses, wins = (count(sum(numbers)) for numbers in zip(*((row.losses, row.wins) for row in rows), strict=True))
    return f"{losses} became less {quality} and {wins} more"


def _sure(figures: Sequence[Interval], p_values: Sequence[float]) -> Sentence:
    """On how many upstreams a difference is more than chance, after looking at all of them."""
    sure = [figure.value for figure, p in zip(figures, p_values, strict=True) if p < CERTAIN]
    worse, better = sum(value < 0 for value in sure), sum(value > 0 for value in sure)
    numbers = {"worse": worse, "better": better, "undecided": len(figures) - worse - better}
    told = [
        f"{word} on {'all ' if number == len(figures) else ''}{number}" for word, number in numbers.items() if number
    ]
    return Sentence(", ".join(told), "bad" if worse else "good" if better else "open")


def _worst(tones: Iterable[str]) -> str:
    found = set(tones)
    return next((one for one in ("bad", "good") if one in found), "open")


def _untouched(evidence: Evidence) -> Sentence:
    total = sum(edited.changes.total for edited in evidence.edited)
    same = sum(edited.changes.identical for edited in evidence.edited)
    return Sentence(f"It left {share(same / total)} of {count(total)} answers untouched.", "open")


def _times(evidence: Evidence) -> Sentence:
    medians = [seconds(measured.correct[0]) for measured in sorted(evidence.timed, key=lambda row: row.correct[0])]
    return Sentence(f"A correction took {medians[0]} to {medians[-1]} (medians).", "open")


def _ends(interval: Interval, p: float) -> str:
    ends = f"95 % CI {points(interval.low)} to {points(interval.high)}"
    return f"({ends})" if tone(interval, p) != "open" or not interval.value else f"({ends}: this may be chance)"


def _by(rows: Iterable[T], key: Callable[[T], Hashable]) -> list[list[T]]:
    """The rows in lists of the same key, in the order in which the keys first come."""
    groups: dict[Hashable, list[T]] = {}
    for row in rows:
        groups.setdefault(key(row), []).append(row)
    return list(groups.values())
