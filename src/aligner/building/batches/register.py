"""What batch files there are, what each holds, and where its batch is: tables in the file of the store.

A request is in one open file at most, and leased there, so that nobody else asks it. A file is open until all that it
holds has been collected or given free. Its token goes with the batch to the server, so that a batch that was sent and
never noted is found by it.
"""

import secrets
import sqlite3
from collections.abc import Generator, Iterable, Sequence
from contextlib import contextmanager
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Literal, NamedTuple, Self

from aligner.building.books import BATCH
from aligner.building.schema import BUSY_SECONDS
from aligner.errors import OutputFileError

FileState = Literal["written", "sending", "running", "closed"]
"""on the disk alone; perhaps taken by the server; taken for sure; collected or given free"""

_TABLES = """
CREATE TABLE IF NOT EXISTS batch_files (
    number INTEGER PRIMARY KEY, stage TEXT NOT NULL, model TEXT NOT NULL, file TEXT NOT NULL, token TEXT NOT NULL,
    cost REAL NOT NULL, state TEXT NOT NULL, batch TEXT NOT NULL
) STRICT;
CREATE INDEX IF NOT EXISTS batch_files_open ON batch_files (stage, model, number) WHERE state <> 'closed';
CREATE TABLE IF NOT EXISTS batch_requests (
    key TEXT PRIMARY KEY, number INTEGER NOT NULL, line INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS batch_requests_number ON batch_requests (number, line);
"""


class Waiting(NamedTuple):
    """Requests without an outcome."""

    calls: int
    todo: int
    """of these, so many are todo in the ledger: they were reopened before their file was closed"""


@dataclass(frozen=True, slots=True)
class BatchFile:
    """One file of requests, and how far it is."""

    number: int
    stage: str
    model: str
    file: str
    """its name in the folder of batches"""
    token: str
    cost: float
    """that was estimated when it was written"""
    state: FileState = "written"
    batch: str = ""
    """what the server calls the batch"""


class Register:
    """The batch files of one store; one for each process."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._db = sqlite3.connect(path, timeout=BUSY_SECONDS, isolation_level=None)
        try:
            with self._naming():
                # What was sent has to be known even behind a power cut, or it would be paid twice.
                self._db.execute("PRAGMA synchronous = FULL")
                self._db.executescript(_TABLES)
        except BaseException:
            self._db.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._db.close()

    def open_files(self, stage: str, model: str) -> list[BatchFile]:
        """Files that are not closed, the oldest first."""
        sql = "SELECT * FROM batch_files WHERE state <> 'closed' AND stage = ? AND model = ? ORDER BY number"
        return [BatchFile(*row) for row in self._db.execute(sql, (stage, model))]

    def open_cost(self) -> float:
        """What all open files may still cost, whoever is asked."""
        sql = "SELECT coalesce(sum(cost), 0.0) FROM batch_files WHERE state <> 'closed'"
        return self._db.execute(sql).fetchone()[0]

    def next_number(self) -> int:
        """The number of the next file; numbers are never used again."""
        (number,) = self._db.execute("SELECT coalesce(max(number), 0) + 1 FROM batch_files").fetchone()
        return number

    def is_open(self, key: str) -> bool:
        """Whether a request is in an open file."""
        return self._db.execute("SELECT 1 FROM batch_requests WHERE key = ?", (key,)).fetchone() is not None

    def add(self, file: BatchFile, keys: Iterable[str]) -> list[str]:
        """Note a file and take its requests, those that are still todo, out of the hands of others; gives these."""
        with self._transaction():
            hold = "UPDATE requests SET state = 'leased', worker = ? WHERE key = ? AND state = 'todo'"
            held = [key for key in keys if self._db.execute(hold, (BATCH, key)).rowcount]
            if held:
                self._db.execute("INSERT INTO batch_files VALUES (?, ?, ?, ?, ?, ?, ?, ?)", astuple(file))
                rows = ((key, file.number, line) for line, key in enumerate(held, 1))
                self._db.executemany("INSERT INTO batch_requests VALUES (?, ?, ?)", rows)
        return held

    def keys(self, number: int) -> list[str]:
        """The requests of an open file, in the order of its lines."""
        found = self._db.execute("SELECT key FROM batch_requests WHERE number = ? ORDER BY line", (number,))
        return [key for (key,) in found]

    def waiting(self, files: Sequence[BatchFile]) -> Waiting:
        """How many requests in these files have no outcome."""
        sql = (
            "SELECT count(*), coalesce(sum(state = 'todo'), 0) FROM batch_requests JOIN requests USING (key)"
            " WHERE number = ? AND state IN ('todo', 'leased')"
        )
        counts = [self._db.execute(sql, (file.number,)).fetchone() for file in files]
        return Waiting(sum(count for count, _ in counts), sum(todo for _, todo in counts))

    def note(self, file: BatchFile, state: FileState, batch: str = "") -> None:
        """Note how far a file is, and what the server calls its batch."""
        with self._naming():
            self._db.execute(
                "UPDATE batch_files SET state = ?, batch = ? WHERE number = ?", (state, batch, file.number)
            )

    def keep(self, file: BatchFile, share: float) -> None:
        """Note that a file may still cost that share of what it might."""
        with self._naming():
            self._db.execute("UPDATE batch_files SET cost = cost * ? WHERE number = ?", (share, file.number))

    def renew(self, file: BatchFile) -> None:
        """Have a file sent again, under another token, as if it never was."""
        sql = "UPDATE batch_files SET state = 'written', token = ?, batch = '' WHERE number = ?"
        with self._naming():
            self._db.execute(sql, (new_token(), file.number))

    def close(self, file: BatchFile) -> None:
        """Give a file's requests free; those without an outcome go into the next file."""
        with self._transaction():
            self._db.execute("UPDATE batch_files SET state = 'closed' WHERE number = ?", (file.number,))
            free = (
                "UPDATE requests SET state = 'todo', worker = '' WHERE state = 'leased' AND worker = ?"
                " AND key IN (SELECT key FROM batch_requests WHERE number = ?)"
            )
            self._db.execute(free, (BATCH, file.number))
            self._db.execute("DELETE FROM batch_requests WHERE number = ?", (file.number,))

    @contextmanager
    def _transaction(self) -> Generator[None]:
        with self._naming():
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
            except BaseException:
                self._db.execute("ROLLBACK")
                raise
            self._db.execute("COMMIT")

    @contextmanager
    def _naming(self) -> Generator[None]:
        """Raise what SQLite raises, where others keep the file busy or the disk is full, as OutputFileError."""
        try:
            yield
        except sqlite3.OperationalError as error:
            raise OutputFileError(f"{self._path}: cannot be written: {error}") from error


def new_token() -> str:
    """A name for a batch that nobody else gives."""
    return secrets.token_hex(16)
