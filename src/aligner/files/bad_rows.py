"""Rows of files, and what becomes of those that cannot be used."""

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Literal, NamedTuple, Protocol

import orjson

from aligner.errors import bad_row, unknown
from aligner.files.output import OutputFile
from aligner.files.paths import beside, is_stream


class Row(NamedTuple):
    """One row of a file; `line` counts from 1, and in Parquet it counts rows."""

    line: int
    data: dict[str, object]


class BadRow(NamedTuple):
    """A row that cannot be used: an object, or its text where it could not even be parsed."""

    file: str
    line: int
    problem: str
    row: object


class RowError(ValueError):
    """Why a row cannot be used, in a few words; whoever reads the file adds file and line."""


class BadRows(Protocol):
    """What becomes of the rows that cannot be used."""

    @property
    def reasons(self) -> Mapping[str, int]:
        """How many rows were skipped for which reason."""
        ...

    def __call__(self, row: BadRow, /) -> None:
        """Stop, or keep the row and go on."""
        ...

    def finish(self) -> None:
        """Take note that all rows have been read."""
        ...


class StopAtBadRow:
    """The first bad row is an error."""

    reasons: Mapping[str, int] = MappingProxyType({})

    def __call__(self, row: BadRow, /) -> None:
        """Raise InputFileError."""
        raise bad_row(row.file, row.line, row.problem)

    def finish(self) -> None:
        """Nothing was skipped."""


class SkipBadRows:
    """Bad rows go to `<out>.skipped.jsonl`, which is made for the first of them.

    Work that is taken up again reads its rows from the start, so each run begins the file anew.
    """

    def __init__(self, out: Path | str) -> None:
        result = Path(out)
        self.path = beside(Path("stdout") if is_stream(result) else result, ".skipped.jsonl")
        self.reasons: Counter[str] = Counter()

    def __call__(self, row: BadRow, /) -> None:
        """Write down the row with its file, line and problem."""
        text = orjson.dumps(row._asdict(), default=repr, option=orjson.OPT_APPEND_NEWLINE)
        with OutputFile(self.path, "ab" if self.reasons else "wb", out=self.path) as file:
            file.write(text)
        self.reasons[row.problem.partition(":")[0]] += 1

    def finish(self) -> None:
        """Remove what an earlier run had skipped, when this one skipped nothing."""
        if not self.reasons:
            self.path.unlink(missing_ok=True)


def bad_rows_named(name: Literal["stop", "skip"], out: Path | str) -> BadRows:
    """The policy of that name, for work whose result goes to `out`."""
    if name not in ("stop", "skip"):
        raise unknown("policy for bad rows", name, ("stop", "skip"))
    return SkipBadRows(out) if name == "skip" else StopAtBadRow()
