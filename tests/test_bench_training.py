"""The benchmark of training counts what it times."""

import importlib.util
from pathlib import Path
from typing import Any

import pytest


@pytest.mark.slow
def test_both_arms_count_the_unpadded_tokens_of_their_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Over all rows they are the tokens of these rows; steps to warm up add none."""
    training = _benchmark()
    monkeypatch.setattr(training, "WARM", 0)
    task = training.demo_task(steps=2, rounds=1)
    whole = sum(len(row.ids) for row in task.rows)
    assert [training.counted(make, task)[0] for make in (training.our_trainer, training.trl_trainer)] == [whole, whole]
    monkeypatch.setattr(training, "WARM", 1)
    assert 0 < training.counted(training.our_trainer, task)[0] < whole


def _benchmark() -> Any:
    """The file by its path: a folder of tests has its name."""
    path = Path(__file__).parents[1] / "benchmarks" / "training.py"
    spec = importlib.util.spec_from_file_location("benchmark_of_training", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
