"""Rows of a file of answers: what is asked of each, what becomes of it, and of one that cannot be corrected."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TypeVar

from aligner.correcting.work import why
from aligner.data.fields import exchange_of, instruction_of
from aligner.errors import AlignerError, bad_row
from aligner.files import Row, RowError
from aligner.files.reading import Parsed
from aligner.records import Correction, Exchange
from aligner.sharding.suspects import Suspects

T = TypeVar("T")
Asked = Parsed[Exchange]
CorrectMany = Callable[[Sequence[Exchange]], Iterable[Correction]]
Failing = Callable[[Asked, str], Correction]
"""what becomes of a row that cannot be corrected, and why it could not"""

_OF_ONE_REQUEST = (400, 413, 422)
"""statuses by which a server refuses what one row asks"""


def asked_of(row: Mapping[str, object], instruction: str, takes_instructions: Callable[[], bool]) -> Exchange:
    """The exchange in a row, which is told the instruction unless it has one of its own; raises RowError.

    Whether the Aligner takes instructions is asked only where a row has one.
    """
    exchange = exchange_of(row, instruction=instruction)
    if exchange.instruction and not takes_instructions():
        cure = "leave the column out, or take an Aligner that was trained on rows with instructions"
        raise RowError(f'"instruction" or "objective" tells the Aligner something, and this one takes none: {cure}')
    return exchange


def result_of(row: Row, correction: Correction) -> dict[str, object]:
    """The row as it was read, and what became of its answer; fields of the same names stay as `given_…`."""
    found = {"correction": correction.text, "changed": correction.changed, "kept_reason": correction.kept_reason}
    given = {f"given_{name}": row.data[name] for name in found if name in row.data}
    return {**row.data, **given, **found}


def outcomes(results: Iterable[Mapping[str, object]], instruction: str) -> Counter[str]:
    """How many answers were changed, unchanged or kept, and how many were told something else than the instruction."""
    counts = Counter[str]()
    for result in results:
        kept = result["kept_reason"]
        counts[f"kept ({kept})" if kept else "changed" if result["changed"] else "unchanged"] += 1
        if instruction_of(result) not in ("", instruction):
            counts["told by an instruction of their own"] += 1
    return counts


@dataclass(frozen=True, slots=True)
class KeepAnswer:
    """Where a correction fails, the row keeps its answer and says why."""

    def __call__(self, asked: Asked, problem: str) -> Correction:
        """The answer as it was."""
        return Correction(exchange=asked.value, text=asked.value.answer, kept_reason=problem)


@dataclass(frozen=True, slots=True)
class Stop:
    """Where a correction fails, the run ends with the row's place."""

    answers: Path

    def __call__(self, asked: Asked, problem: str) -> Correction:
        """Raise InputFileError."""
        raise bad_row("stdin" if str(self.answers) == "-" else self.answers, asked.row.line, problem)


def corrections_of(
    window: Sequence[Asked], correct_many: CorrectMany, *, failing: Failing, suspects: Suspects
) -> list[Correction]:
    """A correction for each row of a window, which share their passes unless one of them fails.

    Where something fails that may be one row's, each is corrected alone; where all of them fail then, it is nothing
    about rows, and the first failure is raised. Rows that ended their process are not tried again.
    """
    well = [asked for asked in window if not suspects.is_given_up(asked.row.line)]
    tried = iter(_tried(well, correct_many, failing, suspects) if well else ())
    deadly = "the correction ended its process"
    return [failing(asked, deadly) if suspects.is_given_up(asked.row.line) else next(tried) for asked in window]


def windows(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """The items in lists of `size`, the last one perhaps shorter; raises ValueError for a size under 1."""
    if size < 1:
        raise ValueError(f"no windows of {size} items")
    iterator = iter(items)
    while window := list(islice(iterator, size)):
        yield window


def _tried(
    window: Sequence[Asked], correct_many: CorrectMany, failing: Failing, suspects: Suspects
) -> list[Correction]:
    if not suspects.careful:
        try:
            return list(correct_many([asked.value for asked in window]))
        except Exception as error:
            if not _may_be_of_one_row(error):
                raise
    made = [_alone(asked, correct_many, suspects) for asked in window]
    failures = [one for one in made if isinstance(one, Exception)]
    if len(failures) == len(made) > 1:
        raise failures[0]
    return [
        failing(asked, why(one)[1]) if isinstance(one, Exception) else one
        for asked, one in zip(window, made, strict=True)
    ]


def _alone(asked: Asked, correct_many: CorrectMany, suspects: Suspects) -> Correction | Exception:
    with suspects.trying(asked.row.line):
        try:
            (correction,) = correct_many([asked.value])
        except Exception as error:
            if not _may_be_of_one_row(error):
                raise
            return error
        return correction


def _may_be_of_one_row(error: Exception) -> bool:
    """Whether another row may pass where this one failed: not where a server is down or a setting is wrong."""
    return not isinstance(error, AlignerError) or getattr(error, "status", None) in _OF_ONE_REQUEST
