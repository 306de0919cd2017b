"""A training that would not fit is refused before it starts, with its numbers and what would help."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any, ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from tiny import tiny_model

from aligner.cli import main
from aligner.config import CorrectionStage, IdentityStage, Lora, NewModel, TrainConfig
from aligner.data.fields import row_of
from aligner.errors import MisuseError
from aligner.files import write_rows
from aligner.planning.fitting import check_fit, refuse_unfitting, unfitting
from aligner.planning.lengths import Length
from aligner.planning.machine import Gpu, Machine, free_memory, gpus_here, this_machine
from aligner.planning.memory import Way, memory_of
from aligner.planning.plan import Plan, plan_of
from aligner.planning.show import shown
from aligner.planning.sizes import shape_in
from aligner.planning.times import rate_of
from aligner.planning.volumes import Stage
from aligner.records import Triple
from aligner.world.rows import training_rows

_HUGE = {
    "hidden_size": 8192,
    "intermediate_size": 28672,
    "num_hidden_layers": 80,
    "num_attention_heads": 64,
    "num_key_value_heads": 8,
}
_WORLD = [row.triple for row in training_rows(count=100, seed=0)]
_GPU = Machine(memory=2**36, disk=2**50, gpu=Gpu("NVIDIA H100 80GB HBM3", 80 * 2**30), processes=8)


@pytest.fixture(scope="module")
def huge(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a model of about 70 billion parameters, without its weights."""
    folder = tiny_model(tmp_path_factory.mktemp("huge"))
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **_HUGE}))
    (folder / "model.safetensors").unlink()
    return folder


@pytest.fixture
def triples(tmp_path: Path) -> Path:
    path = tmp_path / "t.jsonl"
    write_rows(path, map(row_of, _WORLD))
    return path


def _plan(base: Path, machine: Machine = _GPU, **changes: Any) -> Plan:
    config = TrainConfig(out=Path("run"), base=str(base), held_out=10, correction=CorrectionStage(batch=16), **changes)
    return plan_of(config, _WORLD, machine)


def test_what_does_not_fit_is_refused_with_its_numbers_and_cures(huge: Path) -> None:
    """One line says what it needs and for what, what is there, and which flags make it need how much."""
    with pytest.raises(MisuseError) as caught:
        refuse_unfitting(_plan(huge))
    line = str(caught.value)
    assert "\n" not in line
    for part in ("NVIDIA H100 80GB HBM3 has 80.0 GiB free", "weights", "AdamW's moments", "--lora.rank 16 (", "FSDP ("):
        assert part in line, line
    assert "--gradient-checkpointing" not in line  # is on already
    assert "--if-too-large try" in line


def test_low_rank_in_four_bits_over_shards_fits_where_nothing_else_does(huge: Path) -> None:
    """Each cure needs less than what it cures, and the last of them fits."""
    sharded = _GPU._replace(sharded=True)
    plans = [
        _plan(huge, gradient_checkpointing="off"),
        _plan(huge),
        _plan(huge, sharded),
        _plan(huge, sharded, lora=Lora(rank=16)),
        _plan(huge, sharded, lora=Lora(rank=16, bits=4)),
    ]
    needed = [plan.needed for plan in plans]
    assert needed == sorted(needed, reverse=True)
    assert not unfitting(plans[-1])
    assert unfitting(plans[0])


def test_nothing_is_left_behind_and_the_exit_code_is_2(
    huge: Path, triples: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The command refuses before there is a folder of the run; its plan says so and ends well."""
    out = triples.parent / "run"
    words = ["train", str(triples), "--out", str(out), "--base", str(huge), "--held-out", "10", "--device", "cpu"]
    assert main([*words, "--plan"]) == 0
    assert "This would not fit" in capsys.readouterr().out
    config = TrainConfig(triples=triples, out=out, base=str(huge), held_out=10, device="cpu")
    with pytest.raises(MisuseError, match="would need about") as caught:
        check_fit(config)
    assert caught.value.exit_code == 2
    assert not out.exists()
    check_fit(replace(config, if_too_large="try"))
    out.mkdir()
    (out / "config.toml").touch()
    check_fit(config)  # it has begun, so it did fit


def test_the_whole_model_has_to_fit_before_it_is_split(huge: Path) -> None:
    """Over ever so many processes, each loads all weights in float32 first."""
    many = _plan(huge, _GPU._replace(sharded=True, processes=1024))
    assert many.memory is not None
    assert many.base.shape is not None
    assert many.memory.total < 4 * many.base.shape.parameters < many.needed
    assert "the whole model in float32" in unfitting(many)


def test_a_gpu_that_is_asked_for_has_to_be_there(tmp_path: Path) -> None:
    """The plan counts what can be counted and says so; training refuses."""
    plan = _plan(tiny_model(tmp_path), Machine(memory=2**40, disk=2**40), device="cuda")
    assert "nvidia-smi sees no GPU here; choose --device cpu or auto" in unfitting(plan)
    assert plan.way.on_gpu
    assert rate_of(plan) is None
    console = Console(width=200)
    with console.capture() as capture:
        console.print(shown(plan, None))
    assert "This would not fit: it has --device cuda" in capture.get()
    assert "main memory" not in capture.get()


def test_a_full_disk_is_told_before_it_is_full(tmp_path: Path) -> None:
    """Checkpoints have to fit too."""
    base = tiny_model(tmp_path)
    assert "the disk has 0 MiB free" in unfitting(_plan(base, Machine(memory=2**40, disk=0)))
    assert not unfitting(_plan(base, Machine(memory=2**40, disk=2**40)))


def test_a_base_that_is_not_here_is_planned_as_far_as_can_be() -> None:
    """Rows and steps are known, tokens are guessed, and nothing is said of memory or refused."""
    plan = _plan(Path("nobody/none"))
    assert plan.memory is None
    assert "nobody/none is not on this machine" in plan.base.unknown
    assert plan.stages[-1].steps > 0
    assert not unfitting(plan)


class _Hub(BaseHTTPRequestHandler):
    """The routes of a hub that its client needs for one model."""

    files: Mapping[str, bytes] = {}
    asked: ClassVar[list[str]] = []

    def do_GET(self) -> None:
        """Answer."""
        self.asked.append(self.path)
        name = self.path.rpartition("/")[2]
        sizes = {file: len(body) for file, body in self.files.items()}
        listed = [{"type": "file", "path": file, "size": size, "oid": file} for file, size in sizes.items()]
        body = self.files.get(name, b"")
        if self.path.startswith("/api/models/some/base/tree/"):
            body = json.dumps(listed).encode()
        elif self.path.startswith("/api/models/"):
            siblings = [{"rfilename": file} for file in self.files]
            body = json.dumps({"id": "some/base", "sha": "a" * 40, "siblings": siblings}).encode()
        self.send_response(200 if body else 404)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("X-Repo-Commit", "a" * 40)
        self.send_header("ETag", f'"{name}"')
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    do_HEAD = do_GET  # noqa: N815  # the library's name

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the library's name
        """Say nothing."""


@pytest.mark.slow
def test_a_base_on_the_hub_is_sized_before_its_weights_are_fetched(huge: Path, triples: Path, tmp_path: Path) -> None:
    """What is not here is asked for its sizes when training begins, and refused without a byte of weights."""
    _Hub.files = {path.name: path.read_bytes() for path in huge.glob("*.json")} | {"model.safetensors": b"weights"}
    with ThreadingHTTPServer(("127.0.0.1", 0), _Hub) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        environ = {"HF_ENDPOINT": f"http://127.0.0.1:{server.server_port}", "HF_HOME": str(tmp_path / "hub")}
        words = ["train", str(triples), "--out", str(tmp_path / "run"), "--base", "some/base", "--held-out", "10"]
        code = f"from aligner.cli import main\nraise SystemExit(main({[*words, '--device', 'cpu']!r}))"
        offline = {**os.environ, **environ, "HF_HUB_OFFLINE": "0"}
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, env=offline)
        server.shutdown()
    assert done.returncode == 2, done.stderr
    assert "would need about" in done.stderr
    assert "/some/base/resolve" in " ".join(_Hub.asked)
    assert "safetensors" not in " ".join(_Hub.asked)
    assert not (tmp_path / "run").exists()


def test_a_base_on_a_hub_that_cannot_be_reached_stays_unknown(triples: Path) -> None:
    """Whoever loads it then says why."""
    check_fit(TrainConfig(triples=triples, out=triples.parent / "run", base="nobody/none", held_out=10, device="cpu"))


@given(st.integers(1, 64), st.integers(1, 64), st.booleans(), st.booleans())
def test_more_rows_at_once_never_need_less(tmp: Path, batch: int, more: int, on_gpu: bool, checkpointing: bool) -> None:
    """Memory grows with the batch, and of many layers both LoRA and checkpointing need less."""
    shape, way = shape_in(tmp), Way(on_gpu=on_gpu, checkpointing=checkpointing)
    small, large = (memory_of(shape, _stage(rows), way).total for rows in (batch, batch + more))
    assert small < large
    deep = replace(shape, layers=12)
    kept, twice = (memory_of(deep, _stage(batch), replace(way, checkpointing=on)).total for on in (False, True))
    adapted = memory_of(deep, _stage(batch), replace(way, rank=1, checkpointing=False)).total
    assert twice < kept
    assert adapted < kept


@pytest.fixture(scope="module")
def tmp(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("base"))


def _stage(batch: int) -> Stage:
    how = CorrectionStage(batch=batch)
    return Stage(name="x", how=how, rows=100, too_long=0, steps=1, tokens=9000, learnt=3000, longest=Length(60, 40))


def test_a_container_has_what_its_limit_leaves(tmp_path: Path) -> None:
    """Both versions of control groups are read, and the word max is no limit."""
    (tmp_path / "meminfo").write_text("MemTotal: 9000 kB\nMemAvailable: 8000 kB\n")
    assert free_memory(tmp_path, tmp_path) == 8000 * 1024
    (tmp_path / "memory.max").write_text("max\n")
    assert free_memory(tmp_path, tmp_path) == 8000 * 1024
    (tmp_path / "memory.max").write_text("3000\n")
    (tmp_path / "memory.current").write_text("1000\n")
    assert free_memory(tmp_path, tmp_path) == 2000
    (tmp_path / "memory.stat").write_text("anon 300\ninactive_file_x 1\ninactive_file 600\nactive_file 100\n")
    assert free_memory(tmp_path, tmp_path) == 2600  # the kernel gives back what lies in its cache
    (tmp_path / "memory").mkdir()
    (tmp_path / "memory/memory.limit_in_bytes").write_text("500\n")
    (tmp_path / "memory/memory.usage_in_bytes").write_text("800\n")
    assert free_memory(tmp_path, tmp_path) == 0
    (tmp_path / "memory/memory.stat").write_text("inactive_file 1\ntotal_inactive_file 700\n")
    assert free_memory(tmp_path, tmp_path) == 400


@pytest.mark.parametrize(
    ("visible", "asked"),
    [(None, ""), ("1", "--id=1"), ("2,0", "--id=2,0"), ("0,-1,1", "--id=0"), ("", None), ("-1", None)],
)
def test_only_visible_gpus_are_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, visible: str | None, asked: str | None
) -> None:
    """What is hidden from CUDA programs is not planned with; nothing visible is no GPU."""
    program = tmp_path / "nvidia-smi"
    program.write_text(f'#!/bin/sh\necho "$*" > {tmp_path}/asked\necho "NVIDIA L4, 20000"\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    found = gpus_here({} if visible is None else {"CUDA_VISIBLE_DEVICES": visible})
    assert found == ([] if asked is None else [Gpu("NVIDIA L4", 20000 * 2**20)])
    if asked is None:
        assert not (tmp_path / "asked").exists()
    else:
        assert (tmp_path / "asked").read_text().split()[2:] == asked.split()


def test_processes_share_the_memory_of_a_machine(tmp_path: Path) -> None:
    """A launcher says how many there are, here and in all, and whether they share the states."""
    launched = {"WORLD_SIZE": "8", "LOCAL_WORLD_SIZE": "4", "ACCELERATE_USE_FSDP": "true"}
    alone, among = (this_machine("cpu", tmp_path / "run", environ) for environ in ({}, launched))
    assert (alone.processes, alone.sharded) == (1, False)
    assert (among.processes, among.sharded) == (8, True)
    assert among.memory == pytest.approx(alone.memory / 4, rel=0.2)


_PEAK = """
import json, resource, sys
from pathlib import Path
from aligner.config import CorrectionStage, NewModel
from aligner.records import Triple
from aligner.templates import TEMPLATES
from aligner.training.adapter import Fit, fit
from aligner.training.encode import EncodedRow
from aligner.training.new_model import new_model
given = json.loads(sys.argv[1])

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

def trained(new, batch, length, **how):
    model, tokenizer = new_model(new, TEMPLATES["sealed"], [Triple("a", "b", "c")], seed=0)
    rows = [EncodedRow(tuple([9] * length), length // 2)] * (2 * batch)
    stage = CorrectionStage(batch=batch, accumulate=1, epochs=1)
    fit(model, tokenizer, rows, Fit(stage=stage, folder=Path(sys.argv[2]) / str(batch), seed=0, save_every=100, **how))

trained(NewModel(layers=1, width=16, heads=2, inner=32, vocabulary=300), 1, 8)
before = peak()
trained(NewModel(**given["new"]), given["batch"], given["length"], gradient_checkpointing=given["checkpointing"])
print(peak() - before)
"""


@pytest.mark.slow
@pytest.mark.parametrize(("wide", "checkpointing"), [(True, "off"), (False, "off"), (False, "on")])
def test_the_estimate_is_within_a_factor_of_two_of_what_training_takes(
    tmp_path: Path, wide: bool, checkpointing: Any
) -> None:
    """Of a program that trains, the growth of its largest size is what the plan says: by states, or by activations."""
    new = (
        NewModel(layers=4, width=768, heads=8, inner=2048)
        if wide
        else NewModel(layers=6, width=256, heads=8, inner=704)
    )
    batch, length = (1, 64) if wide else (24, 256)
    given = {"new": {name: getattr(new, name) for name in ("layers", "width", "heads", "inner", "vocabulary")}}
    given |= {"batch": batch, "length": length, "checkpointing": checkpointing}
    done = subprocess.run(
        [sys.executable, "-c", _PEAK, json.dumps(given), str(tmp_path)], capture_output=True, text=True, check=True
    )
    how, rows = CorrectionStage(batch=batch), Length(length // 2, length // 2)
    config = TrainConfig(
        out=tmp_path / "run",
        new=new,
        held_out=0,
        identity=IdentityStage(share=0),
        correction=how,
        gradient_checkpointing=checkpointing,
    )
    plan = plan_of(config, [Triple("a", "b", "c")], Machine(memory=2**40, disk=2**40))
    (stage,) = plan.stages
    assert plan.base.shape is not None
    estimate = memory_of(plan.base.shape, replace(stage, longest=rows), plan.way).total
    assert estimate / 2 < int(done.stdout.splitlines()[-1]) < estimate * 2
