"""Training survives `kill -9`: the same command again makes the checkpoint of an undisturbed run."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from random import Random

import pytest

from aligner.data.fields import row_of
from aligner.files import write_rows
from aligner.world.rows import training_rows

_FLAGS = """--base new --held-out 20 --save-every 4 --device cpu --max-length 128
--new.layers 1 --new.width 32 --new.heads 2 --new.inner 64 --new.vocabulary 400 --new.context 128
--copying.rows 64 --copying.batch 8 --copying.accumulate 1
--identity.batch 8 --identity.accumulate 1 --identity.epochs 1 --identity.share 0.5
--identity.check-every 6 --identity.learning-rate 1e-3
--correction.batch 8 --correction.accumulate 1 --correction.epochs 1 --correction.learning-rate 1e-3""".split()


def _command(triples: Path, out: Path) -> list[str]:
    return [sys.executable, "-m", "aligner", "train", str(triples), "--out", str(out), *_FLAGS]


def _finish(triples: Path, out: Path) -> None:
    done = subprocess.run(_command(triples, out), capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr


def _checkpoint(out: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted((out / "checkpoint").iterdir())}


def _killed_in_the_middle(triples: Path, out: Path, *, random: Random) -> bool:
    """Start the command, and kill it a random while after it has begun to learn; whether it was still running."""
    process = subprocess.Popen(_command(triples, out), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    begun = _steps_written(out)
    while process.poll() is None and _steps_written(out) == begun:
        time.sleep(0.05)
    time.sleep(random.uniform(0.0, 1.5))
    process.send_signal(signal.SIGKILL)
    return process.wait() == -signal.SIGKILL


def _steps_written(out: Path) -> int:
    return len(list(out.glob("*/checkpoint-*/trainer_state.json"))) + len(list(out.glob("*/model")))


@pytest.fixture(scope="module")
def triples(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("data") / "triples.jsonl"
    write_rows(path, (row_of(row.triple) for row in training_rows(count=240, seed=1)))
    return path


@pytest.mark.slow
def test_five_kills_change_nothing(triples: Path, tmp_path: Path) -> None:
    """Killed at five random moments, training ends with the bytes of an undisturbed run."""
    seed = int(os.environ.get("KILL_SEED", time.time_ns() % 10**6))
    print(f"KILL_SEED={seed}")
    random = Random(seed)
    _finish(triples, tmp_path / "undisturbed")
    kills = sum(_killed_in_the_middle(triples, tmp_path / "killed", random=random) for _ in range(5))
    assert kills >= 3
    _finish(triples, tmp_path / "killed")
    assert _checkpoint(tmp_path / "killed") == _checkpoint(tmp_path / "undisturbed")


@pytest.mark.slow
def test_a_torn_checkpoint_is_passed_over(triples: Path, tmp_path: Path) -> None:
    """With the newest checkpoint torn after a kill, training goes on from the one before, to the same bytes."""
    _finish(triples, tmp_path / "undisturbed")
    out = tmp_path / "torn"
    random, found = Random(3), list[Path]()
    while not found:  # between two stages there is no checkpoint
        assert _killed_in_the_middle(triples, out, random=random)
        found = list(out.glob("*/checkpoint-*/model.safetensors"))
    newest = max(found, key=lambda path: path.stat().st_mtime_ns)
    newest.write_bytes(newest.read_bytes()[:100])
    _finish(triples, out)
    assert _checkpoint(out) == _checkpoint(tmp_path / "undisturbed")
