"""Parquet: rows out of it batch by batch, and made from JSONL under a schema that fits all rows."""

from collections.abc import Iterator, Sequence
from importlib import import_module
from itertools import islice
from pathlib import Path
from typing import Any

import orjson

from aligner.errors import InputFileError, OutputFileError
from aligner.files.output import OutputFile

_BATCH = 1024


def read_parquet(path: Path, *, first: int = 1) -> Iterator[dict[str, object] | None]:
    """The rows of a Parquet file from the first wanted on, which count from 1.

    None stands for a row whose text is not UTF-8; raises InputFileError for damage.
    """
    pa, parquet = _pyarrow()
    line = first - 1
    try:
        # Buffered and not read ahead, so that memory does not grow with the row groups.
        with parquet.ParquetFile(path, pre_buffer=False, buffer_size=1 << 20) as file:
            groups, passed = _groups_from(file, first - 1)
            for batch in file.iter_batches(_BATCH, row_groups=groups) if groups else ():
                wanted = batch.slice(passed)
                passed = max(passed - batch.num_rows, 0)
                yield from _rows_of(wanted)
                line += wanted.num_rows
    except (pa.ArrowException, OSError) as error:
        where = f"{path}:{line + 1}" if line else str(path)
        raise InputFileError(f"{where}: not a Parquet file, or a damaged one: {_first_line(error)}") from error


def parquet_from_lines(lines: Path, file: OutputFile) -> None:
    """Make a Parquet file of JSONL: whole numbers widen to fractions, and fields that a row lacks are null.

    Raises OutputFileError when a field is of one type here and of another there; the JSONL is kept.
    """
    pa, parquet = _pyarrow()
    schema = pa.schema([])
    try:
        for batch in _batches(lines):
            schema = pa.unify_schemas([schema, _schema_of(batch)], promote_options="permissive")
        with parquet.ParquetWriter(file, schema) as writer:
            for batch in _batches(lines):
                writer.write_batch(pa.RecordBatch.from_pylist(batch, schema=schema))
    except (pa.ArrowException, OverflowError) as error:
        problem = f"{file.out}: the rows do not fit one Parquet schema: {_first_line(error)}"
        raise OutputFileError(f"{problem}; {lines} keeps them as JSONL") from error


def _groups_from(file: Any, row: int) -> tuple[list[int], int]:
    """The row groups from the one with that row on, which counts from 0, and how many rows of theirs come before it."""
    groups = list(range(file.metadata.num_row_groups))
    while groups and (rows := file.metadata.row_group(groups[0]).num_rows) <= row:
        row -= rows
        del groups[0]
    return groups, row


def _rows_of(batch: Any) -> Iterator[dict[str, object] | None]:
    try:
        yield from batch.to_pylist()
    except UnicodeDecodeError:
        yield from (_row_of(batch.slice(i, 1)) for i in range(batch.num_rows))


def _row_of(slice_of_one: Any) -> dict[str, object] | None:
    try:
        return slice_of_one.to_pylist()[0]
    except UnicodeDecodeError:
        return None


def _batches(lines: Path) -> Iterator[Sequence[dict[str, object]]]:
    with lines.open("rb") as file:
        rows = map(orjson.loads, file)
        while batch := list(islice(rows, _BATCH)):
            yield batch


def _schema_of(rows: Sequence[dict[str, object]]) -> Any:
    pa, _ = _pyarrow()
    names = dict.fromkeys(name for row in rows for name in row)
    return pa.schema([(name, _column_type(name, [row.get(name) for row in rows])) for name in names])


def _column_type(name: str, values: Sequence[object]) -> Any:
    pa, _ = _pyarrow()
    try:
        return pa.array(values).type
    except (pa.ArrowException, OverflowError) as error:
        raise pa.ArrowInvalid(f'"{name}": {_first_line(error)}') from error


def _first_line(error: BaseException) -> str:
    return str(error).partition("\n")[0] or type(error).__name__


def _pyarrow() -> tuple[Any, Any]:
    """Give pyarrow and its Parquet part, which are slow to import and come without types."""
    return import_module("pyarrow"), import_module("pyarrow.parquet")
