"""JSONL and Parquet in and out: streaming, atomic, resumable; errors name file:line."""

from aligner.files.bad_rows import BadRows, Row, RowError, bad_rows_named
from aligner.files.output import write_json_atomic, write_text_atomic
from aligner.files.reading import read, read_rows
from aligner.files.resuming import RowWriter, is_finished, open_rows
from aligner.files.writing import write_rows

__all__ = [
    "BadRows",
    "Row",
    "RowError",
    "RowWriter",
    "bad_rows_named",
    "is_finished",
    "open_rows",
    "read",
    "read_rows",
    "write_json_atomic",
    "write_rows",
    "write_text_atomic",
]
