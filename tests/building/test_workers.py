"""Laws of workers: whether one lives is known from outside, and ends with its process."""

import subprocess
import sys
from pathlib import Path

import pytest

from aligner.building.workers import Worker, holding
from aligner.errors import OutputFileError

PROGRAM = """
import sys, time
from pathlib import Path
from aligner.building.workers import Worker
worker = Worker(Path(sys.argv[1]))
print(worker.id, flush=True)
time.sleep(600)
"""


def is_gone(folder: Path, id_: str) -> bool:
    """Whether a worker is gone."""
    with holding(folder, id_) as gone:
        return gone


def test_a_worker_is_gone_as_soon_as_its_process_is_killed(tmp_path: Path) -> None:
    """It lives while the process does, however it ends."""
    with subprocess.Popen([sys.executable, "-c", PROGRAM, str(tmp_path)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        id_ = process.stdout.readline().strip()
        assert not is_gone(tmp_path / "workers", id_)
        process.kill()
        process.wait()
        assert is_gone(tmp_path / "workers", id_)


def test_two_workers_of_one_process_are_two(tmp_path: Path) -> None:
    """They have ids of their own, and the end of one is not that of the other."""
    with Worker(tmp_path) as first:
        with Worker(tmp_path) as second:
            assert first.id != second.id
            assert not is_gone(first.folder, second.id)
        assert is_gone(first.folder, second.id)
        assert not is_gone(first.folder, first.id)


def test_nobody_else_takes_over_at_the_same_time(tmp_path: Path) -> None:
    """Of two that look at a dead worker, one is told that it is gone."""
    (tmp_path / "x.lock").touch()
    with holding(tmp_path, "x") as first, holding(tmp_path, "x") as second:
        assert (first, second) == (True, False)


def test_a_folder_that_cannot_be_written_is_one_clear_line(tmp_path: Path) -> None:
    """It is named."""
    (tmp_path / "workers").write_text("")
    with pytest.raises(OutputFileError, match=f"^{tmp_path}/workers: cannot be written: "):
        Worker(tmp_path)
