"""Rows of long work that survive `kill -9`: the same work again goes on behind the last whole row."""

import fcntl
import io
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Protocol, Self, cast

import orjson

from aligner.errors import MisuseError
from aligner.files.output import OutputFile, is_output_stream, open_stream, write_json_atomic
from aligner.files.paths import beside, kind_of
from aligner.files.writing import OUTPUTS, encode, publish


class RowWriter(Protocol):
    """Takes rows in order and in the end makes them a finished file; leaving its `with` block only closes it."""

    @property
    def done(self) -> int:
        """How many rows are written, those of earlier runs included."""
        ...

    def append(self, rows: Iterable[Mapping[str, object]]) -> None:
        """Write rows; once it returns they outlive this process."""
        ...

    def finish(self) -> None:
        """Put the finished file in its place."""
        ...

    def __enter__(self) -> Self:
        """Give the writer itself."""
        ...

    def __exit__(self, *error: object) -> None:
        """Close what is open, finished or not."""
        ...


def open_rows(path: Path | str, run: Mapping[str, object]) -> RowWriter:
    """A writer for long work: one that can be taken up again, or a plain one where the output is a stream (`-`)."""
    return StreamedRows(path) if is_output_stream(Path(path)) else ResumableRows(path, run)


def is_finished(path: Path | str) -> bool:
    """Whether the file is there and no unfinished work on it."""
    out = Path(path)
    return out.is_file() and not beside(out, ".partial").exists()


class ResumableRows:
    """Rows kept as JSONL in `<out>.partial` until all are there.

    Opened again after any end, it cuts off a torn last row and counts the others: the caller goes on behind `done`.
    `run`, a JSON object, says what work this is and is kept in `<out>.partial.json`; the rows of another run are
    refused (MisuseError). At most every `sync_every` seconds it waits until the disk has the rows.
    """

    def __init__(self, path: Path | str, run: Mapping[str, object], *, sync_every: float = 1.0) -> None:
        self._out = Path(path)
        is_output_stream(self._out)
        kind_of(self._out, OUTPUTS)
        self._partial = beside(self._out, ".partial")
        self._mark = beside(self._out, ".partial.json")
        self._sync_every = sync_every
        self._synced = time.monotonic()
        self._file = OutputFile(self._partial, "a+b", out=self._out)
        try:
            self._lock()
            self.done, size = _whole_rows(self._file)
            self._claim(run)
            self._file.truncate(size)
        except BaseException:
            self._file.close()
            raise

    def append(self, rows: Iterable[Mapping[str, object]]) -> None:
        """Write rows; they outlive this process at once, and the machine once they are synced."""
        batch = list(rows)
        self._file.write(encode(batch, self._out, first=self.done + 1))
        self.done += len(batch)
        if time.monotonic() - self._synced >= self._sync_every:
            self._file.sync()
            self._synced = time.monotonic()

    def finish(self) -> None:
        """Put the finished file in its place; if this is cut short, the same work again does it."""
        self._file.sync()
        publish(self._partial, self._out)
        self._mark.unlink(missing_ok=True)
        self._file.close()

    def __enter__(self) -> Self:
        """Give the writer itself."""
        return self

    def __exit__(self, *error: object) -> None:
        """Close the file; what is not finished can be taken up again."""
        self._file.close()

    def _lock(self) -> None:
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise MisuseError(f"{self._out}: another process is writing it; wait, or choose another output") from None

    def _claim(self, run: Mapping[str, object]) -> None:
        """Make sure that the rows are this run's; where there are none, they will be."""
        wanted, found = orjson.loads(orjson.dumps(run)), _load(self._mark)
        if found == wanted:
            return
        if self.done:
            raise MisuseError(
                f"{self._partial}: belongs to another run ({_difference(found, wanted)}); "
                f"delete it and {self._mark.name}, or choose another output"
            )
        write_json_atomic(self._mark, wanted)


class StreamedRows:
    """Rows to standard output, a pipe or a device as they come; such work starts from the beginning each time."""

    def __init__(self, path: Path | str = "-") -> None:
        self._out = Path(path)
        self._file = open_stream(self._out)
        self.done = 0

    def append(self, rows: Iterable[Mapping[str, object]]) -> None:
        """Write rows."""
        batch = list(rows)
        self._file.write(encode(batch, self._out, first=self.done + 1))
        self.done += len(batch)

    def finish(self) -> None:
        """Close the stream."""
        self._file.close()

    def __enter__(self) -> Self:
        """Give the writer itself."""
        return self

    def __exit__(self, *error: object) -> None:
        """Close the stream."""
        self._file.close()


def _whole_rows(file: OutputFile) -> tuple[int, int]:
    """How many rows at the start of a file are whole, and how many bytes they take."""
    count = size = 0
    file.seek(0)
    lines = io.BufferedReader(file)
    for line in lines:
        # A machine that lost power can leave zeros where the rows were not yet on the disk.
        if not (line.startswith(b"{") and line.endswith(b"}\n")):
            break
        count, size = count + 1, size + len(line)
    lines.detach()
    return count, size


def _load(mark: Path) -> dict[str, object]:
    try:
        found = orjson.loads(mark.read_bytes())
    except (FileNotFoundError, orjson.JSONDecodeError):
        return {}
    return cast(dict[str, object], found) if isinstance(found, dict) else {}


def _difference(found: Mapping[str, object], wanted: Mapping[str, object]) -> str:
    if not found:
        return "nothing says which"
    pairs = {name: (found.get(name, "nothing"), wanted.get(name, "nothing")) for name in sorted({*found, *wanted})}
    return "; ".join(f"{name} was {old}, now {new}" for name, (old, new) in pairs.items() if old != new)
