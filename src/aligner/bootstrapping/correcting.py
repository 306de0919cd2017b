"""What the Aligners make of the upstream's answers, as a file of rows that survives `kill -9`."""

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from rapidfuzz.distance import Levenshtein

from aligner.bootstrapping.answering import digest_of, keep_rows, row_of, text_in
from aligner.bootstrapping.lineage import Place
from aligner.bootstrapping.nouns import Asked, Corrected
from aligner.correcting.rows import windows
from aligner.correcting.stacking import Corrects, Stacked, check_stack, steps_many
from aligner.data.fields import as_asked, kind_of
from aligner.files import RowError, bad_rows_named, read
from aligner.jobs import Tick
from aligner.models.batched import AHEAD
from aligner.records import Exchange

_TOKEN = re.compile(r"\s*(?:\w+|[^\w\s])|\s+")


def correct(
    aligners: Sequence[Corrects], asked: Sequence[Asked], *, passes: int, batch: int, place: Place, tick: Tick
) -> None:
    """Write what the row of Aligners makes of each answer, so many times over; taken up again, it is the same file.

    An answer that was cut off or is empty stays as it is. Raises MisuseError for fewer passes than one.
    """
    check_stack(aligners, passes=passes, order="given")
    writers = [aligner.writer.fingerprint for aligner in aligners]
    run = {"corrections": digest_of(asked), "aligners": writers, "passes": passes, "batch": batch}

    def rows_from(first: int) -> Iterator[Mapping[str, object]]:
        for window in windows(asked[first:], AHEAD * batch):
            yield from map(_row_of, _corrected(aligners, window, passes=passes, batch=batch))

    keep_rows(place, run, rows_from, window=AHEAD * batch, tick=tick)


def corrected_in(path: Path) -> list[Corrected]:
    """The rows of such a file; raises InputFileError for one that is none of its rows."""
    return [row.value for row in read(path, _read, bad_rows=bad_rows_named("stop", path))]


def edit_of(answer: str, correction: str) -> float:
    """The least share of tokens that have to be changed, added or taken away: 0 for equal texts alone, at most 1.

    Of the tokens of the longer text; they are words and marks with the white space before them, as every Aligner has
    tokens of its own, and some have none.
    """
    old, new = _TOKEN.findall(answer), _TOKEN.findall(correction)
    return Levenshtein.normalized_distance(old, new)


def _corrected(
    aligners: Sequence[Corrects], window: Sequence[Asked], *, passes: int, batch: int
) -> Iterator[Corrected]:
    whole = [Exchange(row.question, row.answer) for row in window if _unfit(row) is None]
    stacked = steps_many(aligners, whole, passes=passes, batch=batch)
    for row in window:
        yield _kept(row, unfit) if (unfit := _unfit(row)) else _made(row, next(stacked))


def _unfit(row: Asked) -> str | None:
    """Why an answer is not corrected."""
    if row.finish != "stop":
        return "the answer was cut off"
    return None if row.answer.strip() else "the answer was empty"


def _kept(row: Asked, reason: str) -> Corrected:
    return Corrected(row.question, row.answer, row.answer, row.finish, 0.0, reason)


def _made(row: Asked, stacked: Stacked) -> Corrected:
    reasons = (step.correction.kept_reason for step in stacked.steps if stacked.text == row.answer)
    reason = next(filter(None, reasons), None)
    return Corrected(row.question, row.answer, stacked.text, row.finish, edit_of(row.answer, stacked.text), reason)


def _row_of(row: Corrected) -> Mapping[str, object]:
    asked = row_of(Asked(row.question, row.answer, row.finish))
    return {**asked, "correction": row.correction, "edit": row.edit, "kept_reason": row.kept_reason}


def _read(row: Mapping[str, object]) -> Corrected:
    edit = row.get("edit")
    if not isinstance(edit, float | int) or isinstance(edit, bool):
        raise RowError(f'"edit" is {kind_of(edit)}, not a number')
    return Corrected(
        as_asked(row.get("question"), "question"),
        text_in(row, "answer"),
        text_in(row, "correction"),
        text_in(row, "finish"),
        float(edit),
        None if row.get("kept_reason") is None else text_in(row, "kept_reason"),
    )
