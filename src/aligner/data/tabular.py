"""Rows of CSV files, as of all others that can be read: by the names in their header, each with its line."""

import csv
import gzip
import io
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

from aligner.errors import InputFileError, MisuseError, bad_row
from aligner.files import BadRows, Row, RowError
from aligner.files import read_rows as rows_of_files
from aligner.files.bad_rows import BadRow
from aligner.files.reading import INPUTS, Parsed

T = TypeVar("T")

ENDINGS = (*INPUTS, ".csv", ".csv.gz", ".tsv", ".tsv.gz")
"""what the name of a file that can be read ends with"""
_TABLES = (".csv", ".csv.gz", ".tsv", ".tsv.gz")
_CURE = 'close each quoted cell, and write a quote inside it twice ("")'
_DAMAGE = (EOFError, zlib.error, OSError)


def read_rows(path: Path | str, *, bad_rows: BadRows) -> Iterator[Row]:
    """The rows of a file of any kind: those of a CSV file hold a text for each column, the others are as they are.

    The header says whether ",", ";" or a tab parts the cells; text is UTF-8, or else cp1252. A row whose cells are
    fewer or more than the header's, or whose quotes do not match, is a bad one. Raises MisuseError for a path that
    cannot be read, and InputFileError for a file that is damaged, or whose header has a name twice. A CSV file is held
    whole.
    """
    source = Path(path)
    if not source.name.lower().endswith(_TABLES) or source.is_dir():
        return rows_of_files(source, bad_rows=bad_rows)
    return _table(source, _text(source), bad_rows)


def read(path: Path | str, parse: Callable[[dict[str, object]], T], *, bad_rows: BadRows) -> Iterator[Parsed[T]]:
    """The rows of a file with what `parse` makes of each; a RowError that it raises makes a row a bad one."""
    for row in read_rows(path, bad_rows=bad_rows):
        try:
            value = parse(row.data)
        except RowError as error:
            bad_rows(BadRow(str(path), row.line, str(error), row.data))
        else:
            yield Parsed(row, value)


def _table(path: Path, text: str, bad_rows: BadRows) -> Iterator[Row]:
    # The module's limit is for streams; this text is held whole.
    csv.field_size_limit(max(csv.field_size_limit(), len(text)))
    rows = _cells(path, list(io.StringIO(text, newline="")), bad_rows)
    line, header = next(rows, (1, list[str]()))
    names = [name.strip() for name in header]
    twice = next((name for name in names if name and names.count(name) > 1), None)
    if line > 1:
        raise bad_row(path, 1, f"the header is invalid CSV: {_CURE}")
    if twice is not None:
        raise bad_row(path, 1, f'the header has the name "{twice}" twice: give each column a name of its own')
    for line, cells in rows:
        if cells:
            yield from _row(path, line, names=names, cells=cells, bad_rows=bad_rows)


def _cells(path: Path, lines: Sequence[str], bad_rows: BadRows) -> Iterator[tuple[int, list[str]]]:
    """The cells of each row and its first line; behind a row with a stray quote it goes on at the next line."""
    delimiter = max(",;\t", key=lines[0].count) if lines else ","
    at = start = 0
    while at < len(lines):
        reader = csv.reader(map(lines.__getitem__, range(at, len(lines))), delimiter=delimiter, strict=True)
        try:
            for cells in reader:
                yield start + 1, cells
                start = at + reader.line_num
        except csv.Error as error:
            bad_rows(BadRow(str(path), start + 1, f"invalid CSV: {error}: {_CURE}", lines[start].rstrip("\r\n")))
            start += 1
            at = start
        else:
            return


def _row(path: Path, line: int, *, names: list[str], cells: list[str], bad_rows: BadRows) -> Iterator[Row]:
    named = dict[str, object]((name, cell) for name, cell in zip(names, cells, strict=False) if name)
    if len(cells) < len(names) or any(cell.strip() for cell in cells[len(names) :]):
        bad_rows(BadRow(str(path), line, f"has {len(cells)} cells, where the header has {len(names)}", named))
    else:
        yield Row(line, named)


def _text(path: Path) -> str:
    try:
        data = path.read_bytes()
        if path.name.lower().endswith(".gz"):
            data = gzip.decompress(data)
    except FileNotFoundError:
        raise MisuseError(f"{path}: no such file") from None
    except _DAMAGE as error:
        raise InputFileError(f"{path}: cannot be read: {error}") from error
    for encoding in ("utf-8-sig", "cp1252"):
        try:
            return data.decode(encoding)
        except UnicodeDecodeError:
            continue
    raise InputFileError(f"{path}: is neither UTF-8 nor cp1252")
