"""Laws of parts in processes of this machine."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from aligner.errors import AlignerError, MisuseError, ModelError
from aligner.sharding.calling import MOST_DEATHS, Part
from aligner.sharding.engines import Engine, run_parts

TESTS = str(Path(__file__).parents[1])


@pytest.fixture(autouse=True)
def _works(monkeypatch: pytest.MonkeyPatch) -> None:  # pyright: ignore[reportUnusedFunction]
    """Other processes find the works."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([TESTS, *filter(None, [os.environ.get("PYTHONPATH")])]))


def done(work: str, tasks: list[object], *, workers: int = 2) -> dict[int, object]:
    """What each part gave."""
    values: dict[int, object] = {}

    def note(part: Part, value: object) -> None:
        assert part.number not in values
        values[part.number] = value

    parts = [Part(number, len(tasks), task) for number, task in enumerate(tasks)]
    run_parts(parts, f"works:{work}", Engine(workers=workers), note)
    return values


def test_each_part_is_done_once() -> None:
    """All values come, each once, whatever the number of processes; no parts are no work."""
    assert done("doubled", [1, 2, 3, 4, 5], workers=2) == {i: (2 * (i + 1), 0) for i in range(5)}
    assert done("doubled", [1], workers=9) == {0: (2, 0)}
    assert done("doubled", []) == {}


def test_a_part_whose_process_dies_is_begun_again(tmp_path: Path) -> None:
    """It is told of each death, others are not disturbed, and it is done in the end."""
    log = tmp_path / "log"
    assert done("dying", [{"log": str(log), "times": 3}, {"log": str(tmp_path / "other"), "times": 0}]) == {0: 3, 1: 0}
    assert log.read_text() == "0\n1\n2\n3\n"
    assert (tmp_path / "other").read_text() == "0\n"


@pytest.mark.slow
def test_a_part_that_always_dies_ends_the_run(tmp_path: Path) -> None:
    """After so many deaths the line says which part, how it died, and what may help."""
    with pytest.raises(AlignerError, match=rf"part 0 of 1: its process ended {MOST_DEATHS} times \(signal 9\); is"):
        done("dying", [{"log": str(tmp_path / "log"), "times": 99}])


@pytest.mark.slow
def test_deaths_that_give_up_rows_do_not_end_the_run(tmp_path: Path) -> None:
    """Eight deadly rows in a part are more deaths than there may be, and half of them bring the work forward."""
    rows, path = 8, tmp_path / "suspects.json"
    assert 2 * rows > MOST_DEATHS
    values: list[object] = []
    parts = [Part(0, 1, {"suspects": str(path), "rows": rows}, suspects=path)]
    run_parts(parts, "works:poisoned", Engine(workers=1), lambda _, value: values.append(value))
    assert values == [list(range(rows))]


@pytest.mark.parametrize(
    ("how", "kind", "line"),
    [
        ("misuse", MisuseError, "no such thing"),
        ("down", ModelError, "nobody listens"),
        ("refused", ModelError, "the server refuses"),
        ("bug", AlignerError, r"KeyError at works\.py:\d+: 'a bug\\nof two lines'"),
    ],
)
def test_an_error_of_a_part_ends_the_run(how: str, kind: type[Exception], line: str) -> None:
    """It comes over as an error of its kind, in one line that names the part, and parts that wait are not begun."""
    began = time.monotonic()
    with pytest.raises(kind, match=rf"^part 0 of 1: {line}$"):
        done("failing", [how])
    assert time.monotonic() - began < 60


def test_no_process_outlives_the_run(tmp_path: Path) -> None:
    """When the one who asked is killed, those who work end too, in the middle of whatever they do."""
    mark = tmp_path / "pid"
    program = (
        "import sys\n"
        "from aligner.sharding.calling import Part\n"
        "from aligner.sharding.local import run_local\n"
        "run_local([Part(0, 1, sys.argv[1])], 'works:waiting', workers=1, on_done=print)\n"
    )
    driver = subprocess.Popen([sys.executable, "-c", program, str(mark)])
    while not (mark.exists() and mark.read_text()):
        assert driver.poll() is None
        time.sleep(0.02)
    worker = int(mark.read_text())
    driver.send_signal(signal.SIGKILL)
    driver.wait()
    due = time.monotonic() + 20
    while Path(f"/proc/{worker}").exists() and time.monotonic() < due:
        if Path(f"/proc/{worker}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
            break
        time.sleep(0.02)
    assert time.monotonic() < due


def test_an_unknown_engine_is_named() -> None:
    """A number of workers below 0 and an engine that nobody knows are misuse."""
    with pytest.raises(MisuseError, match="--workers must be at least 1"):
        run_parts([], "works:doubled", Engine(workers=-1), print)
