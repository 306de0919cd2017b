"""Rows into JSONL and Parquet files and standard output; a file takes its place only when it is whole."""

import gzip
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path

import orjson

from aligner.errors import OutputFileError
from aligner.files.output import OutputFile, is_output_stream, label, naming, open_stream, replacing
from aligner.files.parquet import parquet_from_lines
from aligner.files.paths import beside, kind_of

_BATCH = 1024


def write_rows(path: Path | str, rows: Iterable[Mapping[str, object]]) -> int:
    """Write rows as they come, and give their number: to JSONL, gzipped or not, Parquet, or a stream (`-`).

    Raises MisuseError for an unknown kind of file and OutputFileError; a file that was there is then untouched.
    """
    out = Path(path)
    if is_output_stream(out):
        with open_stream(out) as file:
            return _write_batches(file, rows)
    kind_of(out, OUTPUTS)
    lines = beside(out, ".lines")
    try:
        with OutputFile(lines, "wb", out=out) as file:
            count = _write_batches(file, rows)
    except BaseException:
        lines.unlink(missing_ok=True)
        raise
    publish(lines, out)
    return count


def encode(rows: Iterable[Mapping[str, object]], out: Path, *, first: int) -> bytes:
    """Rows as JSONL; `first` is the number of the first, for the error that names the row."""
    lines: list[bytes] = []
    for row in rows:
        try:
            lines.append(orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE))
        except TypeError as error:
            where = f"{label(out)}: row {first + len(lines)}"
            raise OutputFileError(f"{where} cannot be written as JSON: {error}") from error
    return b"".join(lines)


def publish(lines: Path, out: Path) -> None:
    """Make the finished file of rows that stand in `lines` as JSONL; the same rows give the same bytes."""
    convert = OUTPUTS[kind_of(out, OUTPUTS)]
    if convert is None:
        with naming(out):
            lines.replace(out)
        return
    with replacing(out) as file:
        convert(lines, file)
    lines.unlink()


def _write_batches(file: OutputFile, rows: Iterable[Mapping[str, object]]) -> int:
    iterator: Iterator[Mapping[str, object]] = iter(rows)
    count = 0
    while batch := list(islice(iterator, _BATCH)):
        file.write(encode(batch, file.out, first=count + 1))
        count += len(batch)
    file.sync()
    return count


def _zip(lines: Path, file: OutputFile) -> None:
    # Without a name and a time inside, so that the same rows give the same bytes.
    with lines.open("rb") as source, gzip.GzipFile("", "wb", fileobj=file, mtime=0) as target:
        shutil.copyfileobj(source, target, 1 << 20)


OUTPUTS: Mapping[str, Callable[[Path, OutputFile], None] | None] = {
    ".jsonl": None,
    ".jsonl.gz": _zip,
    ".ndjson": None,
    ".ndjson.gz": _zip,
    ".parquet": parquet_from_lines,
}
"""The kinds of files that can be written, by their ending, and how each is made from JSONL."""
