"""Laws of metrics.jsonl and of the sinks, read back by the programs that they are for."""

import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aligner.errors import MissingExtraError
from aligner.training.metrics import NAME, Metrics, read_metrics, sinks_named

_RATE = [0.25, 0.1, 0.5]


def logged(folder: Path, steps: range, *sinks: str, stage: str = "correction", loss: float = 0.5) -> None:
    """One process that logs these steps."""
    metrics = Metrics(folder, sinks_named(sinks, folder, {"seed": 1}))
    for step in steps:
        metrics.log(stage, step, {"loss": loss, "measured": {"fix_rate": _RATE, "by_source": {"a": {"rows": 1}}}})
    metrics.close()


@given(st.lists(st.tuples(st.integers(1, 9), st.integers(0, 9)), min_size=1, max_size=5), st.integers(0, 30))
def test_a_step_stands_once(tmp_path_factory: pytest.TempPathFactory, spans: list[tuple[int, int]], torn: int) -> None:
    """However often a run was killed and taken up, a step has one line, that of the last process; none is torn."""
    folder = tmp_path_factory.mktemp("run")
    logged(folder, range(1, 4), stage="identity")
    expected: dict[int, int] = {}
    for process, (first, more) in enumerate(spans):
        # A run is taken up from a step that it reached.
        start = min(first, max(expected, default=0) + 1)
        logged(folder, range(start, start + more), loss=process)
        if more:
            expected = {step: by for step, by in expected.items() if step < start}
            expected |= dict.fromkeys(range(start, start + more), process)
        with (folder / NAME).open("ab") as file:
            file.write(b'{"stage":"correction","step":77,"loss":1'[:torn])
    logged(folder, range(1, 2), stage="preference")
    rows = read_metrics(folder / NAME)
    assert {row["step"]: row["loss"] for row in rows if row["stage"] == "correction"} == expected
    assert [row["step"] for row in rows] == [1, 2, 3, *sorted(expected), 1]
    assert (folder / NAME).read_bytes().count(b"\n") == len(rows)


def test_tensorboard_reads_what_was_written(tmp_path: Path) -> None:
    """A stage's numbers are there by their names, and steps made again after a kill are shown once, as made last."""
    logged(tmp_path, range(1, 4), "tensorboard")
    logged(tmp_path, range(3, 6), "tensorboard", loss=0.25)
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(tmp_path / "tensorboard" / "correction"))
    events.Reload()
    assert events.Tags()["scalars"] == ["loss", "measured/fix_rate"]
    assert [(one.step, one.value) for one in events.Scalars("loss")] == [
        (1, 0.5),
        (2, 0.5),
        *((i, 0.25) for i in (3, 4, 5)),
    ]
    assert {one.value for one in events.Scalars("measured/fix_rate")} == {0.25}


def test_trackio_keeps_figures_on_this_machine(tmp_path: Path) -> None:
    """They lie in its own store under the run's name, each step once."""
    code = (
        "import sys; from pathlib import Path; from test_metrics import logged; folder = Path(sys.argv[1]); "
        "logged(folder, range(1, 3), 'trackio'); logged(folder, range(2, 4), 'trackio')"
    )
    # It reads where its store lies when it is imported.
    path = os.pathsep.join([str(Path(__file__).parent), *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = {**os.environ, "TRACKIO_DIR": str(tmp_path / "store"), "PYTHONPATH": path}
    subprocess.run([sys.executable, "-c", code, tmp_path], check=True, env=environment)
    with closing(sqlite3.connect(tmp_path / "store" / "aligner.db")) as store:
        rows = list(store.execute("select run_name, step from metrics order by step"))
    assert [step for _, step in rows] == [1, 2, 3]
    assert {name.rpartition("-")[0] for name, _ in rows} == {tmp_path.name}


@pytest.mark.parametrize(("sink", "module"), [("tensorboard", "tensorboard"), ("trackio", "trackio")])
def test_a_sink_that_is_not_installed_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sink: str, module: str
) -> None:
    """What is missing is told with its cure before anything is logged."""
    loaded: list[Any] = [name for name in sys.modules if name.startswith(("torch.utils.tensorboard", module))]
    for name in [*loaded, module]:
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(MissingExtraError, match=rf'report = \["{sink}"\] .* pip install .aligner-llm\[report\]'):
        sinks_named([sink], tmp_path, {})
