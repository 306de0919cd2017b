"""The figures of a report as rows, as JSON, and back."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass
from math import isfinite
from pathlib import Path
from typing import Any, NamedTuple, cast

import orjson

from aligner.errors import InputFileError
from aligner.evaluating.content import Overlapped
from aligner.evaluating.evidence import Agreed, Edited, Evidence, Judged, Marked, Timed
from aligner.scoring.changes import Changes
from aligner.scoring.intervals import Interval
from aligner.scoring.pairs import Pairs
from aligner.scoring.shares import wilson


class Figure(NamedTuple):
    """One figure, and the ends of its 95 % interval where it has one."""

    upstream: str
    task: str
    kind: str
    """judged, marked, edited, agreed, timed or overlap"""
    judge: str
    quality: str
    name: str
    value: float
    low: float | None = None
    high: float | None = None
    n: int | None = None


class Named(NamedTuple):
    """A figure before it is known whose it is."""

    name: str
    value: float
    low: float | None = None
    high: float | None = None


def figures_of(evidence: Evidence, overlaps: Sequence[Overlapped] = ()) -> Iterator[Figure]:
    """All figures, those that speak against the Aligner first."""
    totals = {(row.upstream, row.task): row.changes.total for row in evidence.edited}
    for judged in evidence.judged:
        for named in _judged(judged):
            yield Figure(judged.upstream, judged.task, "judged", judged.judge, judged.quality, *named, judged.total)
    for marked in evidence.marked:
        for named in _marked(marked):
            yield Figure(marked.upstream, marked.task, "marked", "", "", *named, marked.pairs.total)
    for edited in evidence.edited:
        for named in _edited(edited):
            yield Figure(edited.upstream, edited.task, "edited", "", "", *named, edited.changes.total)
    for agreed in evidence.agreed:
        judges, pairs = " and ".join(agreed.judges), agreed.pairs
        named = [_of("same verdict", round(agreed.same * pairs), pairs)]
        named += [] if agreed.kappa is None else [Named("Cohen's kappa", agreed.kappa)]
        yield from (Figure("", agreed.task, "agreed", judges, agreed.quality, *one, pairs) for one in named)
    for over in overlaps:
        for named in (_of("elsewhere", over.flagged, over.counted), _of("upstream", over.copied, over.counted)):
            yield Figure(over.upstream, over.task, "overlap", "", "", *named, over.counted)
    for timed in evidence.timed:
        for named in _timed(timed):
            yield Figure(timed.upstream, timed.task, "timed", "", "", *named, totals[timed.upstream, timed.task])


def plain(value: Any) -> Any:
    """A value as JSON has it: dataclasses and named tuples are objects."""
    if (fields_of := getattr(value, "_asdict", None)) is not None:
        return plain(fields_of())
    if is_dataclass(value):
        return {field.name: plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, Mapping):
        return {str(key): plain(held) for key, held in cast(Mapping[Any, Any], value).items()}
    if isinstance(value, list | tuple):
        return [plain(held) for held in cast(Sequence[Any], value)]
    return value


def finite(value: Any) -> Any:
    """A plain value with null for every number that is not finite, as JSON knows none."""
    if isinstance(value, Mapping):
        return {key: finite(held) for key, held in cast(Mapping[Any, Any], value).items()}
    if isinstance(value, list | tuple):
        return [finite(held) for held in cast(Sequence[Any], value)]
    return None if isinstance(value, float) and not isfinite(value) else value


def evidence_of(found: Mapping[str, Any]) -> Evidence:
    """The evidence that a report's JSON tells; raises KeyError or TypeError for another JSON."""
    return Evidence(
        tuple(map(_judged_of, found["judged"])),
        tuple(map(_marked_of, found["marked"])),
        tuple(map(_edited_of, found["edited"])),
        tuple(map(_timed_of, found["timed"])),
        tuple(map(_agreed_of, found.get("agreed", ()))),
    )


def _agreed_of(row: Mapping[str, Any]) -> Agreed:
    ours, theirs = row["judges"]
    rest: dict[str, Any] = {name: value for name, value in row.items() if name != "judges"}
    return Agreed(judges=(ours, theirs), **rest)


def overlaps_of(found: Mapping[str, Any]) -> list[Overlapped]:
    """The overlaps that a report's JSON tells."""
    return [Overlapped(**row) for row in found["overlaps"]]


def read_report(path: Path) -> Mapping[str, Any]:
    """A report.json; raises InputFileError for any other file."""
    try:
        found = orjson.loads(path.read_bytes())
        evidence_of(found)
        overlaps_of(found)
    except OSError as error:
        raise InputFileError(f"{path}: cannot be read: {error.strerror or error}") from None
    except (orjson.JSONDecodeError, KeyError, TypeError, AttributeError):
        raise InputFileError(f"{path}: is no report.json of aligner evaluate") from None
    return found


def _judged(row: Judged) -> Iterator[Named]:
    yield Named("net rate", *row.net)
    yield _of("losses", row.losses, row.total)
    yield _of("wins", row.wins, row.total)
    yield _of("ties", row.ties, row.total)
    yield Named("p", row.p)
    yield Named("Holm p", row.p_adjusted)
    if row.controlled is not None:
        yield Named("win rate at equal length", row.controlled)
    if row.like_length is not None:
        yield Named("net rate of like length", *row.like_length)
    unread = round(row.unread * row.asked)
    read = row.asked - unread
    if read:
        yield _of("flips", round(row.flips * read), read)
    if row.asked:
        yield _of("unread", unread, row.asked)


def _marked(row: Marked) -> Iterator[Named]:
    yield Named("gain", *row.gain)
    yield _of("broken", row.pairs.broken, row.pairs.total)
    yield _of("fixed", row.pairs.fixed, row.pairs.total)
    yield _of("right before", row.pairs.before, row.pairs.total)
    yield _of("right after", row.pairs.after, row.pairs.total)
    yield Named("p", row.p)
    yield Named("Holm p", row.p_adjusted)


def _edited(row: Edited) -> Iterator[Named]:
    yield _of("untouched", row.changes.identical, row.changes.total)
    yield Named("copied", row.changes.copied)
    yield Named("kept", row.changes.kept)
    yield Named("regions", row.changes.regions)
    yield Named("length ratio", row.changes.length_ratio)
    yield Named("tokens", row.tokens)


def _timed(row: Timed) -> Iterator[Named]:
    for name, (median, slow) in (("answer", row.answer), ("correction", row.correct)):
        yield Named(f"{name}, median seconds", median)
        yield Named(f"{name}, 95th percentile of seconds", slow)


def _of(name: str, counted: int, total: int) -> Named:
    """A share, with the interval of Wilson (1927)."""
    interval = wilson(counted, total)
    return Named(name, counted / total, *interval) if interval else Named(name, 0.0)


def _judged_of(row: dict[str, Any]) -> Judged:
    like = row["like_length"]
    return Judged(**_with(row, net=Interval(**row["net"]), like_length=None if like is None else Interval(**like)))


def _marked_of(row: dict[str, Any]) -> Marked:
    return Marked(**_with(row, pairs=Pairs(**row["pairs"]), gain=Interval(**row["gain"])))


def _edited_of(row: dict[str, Any]) -> Edited:
    reasons = tuple((str(reason), int(number)) for reason, number in row["kept_reasons"])
    changes = Changes(**row["changes"])
    return Edited(**_with(row, changes=changes, copied=tuple(row["copied"]), kept_reasons=reasons))


def _timed_of(row: dict[str, Any]) -> Timed:
    return Timed(**_with(row, answer=tuple(row["answer"]), correct=tuple(row["correct"])))


def _with(row: dict[str, Any], **given: Any) -> dict[str, Any]:
    return {**row, **given}
