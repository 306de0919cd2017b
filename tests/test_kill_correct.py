"""The law of `aligner correct` under `kill -9`: the same command again ends with the bytes of an undisturbed run."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest
from tiny import tiny_aligner

from aligner.files import write_rows

MOMENTS = 5


def rules(folder: Path) -> str:
    """An Aligner of rules that take their time."""
    slow = [{"pattern": f"(?:\\w+\\W+)*?{word}", "replace": f"so {word}"} for word in ("alpha", "omega")]
    (folder / "rules.json").write_text(json.dumps([*slow, {"pattern": "Lyon", "replace": "Paris"}]))
    return f"rules:{folder / 'rules.json'}"


def language_model(folder: Path) -> str:
    """A tiny random language model."""
    return str(tiny_aligner(folder / "aligner", context=72))


def size(path: Path) -> int:
    """Bytes in a file, none where there is none."""
    return path.stat().st_size if path.exists() else 0


def kill_behind(command: list[str], partial: Path, *, grown: int) -> bool:
    """Run a command and kill it once a file has so many bytes; says whether it was still at work."""
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    while process.poll() is None and size(partial) < grown:
        time.sleep(0.001)
    process.kill()
    return process.wait() == -signal.SIGKILL


@pytest.mark.parametrize(
    ("make", "count", "batch"),
    [pytest.param(rules, 5000, 4), pytest.param(language_model, 240, 1, marks=pytest.mark.slow)],
    ids=["rules", "language-model"],
)
def test_killed_at_random_moments_it_ends_with_the_same_bytes(
    tmp_path: Path, make: Callable[[Path], str], count: int, batch: int
) -> None:
    """Killed five times in the middle, the output and the rows that were skipped are those of an undisturbed run."""
    seed = time.time_ns() % 10**6
    print(f"seed {seed}")
    random = Random(seed)
    source, folders = tmp_path / "in.jsonl", [tmp_path / name for name in ("once", "killed")]
    write_rows(
        source, ({"question": f"Who is {i}?", "answer": f"Lyon, no. {i} {'la ' * (i % 9)}"} for i in range(count))
    )
    lines = source.read_bytes().splitlines(keepends=True)
    for place in random.sample(range(count), 20):
        lines[place] = b'{"question": "no answer"}\n'
    source.write_bytes(b"".join(lines))
    name = make(tmp_path)
    commands: list[list[str]] = []
    for folder in folders:
        folder.mkdir()
        options = ["--aligner", name, "--batch", str(batch), "--on-bad-row", "skip", "--device", "cpu"]
        program = [sys.executable, "-m", "aligner", "correct"]
        commands.append([*program, str(source), "--out", str(folder / "out.jsonl"), *options])
    once, again = commands
    subprocess.run(once, check=True, stderr=subprocess.DEVNULL)
    whole = (folders[0] / "out.jsonl").read_bytes()
    partial = folders[1] / "out.jsonl.partial"
    for _ in range(MOMENTS):
        grown = size(partial) + random.randrange(1, len(whole) // (2 * MOMENTS))
        assert kill_behind(again, partial, grown=grown), f"seed {seed}: the work was over before it could be killed"
    assert 0 < size(partial) < len(whole)
    subprocess.run(again, check=True, stderr=subprocess.DEVNULL)
    files = [{path.name: path.read_bytes() for path in folder.iterdir()} for folder in folders]
    assert files[0] == files[1], f"seed {seed}"
    assert files[0].keys() == {"out.jsonl", "out.jsonl.skipped.jsonl"}
    assert files[0]["out.jsonl.skipped.jsonl"].count(b"\n") == 20
