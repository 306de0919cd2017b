"""One process at a time over a folder of batches."""

import os
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from aligner.files.output import naming
from aligner.sharding.locking import take


@contextmanager
def alone(folder: Path) -> Generator[bool]:
    """Whether no other process of this host is at work in the folder, which is made; the lock ends with the process."""
    path = folder / ".lock"
    with naming(path):
        folder.mkdir(parents=True, exist_ok=True)
        file = os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    try:
        yield take(file)
    finally:
        os.close(file)
