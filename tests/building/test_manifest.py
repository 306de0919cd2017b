"""The manifest: counts that add up, hashes of the files, money, licences, and nothing of one machine."""

import hashlib
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pytest
from counted_build import FACTS, STEPS, built, bytes_of, config_of

from aligner.building import output, principles
from aligner.building.manifest import settings_of
from aligner.config import BuildAnnotator, BuildFilters, BuildReview, BuildSource, BuildUpstream


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("build")
    with built(out) as build:
        return output.write(config_of(out), *build, FACTS)


@pytest.fixture(scope="module")
def told(folder: Path) -> dict[str, Any]:
    return orjson.loads((folder / "manifest.json").read_bytes())


def test_counts_add_up_to_the_row(told: dict[str, Any], folder: Path) -> None:
    """Rows of splits, kinds, sources, upstreams and files all sum to what the funnel's last step left."""
    steps = {step["name"]: (step["came"], step["left"], step["dropped"]) for step in told["funnel"]}
    assert steps == STEPS
    for name in ("rows", "kinds", "upstreams", "annotators", "licences"):
        assert sum(told[name].values()) == 12
    assert sum(one["written"] for one in told["sources"].values()) == 12
    for ending in ("jsonl", "parquet"):
        names = [name for name in told["files"] if re.fullmatch(rf"(train|validation|test)-.*\.{ending}", name)]
        assert sum(told["files"][name]["rows"] for name in names) == 12
    assert told["rows"] == {"train": 10, "validation": 2, "test": 0}
    assert told["kinds"] == {"edit": 7, "identity": 5}
    for name, one in told["files"].items():
        if name.endswith(".jsonl") and "rows" in one:
            assert (folder / name).read_bytes().count(b"\n") == one["rows"]
    for stage, reasons in told["filters"].items():
        assert reasons == {name: count for name, count in STEPS[stage][2].items() if name != "open"}


def test_hashes_are_those_of_the_files(told: dict[str, Any], folder: Path) -> None:
    """Every file but the manifest stands in it, with its size and its SHA-256."""
    files = {name: data for name, data in bytes_of(folder).items() if name != "manifest.json"}
    assert told["files"].keys() == files.keys()
    for name, data in files.items():
        assert told["files"][name]["bytes"] == len(data)
        assert told["files"][name]["sha256"] == hashlib.sha256(data).hexdigest()


def test_money_is_told_by_stage_and_model(told: dict[str, Any]) -> None:
    """What was spent sums over stages and models to the whole, and prices are those that were paid."""
    costs = told["costs"]
    small, large = costs["spent"]["answers"]["small"], costs["spent"]["answers"]["large"]
    assert (small["calls"], small["prompt_tokens"], small["cost"]) == (10, 10_000, 1.0)
    assert (large["calls"], large["failed"]) == (7, {"refused": 2})
    assert costs["spent"]["corrections"]["editor"]["cost"] == 0.16
    assert costs["judge"] == {"verdicts": 0, "failed": {}, "cost": "not counted"}
    parts = [one["cost"] for models in costs["spent"].values() for one in models.values()]
    assert sum(parts) == pytest.approx(costs["total"])
    assert costs["prices"]["large"] == {"in": 2.5, "out": 0.0, "calling": "batch"}


def test_licences_and_principles_are_named(told: dict[str, Any]) -> None:
    """Each source has its licence and each principle its version, its words and its licence, under their hash."""
    assert told["sources"]["hh"]["licences"] == ["mit"]
    assert told["sources"]["faq"]["licences"] == ["Terms of Example Ltd"]
    loaded = principles.load(("helpful", "harmless", "honest"))
    assert told["principles"]["hash"] == loaded.version_hash
    assert [one["name"] for one in told["principles"]["of"]] == ["helpful", "harmless", "honest"]
    assert all(one["text"] and one["licence"] == "Apache-2.0" for one in told["principles"]["of"])
    assert told["agreement"] == FACTS["agreement"]
    assert told["overlap"] == FACTS["overlap"]


def test_nothing_of_one_machine_is_told(folder: Path) -> None:
    """No file names a folder, an address, a password or a time of the machine that built the data."""
    for name, data in bytes_of(folder).items():
        assert not re.search(rb"127\.0\.0\.1|/data/chat|key:word|/tmp/|20\d\d-\d\d-\d\d", data), name


def test_hash_of_the_configuration(tmp_path: Path) -> None:
    """The configuration's hash is the same wherever and however fast it runs, and another for another configuration."""
    config = config_of(tmp_path)

    def told(**changed: Any) -> dict[str, Any]:
        return settings_of(replace(config, **changed))

    same = told()
    moved = BuildUpstream(
        name="small", model="openai:small@http://10.0.0.9/v1", price_in=1.0, price_out=2.0, at_a_time=64
    )
    assert told(out=Path("elsewhere"), yes=True, max_cost=3.0, workers=9, review=BuildReview(port=1)) == same
    assert told(upstreams=(moved, config.upstreams[1])) == same
    for path in ("data/one.jsonl", str(tmp_path / "data" / "one.jsonl")):
        assert told(sources=(BuildSource(path=path),)) == told(sources=(BuildSource(path="one.jsonl"),))
    for changed in (
        {"filters": BuildFilters(min_ratio=0.5)},
        {"seed": 1},
        {"annotators": (BuildAnnotator(name="editor", model="replay:a/b/other.jsonl"),)},
    ):
        assert told(**changed) != same
