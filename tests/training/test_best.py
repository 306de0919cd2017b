"""Laws of the best weights: they are those of the highest score, however often the stage was killed."""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from aligner.records import Correction, Exchange, Triple
from aligner.training.best import Best, Watch
from aligner.training.measured import Measured
from aligner.training.measuring import count, standard_named

_EVENTS = {"open", "os.mkdir", "os.remove", "os.rename", "os.rmdir", "shutil.rmtree"}
_left: list[int] = []
"""how many more operations on files are allowed; empty allows all"""


class _Killed(BaseException):
    """Nothing after this moment is done."""


def _hook(event: str, _: Any) -> None:
    if _left and event in _EVENTS:
        _left[0] -= 1
        if _left[0] < 0:
            raise _Killed


sys.addaudithook(_hook)


@contextmanager
def killed_after(operations: int) -> Iterator[None]:
    """Let so many operations on files be made, and none after them."""
    _left.append(operations)
    try:
        with suppress(_Killed):
            yield
    finally:
        _left.clear()


def measured(score: int) -> Measured:
    """Figures with that score, in tenths."""
    exchange = Exchange("?", "a")
    made = [Correction(exchange=exchange, text="b" if place < score else "a") for place in range(10)]
    return count([Triple("?", "a", "b")] * 10, made, standard_named("exact"))


def save(model: int, folder: Path) -> None:
    """A model of these tests is a number."""
    (folder / "model.safetensors").write_text(str(model))


def learn(best: Best, scores: list[int], start: int) -> None:
    """Measure every step from `start` on, counted from 1."""
    for step in range(start, len(scores) + 1):
        best.consider(step, step, measured(scores[step - 1]))


@settings(max_examples=30)
@given(
    scores=st.lists(st.integers(0, 10), min_size=1, max_size=6),
    kills=st.lists(st.tuples(st.integers(0, 80), st.integers(0, 3)), max_size=3),
)
def test_the_best_survives_kills(scores: list[int], kills: list[tuple[int, int]]) -> None:
    """Killed between any two operations and taken up from any earlier step, the first of the highest is kept, whole."""
    with TemporaryDirectory() as name:
        best = Best(Path(name) / "best", save)
        start, measured_to = 1, 0
        for operations, back in kills:
            with killed_after(operations):
                for step in range(start, len(scores) + 1):
                    best.consider(step, step, measured(scores[step - 1]))
                    measured_to = max(measured_to, step)
            kept = best.found()
            assert (kept.score if kept else -1) >= max([s / 10 for s in scores[:measured_to]], default=-1)
            assert kept is None or (kept.folder / "model.safetensors").read_text() == str(kept.step)
            start = max(1, measured_to + 1 - back)
        learn(best, scores, start)
        kept = best.found()
        assert kept is not None
        assert (kept.score, kept.step) == (max(scores) / 10, scores.index(max(scores)) + 1)
        assert (kept.folder / "model.safetensors").read_text() == str(kept.step)
        assert json.loads((kept.folder / "measured.json").read_text())["measured"]["fixed"] == max(scores)


def test_only_the_best_takes_room(tmp_path: Path) -> None:
    """After any number of steps there is one model, and nothing where nothing was considered."""
    best = Best(tmp_path / "best", save)
    assert best.found() is None
    learn(best, [3, 5, 4, 5, 7], 1)
    assert [path.name for path in best.folder.iterdir()] == ["step-5"]


def test_a_watch_measures_logs_and_keeps(tmp_path: Path) -> None:
    """Each call is one measurement, told with its step; without a place for the best, nothing is written."""
    told: list[tuple[int, float]] = []
    best = Best(tmp_path / "best", save)
    for place in (best, None):
        watch = Watch(measured, lambda step, found: told.append((step, found.score)), place)
        watch(4, 10)
        watch(2, 20)
    assert told == [(10, 0.4), (20, 0.2)] * 2
    kept = best.found()
    assert kept is not None
    assert kept.step == 10
