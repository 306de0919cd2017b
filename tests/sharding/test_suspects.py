"""Laws of rows under which processes die."""

import subprocess
import sys
from pathlib import Path

import pytest

from aligner.errors import MisuseError
from aligner.sharding.locking import holding
from aligner.sharding.suspects import Suspects

DIES = """
import os, sys
from pathlib import Path
from aligner.sharding.suspects import Suspects
with Suspects(Path(sys.argv[1]), deaths=int(sys.argv[3])).trying(int(sys.argv[2])):
    os._exit(1)
"""
HOLDS = """
import sys, time
from pathlib import Path
from aligner.sharding.locking import holding
with holding(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(600)
"""


def die(path: Path, line: int, *, deaths: int) -> None:
    """A process that ends while it tries a row."""
    subprocess.run([sys.executable, "-c", DIES, str(path), str(line), str(deaths)], check=False)


def test_a_row_that_ends_two_processes_is_given_up(tmp_path: Path) -> None:
    """Once may be chance; after the second time alone it is not tried again, in this run or another."""
    path = tmp_path / "suspects.json"
    die(path, 7, deaths=2)
    assert not Suspects(path, deaths=3).is_given_up(7)
    die(path, 7, deaths=3)
    assert Suspects(path, deaths=4).is_given_up(7)
    assert Suspects(path, deaths=0).is_given_up(7)
    assert not Suspects(path, deaths=4).is_given_up(8)


def test_a_kill_of_the_whole_run_is_held_against_no_row(tmp_path: Path) -> None:
    """A count that did not suffice is forgotten when the command is given again."""
    path = tmp_path / "suspects.json"
    die(path, 7, deaths=2)
    Suspects(path, deaths=0)
    die(path, 7, deaths=0)
    assert not Suspects(path, deaths=2).is_given_up(7)


def test_a_row_that_passed_is_no_suspect(tmp_path: Path) -> None:
    """Whoever survives a row takes its mark away."""
    suspects = Suspects(tmp_path / "suspects.json", deaths=2)
    for _ in range(5):
        with suspects.trying(3):
            pass
    assert not Suspects(tmp_path / "suspects.json", deaths=2).is_given_up(3)


def test_rows_are_tried_alone_from_the_second_death_on() -> None:
    """One death of a process is no reason to go slowly, and without a file there is nothing to tell."""
    assert [Suspects(Path("none"), deaths=deaths).careful for deaths in range(4)] == [False, False, True, True]
    assert not Suspects(deaths=9).careful


def test_a_lock_ends_with_its_process(tmp_path: Path) -> None:
    """While a process holds it another one is refused after a while; when it is killed the lock is free at once."""
    path = tmp_path / "lock"
    process = subprocess.Popen([sys.executable, "-c", HOLDS, str(path)], stdout=subprocess.PIPE)
    assert process.stdout
    assert process.stdout.readline() == b"held\n"
    with pytest.raises(MisuseError, match="another process is at work"), holding(path, seconds=0.2):
        pass
    process.kill()
    process.wait()
    process.stdout.close()
    with holding(path, seconds=5):
        pass
