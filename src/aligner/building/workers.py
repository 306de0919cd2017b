"""One process at work on a store, and how others see whether it still is."""

import fcntl
import os
import re
import secrets
import socket
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Self

from aligner.building.spool import Spool
from aligner.errors import OutputFileError
from aligner.sharding.locking import take

FOLDER = "workers"
HOST = socket.gethostname()
"""a lock tells of the processes of this host only"""


class Worker:
    """A worker on the build of a folder: its id, its lock, which ends with the process, and its spool."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / FOLDER
        with self._writing():
            self.folder.mkdir(parents=True, exist_ok=True)
            self.id, self._lock = self._born()
            self.spool = Spool(spool_path(self.folder, self.id))

    def renew(self) -> None:
        """Go on under another id with files of its own: others took it for gone, and theirs are the old ones."""
        with self._writing():
            old = self._lock
            self.id, self._lock = self._born()
            os.close(old)
            self.spool.move(spool_path(self.folder, self.id))

    def _born(self) -> tuple[str, int]:
        """A new id, and its lock."""
        id_ = f"{re.sub('[^A-Za-z0-9]', '-', HOST)[:40]}-{os.getpid()}-{secrets.token_hex(4)}"
        lock = os.open(lock_path(self.folder, id_), os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        fcntl.flock(lock, fcntl.LOCK_EX)
        return id_, lock

    @contextmanager
    def _writing(self) -> Generator[None]:
        try:
            yield
        except OSError as error:
            raise OutputFileError(f"{self.folder}: cannot be written: {error.strerror}") from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop work; what this worker still leases is free for others."""
        self.spool.close()
        if not self.spool.waiting:
            forget(self.folder, self.id)
        os.close(self._lock)


def lock_path(folder: Path, id_: str) -> Path:
    """The file that a worker locks while it lives."""
    return folder / f"{id_}.lock"


def spool_path(folder: Path, id_: str) -> Path:
    """The file with what it got and has not stored."""
    return folder / f"{id_}.spool"


@contextmanager
def holding(folder: Path, id_: str) -> Generator[bool, None, None]:
    """Whether that worker is gone, and if so, nobody else can find that out meanwhile."""
    try:
        file = os.open(lock_path(folder, id_), os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        yield True
        return
    try:
        yield take(file)
    finally:
        os.close(file)


def forget(folder: Path, id_: str) -> None:
    """Remove the files of a worker that is gone."""
    for path in (spool_path(folder, id_), lock_path(folder, id_)):
        path.unlink(missing_ok=True)
