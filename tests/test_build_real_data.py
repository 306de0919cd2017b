"""Real files become triples with complete manifests, and what stands in evaluation sets is found."""

from collections import Counter
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import orjson
import pytest
from built import adds_up, dropped_of, manifest_of, rows_of, written

from aligner.build import build
from aligner.building.questions import OverlapError
from aligner.config import BuildAgainst, BuildConfig, BuildFilters, BuildSource
from aligner.data.fields import triple_of
from aligner.tasks import items_of, task_named

COMPLETE = ("agreement", "configuration_sha256", "costs", "files", "filters", "funnel", "kinds", "licences", "overlap",
            "principles", "prompts", "rows", "seed", "sources", "versions")  # fmt: skip


def sources(real_data: Path) -> tuple[BuildSource, ...]:
    """Three kinds of real data, all of which hold their corrections."""
    gsm8k = str(real_data / "gsm8k" / "recorded_answers.jsonl")
    return (
        BuildSource(
            path=str(real_data / "hh_rlhf" / "harmless-base_test.jsonl.gz"),
            name="hh-rlhf",
            format="hh-rlhf",
            takes="triples",
            licence="MIT",
        ),
        BuildSource(
            path=gsm8k,
            name="gsm8k-6b",
            takes="triples",
            answer="6b_finetuning.solution",
            correction="ground_truth",
            licence="MIT",
        ),
        BuildSource(
            path=str(real_data / "truthfulqa"),
            name="truthfulqa",
            format="truthfulqa",
            takes="triples",
            licence="Apache-2.0",
        ),
    )


def test_real_files_become_triples(real_data: Path, tmp_path: Path) -> None:
    """HH-RLHF, recorded answers to GSM8K, and TruthfulQA, row by row."""
    config = BuildConfig(out=tmp_path / "out", sources=sources(real_data), on_bad_row="skip")
    build(config)
    manifest = manifest_of(config.out)
    assert set(COMPLETE) <= set(manifest)
    adds_up(manifest["funnel"])
    assert manifest["funnel"][0]["came"] == sum(source["rows"] for source in manifest["sources"].values())
    assert {name: source["rows"] for name, source in manifest["sources"].items()}["gsm8k-6b"] == 1319
    assert {name: source["rows"] for name, source in manifest["sources"].items()}["hh-rlhf"] == 2312
    rows = [row for split in ("train", "validation") for row in rows_of(config.out, split)]
    assert len(rows) == manifest["funnel"][-1]["left"]
    by_source = Counter(row["source"] for row in rows)
    assert by_source["gsm8k-6b"] > 1000
    assert by_source["hh-rlhf"] > 1500
    assert by_source["truthfulqa"] > 300
    print(by_source, [(step["name"], step["came"], step["left"], step["dropped"]) for step in manifest["funnel"]])
    for row in rows:
        triple_of(row)
    reasons = Counter(row["reason"] for row in dropped_of(config.out))
    assert sum(reasons.values()) == sum(sum(step["dropped"].values()) for step in manifest["funnel"])


def planted(real_data: Path) -> list[tuple[BuildAgainst, list[str]]]:
    """Evaluation sets, and texts of theirs as somebody might have them among his questions."""
    random = Random(8)
    xstest = BuildAgainst(path=str(real_data / "xstest"), task="xstest")
    beavertails = BuildAgainst(path=str(real_data / "beavertails_eval"), task="beavertails")
    gsm8k = BuildAgainst(path=str(real_data / "gsm8k" / "test.jsonl"), name="gsm8k", fields=("question",))
    texts: list[tuple[BuildAgainst, list[str]]] = []
    for against in (xstest, beavertails):
        items = items_of(task_named(against.task), against.path)
        texts.append((against, [str(item.question) for item in random.sample(items, 30)]))
    lines = (real_data / "gsm8k" / "test.jsonl").read_bytes().splitlines()
    texts.append((gsm8k, [orjson.loads(line)["question"] for line in random.sample(lines, 30)]))
    return texts


def disguised(text: str, place: int) -> str:
    """A text as it is, in capitals, or in the middle of more."""
    return (text, text.upper(), f"Hello there! {text} Thank you in advance.")[place % 3]


def test_all_planted_overlaps_are_found(real_data: Path, tmp_path: Path) -> None:
    """In questions and in corrections, whatever stands around them; the build fails until that is allowed."""
    sets = planted(real_data)
    texts = [disguised(text, place) for _, found in sets for place, text in enumerate(found)]
    clean = [
        {"question": f"What is {i} times the age of my cat?", "answer": "7", "correction": "8 years"} for i in range(60)
    ]
    rows: list[dict[str, Any]] = [{**clean[0], "question": text} for text in texts]
    rows += [{**clean[i], "answer": f"{text[:40]}.", "correction": text} for i, text in enumerate(texts[:20])]
    source = BuildSource(path=str(written(tmp_path / "mixed.jsonl", [*rows, *clean[20:]])), takes="triples")
    config = BuildConfig(
        out=tmp_path / "out",
        sources=(source,),
        against=tuple(against for against, _ in sets),
        filters=BuildFilters(near_duplicate=0.0, max_ratio=1000.0, language="off"),
    )
    with pytest.raises(OverlapError, match=f"{len(set(texts))} of "):
        build(config)
    build(replace(config, filters=replace(config.filters, max_overlap=1.0)))
    manifest = manifest_of(config.out)
    adds_up(manifest["funnel"])
    overlap = {found["name"]: found for found in manifest["overlap"]}
    assert sum(found["questions"] for found in overlap.values()) == len(texts)
    assert sum(found["triples"] for found in overlap.values()) == 20
    assert all(found["questions"] >= 30 and len(found["sha256"]) == 64 for found in overlap.values())
    assert manifest["funnel"][-1]["left"] == 40
