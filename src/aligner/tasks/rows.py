"""Rows of benchmark files: JSONL, JSON, Parquet and CSV of any delimiter, each with its place in the file."""

import csv
import io
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, cast

import orjson

from aligner.errors import InputFileError, MisuseError, bad_row
from aligner.files import RowError, bad_rows_named, read_rows
from aligner.tasks.task import Item


class Place(NamedTuple):
    """Where a row stands; `number` counts the rows of one file from 0."""

    file: Path
    line: int
    number: int


Parse = Callable[[Mapping[str, object], Place], Item | None]
"""Makes an item of a row, or nothing of one that is no part of the set; RowError says what is wrong with it."""


def read_items(path: Path, parse: Parse, *, files: tuple[str, ...]) -> Iterator[Item]:
    """The items of a file, or of the files in a folder that match the first of some patterns that any matches."""
    for file in find(path, files):
        for number, (line, row) in enumerate(_rows(file)):
            try:
                item = parse(row, Place(file, line, number))
            except RowError as error:
                raise bad_row(file, line, str(error)) from error
            if item is not None:
                yield item


def find(path: Path, patterns: tuple[str, ...]) -> list[Path]:
    """The files that are meant; raises MisuseError where there are none."""
    if not path.is_dir():
        if not path.exists():
            raise MisuseError(f"{path}: no such file or folder")
        return [path]
    for pattern in patterns:
        if found := sorted(path.glob(pattern)):
            return found
    raise MisuseError(f"{path}: holds none of {', '.join(patterns)}")


def read_json(path: Path) -> Any:
    """The whole of a JSON file; InputFileError says where it is none."""
    try:
        text = path.read_bytes()
        return orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise bad_row(path, error.lineno, f"invalid JSON: {error.msg}") from error
    except OSError as error:
        raise MisuseError(f"{path}: cannot be read: {error.strerror}") from error


def _rows(file: Path) -> Iterator[tuple[int, Mapping[str, object]]]:
    if file.suffix.lower() == ".csv":
        return _csv_rows(file)
    return ((row.line, row.data) for row in read_rows(file, bad_rows=bad_rows_named("stop", file)))


def _csv_rows(file: Path) -> Iterator[tuple[int, Mapping[str, object]]]:
    """Rows by their column names; the header says whether "," or ";" parts them."""
    text = _text(file)
    header = text.partition("\n")[0]
    reader = csv.reader(io.StringIO(text), delimiter=max(",;\t", key=header.count), strict=True)
    line = 1
    try:
        names = next(reader, list[str]())
        line = reader.line_num + 1
        for cells in reader:
            if cells:
                yield line, _named(file, line, names=names, cells=cells)
            line = reader.line_num + 1
    except csv.Error as error:
        raise bad_row(file, line, f"invalid CSV: {error}") from error


def _named(file: Path, line: int, *, names: list[str], cells: list[str]) -> dict[str, object]:
    if len(cells) < len(names) or any(cell.strip() for cell in cells[len(names) :]):
        raise bad_row(file, line, f"has {len(cells)} cells, where the header has {len(names)}")
    return {name.strip(): cell for name, cell in zip(names, cells, strict=False) if name.strip()}


def _text(file: Path) -> str:
    """UTF-8, or else cp1252, in which some published files are written."""
    try:
        data = file.read_bytes()
    except OSError as error:
        raise MisuseError(f"{file}: cannot be read: {error.strerror}") from error
    for encoding in ("utf-8-sig", "cp1252"):
        try:
            return data.decode(encoding)
        except UnicodeDecodeError:
            continue
    raise InputFileError(f"{file}: is neither UTF-8 nor cp1252")


def texts_of(value: object, name: str) -> list[str]:
    """A list of texts; RowError calls it `name` where it is something else."""
    items = cast("list[object]", value) if isinstance(value, list) else None
    if items is None or not all(isinstance(item, str) for item in items):
        raise RowError(f'"{name}" is not a list of texts')
    return cast("list[str]", items)


def number_of(value: object, name: str) -> int:
    """A whole number, as such or as text."""
    text = str(value).strip()
    if isinstance(value, bool) or not text.isdecimal():
        raise RowError(f'"{name}" is not a whole number')
    return int(text)
