"""The whole command on two processes: it learns what one learns, and survives `kill -9` of either."""

import json
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

_FLAGS = """--held-out 20 --save-every 2 --device cpu --max-length 128
--new.layers 1 --new.width 32 --new.heads 2 --new.inner 64 --new.vocabulary 400 --new.context 128
--copying.rows 32 --copying.batch 4 --copying.accumulate 2
--identity.batch 4 --identity.accumulate 2 --identity.epochs 1 --identity.share 0.4 --identity.check-every 4
--correction.batch 4 --correction.accumulate 2 --correction.epochs 1 --correction.learning-rate 1e-3
--correction.edit-weight 3 --correction.mask-source 0.1
--preference.batch 4 --preference.accumulate 2 --preference.epochs 1 --preference.share 0.2
--measure.every 5 --measure.keep best --measure.by world""".split()
_ENV = {**os.environ, "OMP_NUM_THREADS": "1"}


def _command(processes: int, triples: Path, out: Path) -> list[str]:
    launcher = ["-m", "torch.distributed.run", f"--nproc-per-node={processes}"] if processes > 1 else []
    return [sys.executable, *launcher, "-m", "aligner", "train", str(triples), "--out", str(out), *_FLAGS]


def _finish(processes: int, triples: Path, out: Path) -> None:
    command = _command(processes, triples, out)
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False, env=_ENV)
    assert done.returncode == 0, done.stderr


def _losses(out: Path) -> dict[tuple[str, int], float]:
    rows = map(json.loads, (out / "metrics.jsonl").read_text().splitlines())
    return {(row["stage"], row["step"]): row["loss"] for row in rows if "loss" in row}


def _workers(launcher: int) -> list[int]:
    try:
        return sorted(map(int, Path(f"/proc/{launcher}/task/{launcher}/children").read_text().split()))
    except FileNotFoundError:
        return []


@pytest.fixture(scope="module")
def triples(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("data") / "triples.jsonl"
    write_rows(path, (row_of(row.triple) for row in training_rows(count=160, seed=1)))
    return path


@pytest.mark.slow
def test_two_processes_train_what_one_trains(triples: Path, tmp_path: Path) -> None:
    """All stages have the loss curve of one process that accumulates, and the run folder has the same files."""
    for processes in (1, 2):
        _finish(processes, triples, tmp_path / str(processes))
    one, two = (_losses(tmp_path / name) for name in ("1", "2"))
    assert one.keys() == two.keys()
    assert {stage for stage, _ in one} == {"copying", "identity", "correction", "preference"}
    assert two == pytest.approx(one, rel=1e-4)
    files = [sorted(str(path.relative_to(tmp_path / name)) for path in (tmp_path / name).rglob("*")) for name in "12"]
    assert files[0] == files[1]


@pytest.mark.slow
def test_the_kill_of_either_process_changes_nothing(triples: Path, tmp_path: Path) -> None:
    """Now one worker is killed and now the other; the same command ends with the bytes of an undisturbed run."""
    seed = int(os.environ.get("KILL_SEED", time.time_ns() % 10**6))
    print(f"KILL_SEED={seed}")
    random, kills = Random(seed), 0
    _finish(2, triples, tmp_path / "undisturbed")
    for victim in (0, 1, 0, 1):
        command = _command(2, triples, tmp_path / "killed")
        launched = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=_ENV)
        deadline = time.monotonic() + random.uniform(8, 16)
        while launched.poll() is None and time.monotonic() < deadline:
            time.sleep(0.1)
        workers = _workers(launched.pid)
        if len(workers) == 2:
            os.kill(workers[victim], signal.SIGKILL)
            kills += 1
        launched.wait(timeout=120)
    assert kills
    _finish(2, triples, tmp_path / "killed")
    first, second = (
        {path.name: path.read_bytes() for path in sorted((tmp_path / name / "checkpoint").iterdir())}
        for name in ("undisturbed", "killed")
    )
    assert first == second
