"""Rows out of JSONL, JSON and Parquet files and standard input, with memory flat in their number."""

import codecs
import gzip
import json
import re
import sys
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from itertools import islice
from pathlib import Path
from typing import IO, Generic, NamedTuple, TypeVar

import orjson

from aligner.errors import InputFileError, MisuseError, bad_row
from aligner.files.bad_rows import BadRow, BadRows, Row, RowError
from aligner.files.parquet import read_parquet
from aligner.files.paths import is_stream, kind_of

T = TypeVar("T")


class Place(NamedTuple):
    """Where to begin to read: at this line, and, where the file has lines that can be found so, at this byte."""

    line: int = 1
    byte: int = 0


_START = Place()


class Parsed(NamedTuple, Generic[T]):
    """A row and what was made of it."""

    row: Row
    value: T


def read_rows(path: Path | str, *, bad_rows: BadRows, begin: Place = _START) -> Iterator[Row]:
    """The rows of a JSONL, JSON or Parquet file, gzipped or not, or of standard input (`-`), from some place on.

    A pipe or a device is read as JSONL whatever its name; of a `.json` file, one list of objects is read whole.
    Raises MisuseError at once for a path that cannot be read, and InputFileError for a file that is damaged.
    """
    source = Path(path)
    kind = _line_rows if _is_input_stream(source) else INPUTS[kind_of(source, INPUTS)]
    rows = kind(source, begin)
    return _without_bad(rows, bad_rows)


def read(
    path: Path | str, parse: Callable[[dict[str, object]], T], *, bad_rows: BadRows, begin: Place = _START
) -> Iterator[Parsed[T]]:
    """The rows of a file with what `parse` makes of each; a RowError that it raises makes a row a bad one."""
    rows = read_rows(path, bad_rows=bad_rows, begin=begin)
    return _parsed(_label(Path(path)), rows, parse=parse, bad_rows=bad_rows)


def _parsed(
    file: str, rows: Iterator[Row], *, parse: Callable[[dict[str, object]], T], bad_rows: BadRows
) -> Iterator[Parsed[T]]:
    for row in rows:
        try:
            value = parse(row.data)
        except RowError as error:
            bad_rows(BadRow(file, row.line, str(error), row.data))
        else:
            yield Parsed(row, value)


def _without_bad(rows: Iterator[Row | BadRow], bad_rows: BadRows) -> Iterator[Row]:
    for row in rows:
        if isinstance(row, BadRow):
            bad_rows(row)
        else:
            yield row


def _is_input_stream(path: Path) -> bool:
    """Whether to read a stream; raises MisuseError at once when there is nothing to read."""
    try:
        if is_stream(path):
            return True
        if path.is_dir():
            raise MisuseError(f"{path}: is a folder, not a file")
        path.open("rb").close()
    except FileNotFoundError:
        raise MisuseError(f"{path}: no such file") from None
    except OSError as error:
        raise MisuseError(f"{path}: cannot be read: {error.strerror}") from error
    return False


_DAMAGE = (EOFError, zlib.error, OSError)


def _label(path: Path) -> str:
    return "stdin" if str(path) == "-" else str(path)


def _open(path: Path) -> AbstractContextManager[IO[bytes] | gzip.GzipFile]:
    if str(path) == "-":
        return nullcontext(sys.stdin.buffer)
    return gzip.open(path) if path.name.lower().endswith(".gz") else path.open("rb")


def line_starts(path: Path) -> Iterator[int]:
    """The byte at which each line begins, where a file can be read from there on; nothing for other kinds."""
    if kind_of(path, INPUTS) not in _SEEKABLE:
        return
    byte = 0
    with path.open("rb") as lines:
        for line in lines:
            yield byte
            byte += len(line)


def _line_rows(path: Path, begin: Place) -> Iterator[Row | BadRow]:
    file, line = _label(path), 0
    with _open(path) as lines:
        try:
            for line, whole in _lines_from(lines, begin):
                text = whole.removeprefix(codecs.BOM_UTF8).strip() if line == 1 else whole.strip()
                if text:
                    yield _json_row(file, line, text=text, torn=not whole.endswith(b"\n"))
        except _DAMAGE as error:
            raise bad_row(file, line + 1, f"the file is damaged from here on: {error}") from error


def _lines_from(lines: IO[bytes] | gzip.GzipFile, begin: Place) -> Iterator[tuple[int, bytes]]:
    """Lines with their numbers, counted from the file's first."""
    if begin.byte:
        lines.seek(begin.byte)
        return enumerate(lines, begin.line)
    return islice(enumerate(lines, 1), begin.line - 1, None)


def _json_row(file: str, line: int, *, text: bytes, torn: bool = False) -> Row | BadRow:
    try:
        data = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        problem = _json_problem(text, error) + (" (the file ends inside this row)" if torn else "")
        return BadRow(file, line, problem, text.decode(errors="backslashreplace"))
    return Row(line, data) if isinstance(data, dict) else BadRow(file, line, "not a JSON object", data)


def _json_problem(text: bytes, error: json.JSONDecodeError) -> str:
    try:
        text.decode()
    except UnicodeDecodeError as wrong:
        return f"invalid UTF-8: byte {wrong.start + 1} is 0x{text[wrong.start]:02x}"
    if "surrogate" in error.msg:
        return f"not valid Unicode: half a surrogate pair before column {error.colno}"
    return f"invalid JSON: {error.msg} at column {error.colno}"


def _json_rows(path: Path, begin: Place) -> Iterator[Row | BadRow]:
    """A `.json` file holds one list of objects, as the authors of Aligner write it, or else JSONL."""
    try:
        with _open(path) as lines:
            starts = (line.removeprefix(codecs.BOM_UTF8).strip()[:1] for line in lines)
            is_list = next(filter(None, starts), b"") == b"["
        yield from (row for row in _list_rows(path) if row.line >= begin.line) if is_list else _line_rows(path, begin)
    except _DAMAGE as error:
        raise InputFileError(f"{path}: the file is damaged: {error}") from error


def _list_rows(path: Path) -> Iterator[Row | BadRow]:
    text = _whole_text(path)
    line, counted = 1, 0
    for start, end in _items(path, text):
        line, counted = line + text.count("\n", counted, start), start
        yield _json_row(str(path), line, text=text[start:end].encode())


def _whole_text(path: Path) -> str:
    with _open(path) as file:
        data = file.read()
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise bad_row(path, data.count(b"\n", 0, error.start) + 1, "invalid UTF-8") from error


def _items(path: Path, text: str) -> Iterator[tuple[int, int]]:
    """Where each item of the list starts and ends; an error in a list is final, as no item can be found behind it."""
    start = _skip_space(text, text.index("[") + 1)
    closed = text.startswith("]", start)
    while not closed:
        end = _end_of_item(path, text, start=start)
        yield start, end
        start = _skip_space(text, end)
        closed = text.startswith("]", start)
        if not closed and not text.startswith(",", start):
            raise _bad_list(path, text, position=start, reason='"," or "]" is missing')
        start = start if closed else _skip_space(text, start + 1)
    if text[start + 1 :].strip():
        raise _bad_list(path, text, position=start, reason="something follows the list")


def _end_of_item(path: Path, text: str, *, start: int) -> int:
    try:
        return _SCANNER.raw_decode(text, start)[1]
    except json.JSONDecodeError as error:
        raise _bad_list(path, text, position=error.pos, reason=error.msg) from error
    except RecursionError as error:
        raise _bad_list(path, text, position=start, reason="nested too deeply") from error


def _bad_list(path: Path, text: str, *, position: int, reason: str) -> InputFileError:
    return bad_row(path, text.count("\n", 0, position) + 1, f"invalid JSON: {reason}")


_SCANNER = json.JSONDecoder()
_SPACE = re.compile(r"[ \t\r\n]*")


def _skip_space(text: str, position: int) -> int:
    match = _SPACE.match(text, position)
    return match.end() if match else position


def _parquet_rows(path: Path, begin: Place) -> Iterator[Row | BadRow]:
    for line, row in enumerate(read_parquet(path, first=begin.line), begin.line):
        yield Row(line, row) if row is not None else BadRow(str(path), line, "invalid UTF-8", None)


INPUTS: Mapping[str, Callable[[Path, Place], Iterator[Row | BadRow]]] = {
    ".jsonl": _line_rows,
    ".jsonl.gz": _line_rows,
    ".ndjson": _line_rows,
    ".ndjson.gz": _line_rows,
    ".json": _json_rows,
    ".json.gz": _json_rows,
    ".parquet": _parquet_rows,
}
"""The kinds of files that can be read, by their ending."""
_SEEKABLE = (".jsonl", ".ndjson")
