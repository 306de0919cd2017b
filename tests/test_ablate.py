"""Laws of ablations: rows that come to the same are one run, and a table is taken up again run by run."""

import subprocess
import sys
import time
from collections.abc import Sequence
from math import sqrt
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aligner.ablate import ablate, jobs_of, read_ablation
from aligner.ablating.found import Fate, Found
from aligner.ablating.table import lines_of, over_seeds
from aligner.config import AblateConfig
from aligner.errors import AlignerError, MisuseError

_TRAINING = """
base = "new"
held_out = 20
device = "cpu"
[new]
layers = 1
width = 16
heads = 2
inner = 32
vocabulary = 400
context = 256
[copying]
rows = 16
batch = 8
accumulate = 1
[identity]
share = 0.2
batch = 8
accumulate = 1
epochs = 1
[correction]
batch = 8
accumulate = 1
epochs = 1
"""
_TABLE = """
title = "Weights | of edits"
training = "world.toml"
against = "plain"
seeds = [0, 1]
world = 100
answers = 1
[[rows]]
name = "plain"
[[rows]]
name = "the same"
set = ["correction.edit_weight = 1.0"]
[[rows]]
name = "x 4"
set = ["correction.edit_weight = 4.0"]
"""


@pytest.fixture
def table(tmp_path: Path) -> Path:
    (tmp_path / "world.toml").write_text(_TRAINING)
    (tmp_path / "edits.toml").write_text(_TABLE)
    return tmp_path / "edits.toml"


def _found(seed: int, fates: Sequence[Fate]) -> Found:
    return Found(row="a", seed=seed, steps=1, seconds=1.0, parameters=1, fates=fates)


@pytest.mark.slow
def test_every_row_is_trained_with_every_seed_and_then_left_alone(
    table: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Equal rows are one run, rows that begin alike share stages, and the same command again only shows the table."""
    config = AblateConfig(tables=(table,), out=table.parent / "out")
    ablate(config)
    runs = sorted((config.out / "runs").iterdir())
    assert len(runs) == 4
    assert len(list((config.out / "stages").glob("identity-*"))) == 2
    text = (config.out / "edits" / "table.md").read_text()
    assert "| plain |" in text
    assert "| x 4 |" in text
    assert "Weights | of edits" in (config.out / "edits" / "table.svg").read_text()
    before = {path: path.stat().st_mtime_ns for run in runs for path in run.rglob("*")}
    ablate(config)
    assert {path: path.stat().st_mtime_ns for run in runs for path in run.rglob("*")} == before
    assert (config.out / "edits" / "table.md").read_text() == text
    assert "difference from: plain" in capsys.readouterr().out


def test_what_was_found_survives_the_disk(tmp_path: Path) -> None:
    """Saved and loaded, a run has the same fates; a damaged file is named with its cure."""
    found = _found(3, [Fate(good=True, right=False, kept=False), Fate(good=False, right=True, kept=False)])
    found.save(tmp_path / "found.json")
    assert Found.load(tmp_path / "found.json") == found
    assert (found.fixed, found.broken, found.copied) == ([True], [True], [False])
    (tmp_path / "found.json").write_text("{")
    with pytest.raises(AlignerError, match="delete it, and it is made again"):
        Found.load(tmp_path / "found.json")


@given(st.lists(st.floats(0, 1), min_size=2, max_size=6))
def test_the_interval_over_seeds_is_that_of_student(values: list[float]) -> None:
    """It stands around the mean, is no narrower than its values are apart from it, and empty where all agree."""
    found = over_seeds(values)
    assert found.low <= found.value <= found.high
    assert found.high - found.value == pytest.approx(found.value - found.low)
    assert found.high - found.low >= (max(values) - min(values)) / len(values) - 1e-12
    assert over_seeds(values[:1] * 3).high == pytest.approx(values[0])


def test_the_interval_of_three_seeds() -> None:
    """Student's t with two degrees of freedom: 4.303 standard errors."""
    found = over_seeds([0.1, 0.2, 0.3])
    assert found.high - found.value == pytest.approx(4.3027 * 0.1 / sqrt(3), rel=1e-4)


def test_a_row_differs_from_itself_by_nothing() -> None:
    """Differences are taken seed by seed, so that what all seeds share drops out."""
    fates = [
        [Fate(good=False, right=right, kept=False) for right in rights] for rights in ([True, False], [True, True])
    ]
    plain = [_found(seed, of_seed) for seed, of_seed in enumerate(fates)]
    lines = lines_of({"a": plain, "b": plain}, "a")
    assert not lines[0].gains
    assert lines[1].gains["fixed"] == (0.0, 0.0, 0.0)
    assert lines[0].rates["fixed"].value == 0.75


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ('against = "plain"', 'against = "plan"', 'did you mean "plain"'),
        ("edit_weight = 4.0", "edit_wait = 4.0", 'did you mean "edit_weight"'),
        ("edit_weight = 4.0", "edit_weight: 4.0", "write a key and its value"),
        ('name = "x 4"', 'name = "plain"', "two rows have the same name"),
        ("world = 100\n", "", "name either triples or a number of rows"),
    ],
)
def test_mistakes_are_told_before_anything_is_trained(table: Path, before: str, after: str, said: str) -> None:
    """What is wrong with any row is said in one line."""
    table.write_text(_TABLE.replace(before, after))
    with pytest.raises(MisuseError, match=said) as caught:
        read_ablation(table)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("path", sorted(Path("configs/ablations").glob("*.toml")), ids=lambda path: path.stem)
def test_the_tables_that_ship_can_be_trained(path: Path) -> None:
    """Each row of each table is a training configuration, and each table has three seeds."""
    if path.stem != "world":
        ablation = read_ablation(path)
        assert len(ablation.seeds) == 3
        assert len({job.key for job in jobs_of(ablation, Path("out"))}) == 3 * len(ablation.rows)


@pytest.mark.slow
def test_no_process_outlives_a_killed_command(tmp_path: Path, table: Path) -> None:
    """The processes that train end with the command that began them."""
    command = [sys.executable, "-m", "aligner", "ablate", str(table), "--out", str(tmp_path / "killed"), "--jobs", "1"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    marks = f"/proc/{process.pid}/task/{process.pid}/children"
    trainers: list[int] = []
    while not (
        trainers := [child for child in map(int, Path(marks).read_text().split()) if "spawn_main" in _line(child)]
    ):
        assert process.poll() is None
        time.sleep(0.05)
    process.kill()
    process.wait()
    deadline = time.monotonic() + 60
    while any("spawn_main" in _line(child) for child in trainers):
        assert time.monotonic() < deadline
        time.sleep(0.1)


def _line(process: int) -> str:
    """The command line of a process, nothing where it is gone."""
    try:
        return Path(f"/proc/{process}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    except FileNotFoundError:
        return ""
