"""The law of `aligner correct` in parts under `kill -9`: of its workers, and of the command itself at any moment."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest

from aligner.files import write_rows

MOMENTS = 5
COUNT = 3000
LOCAL = ["--workers", "2"]
RAY = ["--engine", "ray", "--workers", "4"]
ENGINES = [pytest.param(LOCAL, id="local"), pytest.param(RAY, id="ray", marks=pytest.mark.slow)]


class Job:
    """A file of answers, an Aligner of rules that take their time, and the commands that correct it."""

    def __init__(self, folder: Path, engine: list[str]) -> None:
        self.folder = folder
        self.out = folder / "parts" / "out.jsonl"
        slow = [{"pattern": f"(?:\\w+\\W+)*?{word}", "replace": f"so {word}"} for word in ("alpha", "omega")]
        (folder / "rules.json").write_text(json.dumps([*slow, {"pattern": "Lyon", "replace": "Paris"}]))
        rows = (
            {"question": f"Who is {i}?", "id": i, "answer": f"Lyon, no. {i} {'la ' * (20 + i % 9)}"}
            for i in range(COUNT)
        )
        write_rows(folder / "in.jsonl", rows)
        options = ["--aligner", f"rules:{folder / 'rules.json'}", "--batch", "4"]
        self._program = [sys.executable, "-m", "aligner", "correct", str(folder / "in.jsonl"), *options, "--out"]
        self.in_parts = [*self._program, str(self.out), "--shards", "9", *engine]
        self.out.parent.mkdir()

    def once(self) -> bytes:
        """The bytes of an undisturbed run in one process."""
        subprocess.run([*self._program, str(self.folder / "once.jsonl")], check=True, stderr=subprocess.DEVNULL)
        return (self.folder / "once.jsonl").read_bytes()

    def written(self) -> int:
        """Bytes of rows so far."""
        parts = Path(f"{self.out}.parts")
        found = (path for path in parts.glob("part-*") if path.name.endswith((".jsonl", ".partial")))
        total = 0
        for path in found:
            try:
                total += path.stat().st_size
            except FileNotFoundError:  # it was renamed meanwhile
                continue
        return total

    def start(self) -> "subprocess.Popen[bytes]":
        """The command in parts."""
        return subprocess.Popen(self.in_parts, stderr=subprocess.DEVNULL)

    def wait_for(self, process: "subprocess.Popen[bytes]", grown: int) -> bool:
        """Wait until so many bytes are written; says whether the command is still at work."""
        while process.poll() is None and self.written() < grown:
            time.sleep(0.002)
        return process.poll() is None


def workers_of(out: Path) -> list[int]:
    """Processes that have a part of the output open."""
    found: list[int] = []
    for process in Path("/proc").iterdir():
        try:
            links = [str(link.readlink()) for link in (process / "fd").iterdir()] if process.name.isdigit() else []
        except OSError:  # it ended, or is not ours
            continue
        if any(link.startswith(f"{out}.parts") and link.endswith(".partial") for link in links):
            found.append(int(process.name))
    return found


def a_worker(job: Job, process: "subprocess.Popen[bytes]") -> int:
    """A process in the middle of a part."""
    while process.poll() is None:
        if found := workers_of(job.out):
            return found[0]
    raise AssertionError("no process was at work on a part")


@pytest.fixture
def seeded() -> Random:
    seed = time.time_ns() % 10**6
    print(f"seed {seed}")
    return Random(seed)


@pytest.fixture(params=ENGINES)
def job(request: pytest.FixtureRequest, tmp_path: Path) -> Job:
    return Job(tmp_path, request.param)


def check(job: Job, whole: bytes) -> None:
    """All rows exactly once, and the bytes of one process; no part is left."""
    ids = [json.loads(line)["id"] for line in job.out.read_bytes().splitlines()]
    assert ids == list(range(COUNT))
    assert job.out.read_bytes() == whole
    assert not list(Path(f"{job.out}.parts").glob("part-*"))


def test_a_killed_worker_loses_no_row(job: Job, seeded: Random) -> None:
    """Processes killed in the middle of a part are replaced, and the command ends as if nothing had been."""
    whole = job.once()
    process = job.start()
    for share in (0.1, 0.4, 0.7):
        assert job.wait_for(process, int(len(whole) * (share + 0.1 * seeded.random())))
        os.kill(a_worker(job, process), signal.SIGKILL)
    assert process.wait() == 0
    check(job, whole)


@pytest.mark.slow
def test_a_killed_command_goes_on_where_it_was(job: Job, seeded: Random) -> None:
    """Killed five times at random moments, the same command ends with each row once; again, it does nothing."""
    whole = job.once()
    for moment in range(MOMENTS):
        process = job.start()
        grown = job.written() + seeded.randrange(1, len(whole) // (2 * MOMENTS))
        assert job.wait_for(process, grown), f"the work was over before kill {moment}"
        process.kill()
        process.wait()
        assert 0 < job.written() < len(whole)
    subprocess.run(job.in_parts, check=True, stderr=subprocess.DEVNULL)
    check(job, whole)
    changed = job.out.stat().st_mtime_ns
    subprocess.run(job.in_parts, check=True, stderr=subprocess.DEVNULL)
    assert job.out.stat().st_mtime_ns == changed


def killed_while(job: Job, ready: Callable[[], bool]) -> bool:
    """Kill the command once something holds; says whether it was still at work."""
    process = job.start()
    while process.poll() is None and not ready():
        time.sleep(0.0005)
    process.kill()
    return process.wait() == -signal.SIGKILL


def test_killed_while_parts_become_one_file(tmp_path: Path) -> None:
    """Between parts and output there is no moment at which rows are lost or doubled."""
    job = Job(tmp_path, LOCAL)
    whole, lines = job.once(), Path(f"{job.out}.lines")
    kills = [killed_while(job, moment) for moment in (lines.exists, lambda: lines.exists() or job.out.exists())]
    assert any(kills), "the work was over before it could be killed"
    subprocess.run(job.in_parts, check=True, stderr=subprocess.DEVNULL)
    check(job, whole)
    assert not lines.exists()
