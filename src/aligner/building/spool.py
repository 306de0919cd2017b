"""What came back and is not in the store yet: a file of one worker, which the next one takes over."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import orjson

from aligner.building.nouns import Failure, Reply
from aligner.errors import OutputFileError

_LARGEST = 4 * 2**20
"""bytes; then what is in the store is taken out"""


class Spooled(NamedTuple):
    """One outcome of a call; a worker counts its own from 1."""

    number: int
    key: str
    outcome: Reply | Failure


class Spool:
    """An append-only file: one line of JSON for each outcome."""

    def __init__(self, path: Path) -> None:
        self._path, self._file = path, _opened(path)
        self._count = self._size = 0
        self.waiting: list[Spooled] = []
        """what is not in the store yet"""

    def append(self, key: str, outcome: Reply | Failure) -> None:
        """Write an outcome; once this returns, no kill can take it. Raises OutputFileError where that fails."""
        spooled = Spooled(self._count + 1, key, outcome)
        self._write(spooled)
        self._count = spooled.number
        self.waiting.append(spooled)

    def move(self, path: Path) -> None:
        """Go on in another file, with what is waiting."""
        file = _opened(path)
        os.close(self._file)
        self._path, self._file, self._size = path, file, 0
        for spooled in self.waiting:
            self._write(spooled)

    def _write(self, spooled: Spooled) -> None:
        kind = "reply" if isinstance(spooled.outcome, Reply) else "failure"
        row = [spooled.number, spooled.key, kind, list(spooled.outcome)]
        line = orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE)
        left = memoryview(line)
        try:
            while left:
                left = left[os.write(self._file, left) :]
        except OSError as error:
            raise OutputFileError(f"{self._path}: cannot be written: {error.strerror}") from error
        self._size += len(line)

    def stored(self) -> None:
        """All that waited is in the store now."""
        self.waiting.clear()
        if self._size > _LARGEST:
            os.ftruncate(self._file, 0)
            self._size = 0

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)


def spooled(path: Path) -> Iterator[Spooled]:
    """The outcomes in a spool, but for one that was torn off in the middle; none where there is no file."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return
    for line in data.split(b"\n")[:-1]:
        try:
            number, key, kind, parts = orjson.loads(line)
            outcome = Reply(*parts) if kind == "reply" else Failure(*parts)
        except (ValueError, TypeError):
            continue
        yield Spooled(number, key, outcome)


def _opened(path: Path) -> int:
    return os.open(path, os.O_CREAT | os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC, 0o600)
