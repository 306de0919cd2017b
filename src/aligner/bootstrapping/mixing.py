"""Lessons: what a round learns from, what else is mixed in, and what it is only watched by."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from random import Random
from typing import Any, TypeVar

from aligner.bootstrapping.nouns import Gated, Lesson, Pair
from aligner.config.bootstrapping import BootstrapMix, PairGate, Way
from aligner.data.fields import as_asked
from aligner.evaluating.kept import key_of
from aligner.files import RowError, bad_rows_named, read, write_rows
from aligner.records import Question

_WATCHED_SHARE = 0.05
_MOST_WATCHED = 200
_LEAST_LEARNT = 20
"""corrections of a round below which none is kept from learning"""
_SINGLE = ("sft", "kto")
"""ways that learn from answers one by one"""
T = TypeVar("T")


def lesson_of(  # noqa: PLR0913  # three sources, and what is said of each
    gated: Sequence[Gated],
    earlier: Sequence[Gated],
    original: Sequence[tuple[Question, str]],
    *,
    mix: BootstrapMix,
    gate: PairGate,
    way: Way,
    seed: int,
) -> Lesson:
    """What one round learns, in an order by the seed; nothing that has the question of a watched row is learnt from.

    Rows without a rejected side are learnt where a way can: unchanged answers in sft and kto, the original rows in sft.
    In kto, a correction that the judge finds worse is rejected too. What other ways leave out is told by `left_out`.
    There may be nothing to learn.
    """
    learnt = [row for row in gated if row.fate == "learnt"]
    watched = _watched(learnt)
    kept_away = {pair.question for pair in watched}
    corrections = [_pair(row) for row in learnt if row.question not in kept_away]
    before = [_pair(row) for row in earlier if row.fate == "learnt" and row.question not in kept_away]
    pairs = [*corrections, *_drawn(before, mix.earlier * len(corrections), f"{seed} earlier")]
    single = [*_unchanged(gated, gate), *(_worse(gated) if way == "kto" else [])] if way in _SINGLE else []
    apart = [pair for pair in single if pair.question not in kept_away]
    if way == "sft":
        others = [Pair(question, text, None) for question, text in original if question not in kept_away]
        pairs += _drawn(others, mix.original_share * (len(corrections) + len(apart)), f"{seed} original")
    pairs += apart
    Random(f"{seed} order").shuffle(pairs)
    return Lesson(pairs, watched)


def left_out(
    gated: Sequence[Gated],
    original: Sequence[tuple[Question, str]],
    *,
    mix: BootstrapMix,
    gate: PairGate,
    way: Way,
) -> Mapping[str, int]:
    """How many unchanged and original rows, at the most, a way cannot learn from that needs a rejected side."""
    if way == "sft":
        return {}
    learnt = sum(row.fate == "learnt" for row in gated)
    counts = {
        "unchanged": 0 if way in _SINGLE else len(_unchanged(gated, gate)),
        "original": min(round(mix.original_share * learnt), len(original)),
    }
    return {name: count for name, count in counts.items() if count}


def save_lesson(lesson: Lesson, path: Path) -> None:
    """Write a lesson as rows, those that are learnt from first."""
    rows = [*((pair, False) for pair in lesson.pairs), *((pair, True) for pair in lesson.watched)]
    write_rows(path, ({**pair._asdict(), "watched": watched} for pair, watched in rows))


def lesson_in(path: Path) -> Lesson:
    """What `save_lesson` wrote; raises InputFileError for another file."""
    rows = [parsed.value for parsed in read(path, _row_of, bad_rows=bad_rows_named("stop", path))]
    return Lesson([pair for pair, watched in rows if not watched], [pair for pair, watched in rows if watched])


def _watched(learnt: Sequence[Gated]) -> list[Pair]:
    """The rows whose questions have the lowest hashes: the same whatever the seed, the arm, and the order."""
    if len(learnt) < _LEAST_LEARNT:
        return []
    count = min(max(round(_WATCHED_SHARE * len(learnt)), 1), _MOST_WATCHED)
    return [_pair(row) for row in sorted(learnt, key=lambda row: key_of(row.question))[:count]]


def _unchanged(gated: Sequence[Gated], gate: PairGate) -> list[Pair]:
    if gate.unchanged == "leave":
        return []
    return [Pair(row.question, row.correction, None) for row in gated if row.fate == "unchanged"]


def _worse(gated: Sequence[Gated]) -> list[Pair]:
    """Corrections that the judge finds worse than the answer by something, and better by nothing."""
    rows = [row for row in gated if row.fate == "not preferred"]
    return [_swapped(row) for row in rows if "a" in row.said.values() and "b" not in row.said.values()]


def _swapped(row: Gated) -> Pair:
    return Pair(row.question, row.answer, row.correction)


def _pair(row: Gated) -> Pair:
    return Pair(row.question, row.correction, row.answer)


def _drawn(rows: Sequence[T], wanted: float, seed: str) -> list[T]:
    return Random(seed).sample(rows, min(round(wanted), len(rows)))


def _row_of(row: dict[str, Any]) -> tuple[Pair, bool]:
    fields: dict[str, Any] = {**row, "question": as_asked(row.get("question"), "question")}
    try:
        watched = fields.pop("watched")
        return Pair(**fields), watched
    except (KeyError, TypeError):
        raise RowError("is no row of a lesson") from None
