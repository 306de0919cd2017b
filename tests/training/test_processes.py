"""Laws of several processes: they learn what one learns, and survive `kill -9` together."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Any

import pytest
from tiny import tiny_model

from aligner.errors import MisuseError
from aligner.training import processes

_LAUNCHERS = {
    "one": [sys.executable],
    "torchrun": [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2"],
}
_PATH = os.pathsep.join([str(Path(__file__).parents[1]), *os.environ.get("PYTHONPATH", "").split(os.pathsep)])
_ENV = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore", "PYTHONPATH": _PATH}


def _learn(base: Path, out: Path, save_every: int) -> None:
    """Fit a model to rows whose batches are no multiple of two, and write down what was logged and what came out."""
    from aligner.config import Optimisation
    from aligner.models.hf import load_causal_lm
    from aligner.training.adapter import Fit, fit
    from aligner.training.encode import EncodedRow

    random = Random(0)
    rows: list[EncodedRow] = []
    for size in random.choices(range(8, 60), k=130):
        ids, prompt = tuple(random.randrange(20, 290) for _ in range(size)), random.randint(1, size - 2)
        rows.append(EncodedRow(ids, prompt, tuple(random.choices((1.0, 3.0), k=size - prompt))))
    lm = load_causal_lm(base, "cpu")
    logged: list[tuple[int, float]] = []
    asked: list[int] = []

    def is_enough(_model: object, step: int) -> bool:
        asked.append(step)
        return step == 30

    plan = Fit(
        stage=Optimisation(batch=2, accumulate=2, learning_rate=1e-3),
        folder=out,
        seed=1,
        save_every=save_every,
        packing="on",
        on_progress=lambda now: logged.append((now.step, now.loss)),
        check_every=15,
        is_enough=is_enough,
    )
    model = fit(lm.model, lm.tokenizer, rows, plan)
    if processes.is_main():
        model.save_pretrained(out / "model")
        found = {"losses": logged, "asked": asked, "processes": processes.count()}
        (out / "logged.json").write_text(json.dumps(found))


def _command(launcher: str, base: Path, out: Path, save_every: int) -> list[str]:
    return [*_LAUNCHERS[launcher], __file__, str(base), str(out), str(save_every)]


def _finish(command: Sequence[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, timeout=280, check=False, env=_ENV)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_two_processes_have_the_loss_curve_of_one(tmp_path: Path) -> None:
    """Two processes log the losses of one that accumulates, and stop where it stops, though their batches are odd."""
    base = tiny_model(tmp_path / "base")
    found: list[dict[str, Any]] = []
    for name in ("one", "torchrun"):
        _finish(_command(name, base, tmp_path / name, 1000))
        found.append(json.loads((tmp_path / name / "logged.json").read_text()))
    one, two = found
    assert (one["processes"], two["processes"]) == (1, 2)
    assert [step for step, _ in one["losses"]] == [step for step, _ in two["losses"]] == [1, 10, 20, 30]
    for (_, alone), (_, together) in zip(one["losses"], two["losses"], strict=True):
        assert together == pytest.approx(alone, rel=1e-6)
    assert one["asked"] == two["asked"] == [15, 30]


def _newest(out: Path) -> int:
    """The highest step of which a checkpoint was begun."""
    return max((int(path.name.rpartition("-")[2]) for path in out.glob("checkpoint-*")), default=0)


def _workers(launcher: int) -> list[int]:
    """The processes that a launcher has started, the main one first."""
    try:
        children = Path(f"/proc/{launcher}/task/{launcher}/children").read_text().split()
    except FileNotFoundError:
        return []
    return sorted(map(int, children))


@pytest.mark.slow
def test_the_kill_of_either_process_changes_nothing(tmp_path: Path) -> None:
    """Killed at random moments, now one process and now the other, training ends with the undisturbed bytes."""
    seed = int(os.environ.get("KILL_SEED", time.time_ns() % 10**6))
    print(f"KILL_SEED={seed}")
    random = Random(seed)
    base, undisturbed, out = tiny_model(tmp_path / "base"), tmp_path / "undisturbed", tmp_path / "killed"
    _finish(_command("torchrun", base, undisturbed, 2))
    command, kills = _command("torchrun", base, out, 2), 0
    for victim in (0, 1, 0, 1):
        begun = _newest(out)
        launched = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=_ENV)
        while launched.poll() is None and _newest(out) == begun:
            time.sleep(0.02)
        time.sleep(random.uniform(0.0, 0.4))
        workers = _workers(launched.pid)
        if len(workers) == 2:
            os.kill(workers[victim], signal.SIGKILL)
            kills += 1
        launched.wait(timeout=120)
    assert kills >= 2
    _finish(command)
    model = "model/model.safetensors"
    assert (out / model).read_bytes() == (undisturbed / model).read_bytes()


def test_one_process_waits_for_nobody() -> None:
    """Without a launcher there is one process, it is the main one, and what it decides is told at once."""
    assert processes.count() == 1
    assert processes.is_main()
    processes.wait()
    assert processes.told_by_main(lambda: 7) == processes.main_first(lambda: 7) == processes.share_of(7) == 7


def test_a_step_that_cannot_be_shared_out_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """The batches of a step are those of all processes together: what does not divide is an error with its cure."""
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert processes.share_of(8) == 4
    with pytest.raises(MisuseError, match=r"accumulate = 3: .* among 2 processes; choose a multiple of 2"):
        processes.share_of(3)


if __name__ == "__main__":
    _learn(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]))
