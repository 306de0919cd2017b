"""The card: a header that the hub reads, what the rows are and are not, and no claim that nobody measured."""

from pathlib import Path
from typing import Any

import orjson
import pytest
from counted_build import FACTS, built, config_of
from datasets import load_dataset
from huggingface_hub import DatasetCard

from aligner.building import output
from aligner.building.card import card, licence_ids, size_category
from aligner.config import BuildSource


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("build")
    with built(out) as build:
        return output.write(config_of(out), *build, FACTS)


@pytest.fixture(scope="module")
def told(folder: Path) -> dict[str, Any]:
    return orjson.loads((folder / "manifest.json").read_bytes())


def test_hub_reads_the_header(folder: Path) -> None:
    """The hub's own library finds licence, size and one configuration with the files of each split that there is."""
    data = DatasetCard.load(folder / "README.md").data.to_dict()
    assert data["license"] == "other"
    assert data["size_categories"] == ["n<1K"]
    assert data["configs"] == [
        {
            "config_name": "default",
            "data_files": [
                {"split": "train", "path": "train-*.parquet"},
                {"split": "validation", "path": "validation-*.parquet"},
            ],
        }
    ]


def test_header_loads_the_splits(folder: Path, tmp_path: Path) -> None:
    """`datasets` loads the folder by its card, as the hub would, with all rows of each split."""
    loaded = load_dataset(str(folder), cache_dir=str(tmp_path))
    assert {split: len(rows) for split, rows in loaded.items()} == {"train": 10, "validation": 2}
    assert {"question", "answer", "correction", "sources", "licence"} <= set(loaded["train"].column_names)


@pytest.mark.parametrize(
    ("names", "expected"),
    [(["MIT"], ["mit"]), (["mit", "cc-by-4.0"], ["cc-by-4.0", "mit"]), (["Ours"], ["other"]), ([], ["unknown"])],
)
def test_licences_are_the_hub_s(names: list[str], expected: list[str]) -> None:
    """A licence that the hub knows is called as it calls it, any other is `other`, and none is `unknown`."""
    assert licence_ids({"sources": {"a": {"licences": names}}}) == expected


@pytest.mark.parametrize(
    ("rows", "name"), [(999, "n<1K"), (1000, "1K<n<10K"), (50_000, "10K<n<100K"), (2 * 10**6, "1M<n<10M")]
)
def test_size_is_the_hub_s(rows: int, name: str) -> None:
    """A number of rows is in the category that the hub has for it."""
    assert size_category(rows) == name


def test_every_licence_is_named(told: dict[str, Any]) -> None:
    """All licences of sources and principles stand in the text, whatever the header can say of them."""
    text = card(told).partition("---\n\n")[2]
    for name in ("mit", "Terms of Example Ltd", "Apache-2.0"):
        assert f"`{name}`" in text


def test_nothing_is_claimed_that_was_not_measured(told: dict[str, Any]) -> None:
    """Without a judge, a second annotator and evaluation sets the card says that nothing was measured or compared."""
    bare = {**told, "agreement": {}, "review": {}, "overlap": []}
    text = card(bare)
    assert "How far two annotators agree was not measured." in text
    assert "No judge compared answers and corrections." in text
    assert "The rows were compared with no evaluation set." in text
    for word in ("high-quality", "high quality", "state of the art", "best", "clean"):
        assert word not in text.lower()


def test_what_was_measured_is_told(told: dict[str, Any]) -> None:
    """Agreement and overlaps stand in the card with their figures, and what is unknown is left out."""
    text = card(told)
    assert "| of answers that two annotators corrected: how many | 3 |" in text
    assert "kappa" not in text
    assert "`gsm8k`" in text


@pytest.mark.parametrize(
    "name", ["a|b", "<script>alert(1)</script>", "x\n# Title", "```", "[x](http://y)", "---\nlicense: mit"]
)
def test_names_are_no_markup(told: dict[str, Any], name: str) -> None:
    """Whatever a source, a model or a licence is called, it stays in its cell, and the header stays as it is."""
    one = {"licences": [name], "written": 1}
    text = card({**told, "sources": {name: one}, "upstreams": {name: 1}, "annotators": {name: 1}})
    assert DatasetCard(text).data.to_dict()["license"] == "other"
    assert _headings(text) == _headings(card(told))
    for table in text.split("\n\n"):
        if table.startswith("|"):
            assert len({line.count("|") for line in table.split("\n")}) == 1


def _headings(text: str) -> list[str]:
    return [line for line in text.split("\n") if line.startswith("#")]


def test_files_that_the_card_names_are_there(folder: Path) -> None:
    """The picture, the manifest and the shard that the card speaks of exist."""
    text = (folder / "README.md").read_text(encoding="utf-8")
    for name in ("funnel.svg", "manifest.json", "dropped.jsonl", "train-00000-of-00001.jsonl"):
        assert name in text
        assert (folder / name).is_file()


def test_given_corrections_claim_no_principles(tmp_path: Path) -> None:
    """Nobody was asked, so neither principles nor an annotator's work are told; they came with the source."""
    given = config_of(tmp_path, sources=(BuildSource(path="editor.jsonl"), *config_of(tmp_path).sources), annotators=())
    with built(tmp_path) as build:
        folder = output.write(given, *build, FACTS)
    text = (folder / "README.md").read_text(encoding="utf-8")
    assert "| `editor` | 12 | came with the source |" in text
    assert "wrote under the principles" not in text
    assert "words of the principles" not in text
    assert orjson.loads((folder / "manifest.json").read_bytes())["principles"] == {"hash": None, "of": []}


def test_the_judge_is_told_by_what_he_did(told: dict[str, Any]) -> None:
    """By verdicts that are there, not by those that were wanted; and that nobody counted what they cost."""
    settings = {**told["configuration"], "judge": "world:", "judged": 1.0}
    text = card({**told, "configuration": settings, "triples": {"compared": 3, "judged": 2}})
    assert "compared 3 corrections" in text
    assert "2 of them stayed" in text
    assert "100 %" not in text
    assert "not counted" in text
