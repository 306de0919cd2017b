"""A study survives `kill -9`: the same command again makes the weights and the rows of an undisturbed one."""

import hashlib
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from random import Random

import pytest

from aligner.config import packaged_config

_KILLS = 10
_CONFIG = packaged_config("bootstrap-world")
_SMALLER = {
    'prompts = "world:6000"': 'prompts = "world:700"',
    "prompts_per_round = 1500": "prompts_per_round = 300",
    'held_out = "world:1000"': 'held_out = "world:150"',
    "rounds = 3": "rounds = 2\nsave_every = 5\nbatch = 16",
}


def _command(config: Path, out: Path) -> list[str]:
    return [sys.executable, "-m", "aligner", "bootstrap", str(config), "--out", str(out)]


def _finish(config: Path, out: Path) -> None:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(_command(config, out), capture_output=True, text=True, timeout=1200, env=environment)
    assert done.returncode == 0, done.stderr


def _killed(config: Path, out: Path, *, seconds: float) -> bool:
    """Start the command and kill it after that time; whether it was still running."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        _command(config, out), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment
    )
    time.sleep(seconds)
    process.send_signal(signal.SIGKILL)
    return process.wait() == -signal.SIGKILL


def _content(out: Path) -> dict[str, str]:
    """Every file that a study leaves, but for what holds times, and what says where it lies."""
    others = ("metrics.jsonl", "config.toml", ".lock")
    files = [path for path in out.rglob("*") if path.is_file() and path.name not in others]
    return {str(path.relative_to(out)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_kills(tmp_path: Path) -> None:
    """Killed at ten random moments over two rounds of two arms, it ends with the same files as undisturbed."""
    text = _CONFIG.read_text(encoding="utf-8")
    for old, new in _SMALLER.items():
        assert old in text
        text = text.replace(old, new)
    config = tmp_path / "study.toml"
    config.write_text(re.sub(r"^out = .*$", "", text, flags=re.MULTILINE), encoding="utf-8")
    began = time.monotonic()
    _finish(config, tmp_path / "undisturbed")
    whole = time.monotonic() - began
    random = Random(9)
    # Each start costs time before it works; what is left of the whole is spread over the kills.
    kills = [_killed(config, tmp_path / "killed", seconds=random.uniform(0.1, 0.3) * whole) for _ in range(_KILLS)]
    assert sum(kills) >= _KILLS // 2  # the others came when all was done
    _finish(config, tmp_path / "killed")
    assert _content(tmp_path / "killed") == _content(tmp_path / "undisturbed")
