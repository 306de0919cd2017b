"""A whole study in miniature: real answers, corrections, training and measuring, from the upstream that ships."""

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pytest

from aligner.bootstrap import bootstrap
from aligner.bootstrapping.gating import gated_in
from aligner.bootstrapping.mixing import lesson_in
from aligner.bootstrapping.nouns import Step
from aligner.bootstrapping.parents import records_in
from aligner.config import BootstrapArm, BootstrapConfig, BootstrapGuards, packaged_config, read_config
from aligner.config.bootstrapping import DPOArm, KTOArm, RewardStage, RLArm, Way
from aligner.errors import MisuseError
from aligner.files import write_rows
from aligner.models import load_model
from aligner.records import Message

_ROUND = "sft/seed-0/round-01"


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> BootstrapConfig:
    """Two rounds of the packaged study, with few prompts."""
    config = read_config(BootstrapConfig, packaged_config("bootstrap-world"), out=tmp_path_factory.mktemp("study"))
    return replace(
        config, rounds=2, arms=config.arms[:1], prompts="world:400", prompts_per_round=150, held_out="world:100"
    )


@pytest.fixture(scope="module")
def study(config: BootstrapConfig) -> Path:
    """The folder of the finished study."""
    bootstrap(config)
    return config.out


def _report(study: Path) -> list[dict[str, Any]]:
    return orjson.loads((study / "report.json").read_bytes())["rounds"]


def test_corrections_teach(study: Path) -> None:
    """An upstream that learns from the corrections of its answers gives more good ones, and the first round is kept."""
    first, taught, *_ = _report(study)
    assert taught["verdict"]["accepted"]
    assert taught["found"]["good"]["value"] > first["found"]["good"]["value"] + 0.1
    assert taught["found"]["net"]["all"]["low"] > 0


def test_lineage(study: Path) -> None:
    """Every artefact of a round is named by its hash, and each step says of which artefacts it came."""
    records = records_in(study / _ROUND)
    for record in records.values():
        assert record["sha256"][:12] in record["artefact"]
        assert (study / _ROUND / record["artefact"]).exists()
    assert records["corrections"]["from"]["answers"] == records["answers"]["sha256"]
    assert records["model"]["from"]["lessons"] == records["lessons"]["sha256"]
    assert records["held_out"]["from"]["upstream"] == records["model"]["sha256"]
    assert records_in(study / "sft/seed-0/round-02")["answers"]["from"]["upstream"] == records["model"]["sha256"]


def test_held_out_is_never_learnt(study: Path) -> None:
    """No held-out question is among the prompts, and no watched correction among what is learnt."""
    records = records_in(study / _ROUND)
    lesson = lesson_in(study / _ROUND / records["lessons"]["artefact"])
    held_out = {row["question"] for row in _rows(study / "first/seed-0", "held_out")}
    assert lesson.watched
    assert not held_out & {pair.question for pair in lesson.pairs}
    assert not {pair.question for pair in lesson.watched} & {pair.question for pair in lesson.pairs}


def test_gate(study: Path) -> None:
    """What is learnt from the gate changes something; what the Aligner left alone is not called learnt."""
    records = records_in(study / _ROUND)
    rows = gated_in(study / _ROUND / records["gate"]["artefact"])
    assert {row.fate for row in rows} >= {"learnt", "unchanged"}
    assert all((row.answer == row.correction) == (row.fate == "unchanged") for row in rows if row.fate != "cut off")


def test_again(study: Path, config: BootstrapConfig) -> None:
    """A finished study that is called again makes nothing anew."""
    before = {path: path.stat().st_mtime_ns for path in study.glob("sft/**/*") if path.is_file()}
    bootstrap(config)
    assert {path: path.stat().st_mtime_ns for path in study.glob("sft/**/*") if path.is_file()} == before


@pytest.mark.usefixtures("study")
def test_other_study(config: BootstrapConfig) -> None:
    """Other settings are refused in the same folder, and what differs is named."""
    with pytest.raises(MisuseError, match=r"guards\.kl"):
        bootstrap(replace(config, guards=BootstrapGuards(kl=7.0)))


def test_taught_upstream_answers(study: Path) -> None:
    """What comes out is a plain model folder, which answers through any back end."""
    model = load_model(f"hf:{study / _ROUND / records_in(study / _ROUND)['model']['artefact']}")
    answer = asyncio.run(model.complete([Message("user", "What is the capital of Norway?")]))
    assert "Oslo" in answer.text


@pytest.fixture
def barren(config: BootstrapConfig, tmp_path: Path) -> BootstrapConfig:
    """A study in which nothing passes the gate: every correction would have to change every word."""
    gate = replace(config.gate, min_edit=1.0, unchanged="leave")
    few = replace(config, prompts="world:90", prompts_per_round=30, held_out="world:20", rounds=3)
    return replace(few, out=tmp_path / "barren", gate=gate)


def _rounds(config: BootstrapConfig) -> list[str]:
    return sorted(path.parent.name for path in config.out.glob("sft/seed-0/*/DONE"))


@pytest.mark.parametrize(("patience", "rounds"), [(1, 1), (2, 2), (0, 3)])
def test_patience(barren: BootstrapConfig, patience: int, rounds: int) -> None:
    """An arm ends after so many rounds in a row that were rolled back, and with a patience of 0 it never does."""
    bootstrap(replace(barren, guards=replace(barren.guards, patience=patience)))
    assert _rounds(barren) == [f"round-{number:02}" for number in range(1, rounds + 1)]
    shown = _report(barren.out)
    assert [one["round"] for one in shown] == [*range(rounds + 1)]
    assert all("nothing to learn" in one["verdict"]["why"] for one in shown[1:])
    assert all(one["fates"]["learnt"] == 0 for one in shown[1:])


def test_more_of_a_study(barren: BootstrapConfig) -> None:
    """Rounds, arms and seeds may be added; what is there is not made again, and the report holds all of it."""
    barren = replace(barren, guards=replace(barren.guards, patience=0), rounds=1)
    bootstrap(barren)
    before = {path: path.stat().st_ino for path in barren.out.glob("*/seed-*/**/*-*") if path.is_file()}
    always = BootstrapArm(name="always", accept="always")
    bootstrap(replace(barren, rounds=2, seeds=(0, 1)))
    bootstrap(replace(barren, arms=(always,)))
    assert {path: path.stat().st_ino for path in before} == before
    assert _rounds(barren) == ["round-01", "round-02"]
    assert {(one["arm"], one["seed"], one["round"]) for one in _report(barren.out)} >= {
        *(("sft", seed, number) for seed in (0, 1) for number in (1, 2)),
        ("always", 0, 1),
    }


def test_what_it_was_made_with(barren: BootstrapConfig, tmp_path: Path) -> None:
    """Rows of the upstream's first training are learnt again in their share, but none of a held-out question."""
    bootstrap(replace(barren, rounds=1))
    asked = [row["question"] for row in _rows(barren.out / "first/seed-0", "corrections")]
    made_with = ["How can Ann bake a cake?", *asked]
    write_rows(tmp_path / "made.jsonl", ({"question": question, "answer": "No."} for question in made_with))
    mix = replace(barren.mix, original=tmp_path / "made.jsonl", original_share=1.0)
    learning = replace(barren, out=tmp_path / "learning", mix=mix, gate=replace(barren.gate, unchanged="learn"))
    bootstrap(replace(learning, rounds=1))
    learnt = {row["question"] for row in _rows(learning.out / "sft/seed-0/round-01", "lessons")}
    assert made_with[0] in learnt
    assert learnt.isdisjoint(asked)


@pytest.mark.slow
@pytest.mark.parametrize("way", ["dpo", "kto", "rloo", "grpo"])
def test_ways(way: Way, study: Path, config: BootstrapConfig) -> None:
    """Every way of learning goes through a round, and shares with the others what came before it learnt."""
    how: dict[str, Any] = {"learning_rate": 1e-4, "batch": 16, "accumulate": 1, "betas": (0.9, 0.99)}
    rewarded = {"reward": RewardStage(**how), "rl": RLArm(learning_rate=1e-4, batch=32, max_steps=6)}
    of_way: dict[str, Any] = {"dpo": {"dpo": DPOArm(**how)}, "kto": {"kto": KTOArm(**how)}}.get(way, rewarded)
    arm = BootstrapArm(name=way, way=way, accept="always", **of_way)
    bootstrap(replace(config, rounds=1, arms=(arm,)))
    ours, theirs = records_in(study / f"{way}/seed-0/round-01"), records_in(study / _ROUND)
    assert ours["gate"]["sha256"] == theirs["gate"]["sha256"]
    assert ours["model"]["sha256"] != theirs["model"]["sha256"]
    assert ("reward" in ours) == (way in ("rloo", "grpo"))
    assert any(one["arm"] == way for one in _report(study))


def _rows(folder: Path, step: Step) -> list[dict[str, Any]]:
    artefact = folder / records_in(folder)[step]["artefact"]
    return [orjson.loads(line) for line in artefact.read_bytes().splitlines()]
