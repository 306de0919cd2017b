"""Locks that end with the process that holds them, on one machine or on a shared file system that knows flock."""

import fcntl
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from aligner.errors import MisuseError
from aligner.files.output import OutputFile

_PAUSE = 0.05


@contextmanager
def holding(path: Path, *, seconds: float | None = None) -> Generator[None]:
    """Hold the lock that a file is, which is made for it; raises MisuseError where another holds it for too long.

    `seconds` is how long to wait, without end where none are given. The file stays: whoever waits has it open.
    """
    with OutputFile(path, "ab", out=path) as file:
        _wait(file, path, seconds)
        yield


def take(file: int) -> bool:
    """Whether the lock that an open file is could be had at once; it is held until the file is closed."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _wait(file: OutputFile, path: Path, seconds: float | None) -> None:
    if seconds is None:
        fcntl.flock(file, fcntl.LOCK_EX)
        return
    due = time.monotonic() + seconds
    while not take(file.fileno()):
        if time.monotonic() >= due:
            raise MisuseError(f"{path}: another process is at work on it; wait until it has ended")
        time.sleep(_PAUSE)
