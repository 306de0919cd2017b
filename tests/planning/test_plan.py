"""What `aligner train --plan` says, and that nothing heavy is loaded to say it."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from aligner.cli import main
from aligner.config import CorrectionStage, Gate, NewModel, TrainConfig
from aligner.data.fields import row_of
from aligner.files import write_rows
from aligner.planning.machine import Gpu, Machine
from aligner.planning.plan import Plan, plan_of
from aligner.planning.show import shown
from aligner.planning.times import rate_of, seconds_of
from aligner.world.rows import training_rows

_WORLD = [row.triple for row in training_rows(count=60, seed=0)]
_SMALL = ["--held-out", "10", "--new.layers", "1", "--new.width", "16", "--new.heads", "2", "--new.vocabulary", "300"]
_TRAINS = {"torch", "transformers", "trl", "accelerate", "datasets", "peft"}


@pytest.fixture(scope="module")
def triples(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("world") / "t.jsonl"
    write_rows(path, map(row_of, _WORLD))
    return path


def _plan(machine: Machine) -> Plan:
    new = NewModel(layers=1, width=16, heads=2, inner=32, vocabulary=300, context=128)
    config = TrainConfig(out=Path("run"), new=new, held_out=10, correction=CorrectionStage(batch=4, accumulate=2))
    return plan_of(config, _WORLD, machine)


def _words(plan: Plan) -> str:
    console = Console(width=200)
    with console.capture() as capture:
        console.print(shown(plan, rate_of(plan)))
    return capture.get()


@pytest.mark.parametrize(
    ("words", "exit_code"),
    [
        (["--plan", *_SMALL], 0),
        (["--plan", "--lora.bits", "4"], 2),
        (["--template", "seeled"], 2),
        (["--identity.lerning-rate", "1"], 2),
        (["--measure.by", "wrld"], 2),
    ],
    ids=["plan", "bits", "template", "key", "value"],
)
def test_neither_a_plan_nor_a_mistake_loads_what_trains(
    tmp_path: Path, triples: Path, words: list[str], exit_code: int
) -> None:
    """The command answers and ends without torch, and leaves no folder behind."""
    arguments = ["train", str(triples), "--out", str(tmp_path / "run"), "--device", "cpu", *words]
    code = f"import json, sys\nfrom aligner.cli import main\ncode = main({arguments!r})\n"
    code += "print(json.dumps([code, *sorted(sys.modules)]))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    found, *loaded = json.loads(done.stdout.splitlines()[-1])
    assert found == exit_code, done.stderr
    assert _TRAINS.isdisjoint(name.partition(".")[0] for name in loaded)
    assert not (tmp_path / "run").exists()


def test_every_figure_that_is_no_count_is_called_an_estimate(triples: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Memory, disk and time say so in their own line, and time says what it assumes."""
    assert main(["train", str(triples), "--out", "none", "--plan", "--device", "cpu", *_SMALL]) == 0
    said = capsys.readouterr().out
    lines = {line.partition(",")[0]: line for line in said.splitlines()}
    for name in ("Memory", "Disk", "Time"):
        assert "an estimate" in lines[name]
    assert "GFLOP/s that a core had just now" in lines["Time"]
    assert "50 rows to learn from, 10 held out" in said
    assert "identity *" in said


def test_a_gpu_is_timed_by_its_makers_figure_and_an_unknown_one_not_at_all() -> None:
    """The share of the peak is called assumed; twice the processes take half the time."""
    h100 = Machine(memory=2**36, disk=2**40, gpu=Gpu("NVIDIA H100 80GB HBM3", 80 * 2**30))
    alone, among = _plan(h100), _plan(h100._replace(processes=2))
    one, two = rate_of(alone), rate_of(among)
    assert one is not None
    assert two is not None
    assert sum(seconds_of(alone, one)) == pytest.approx(2 * sum(seconds_of(among, two)))
    assert "35% of the peak of NVIDIA H100 80GB HBM3, assumed" in _words(alone)
    assert "each of 2 processes" in _words(among)
    unknown = _words(_plan(h100._replace(gpu=Gpu("GPU 9000", 2**40))))
    assert "Time, an estimate" not in unknown
    assert "GPU 9000" in unknown


def test_a_gate_that_cannot_be_promised_is_told() -> None:
    """Fewer rows held out than the promise takes, of which none may break it: the plan says so in a line."""
    machine = Machine(memory=2**36, disk=2**40)
    line = "The gate will have no threshold: a promise of at most 1.00% takes 299 flawed answers"
    assert line in _words(_plan(machine))
    assert "no threshold" not in _words(replace(_plan(machine), held_out=299))
    laxer = Gate(wanted=0.2, of="needless")
    plan = replace(_plan(machine), config=replace(_plan(machine).config, gate=laxer))
    assert "no threshold: a promise of at most 20.00% takes 14 good answers" in _words(plan)
    assert "no threshold" not in _words(replace(plan, held_out=14))


def test_a_plan_needs_triples(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """An empty file, and a bad row in it, are told as training tells them."""
    path = tmp_path / "t.jsonl"
    path.touch()
    assert main(["train", str(path), "--out", "none", "--plan"]) == 2
    assert f"{path}: a plan needs triples" in capsys.readouterr().err
    path.write_text('{"question": "a"}\n')
    assert main(["train", str(path), "--out", "none", "--plan"]) == 1
    assert capsys.readouterr().err == f'aligner: {path}:1: no "answer"\n'
    rows = [row_of(row) for row in _WORLD]
    path.write_text("\n".join(["{}", *map(json.dumps, rows)]))
    assert main(["train", str(path), "--out", "none", "--plan", "--on-bad-row", "skip", *_SMALL]) == 0
    assert list(tmp_path.iterdir()) == [path]
