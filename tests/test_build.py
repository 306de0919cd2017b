"""The whole of `aligner build` on the closed world: real upstreams, an annotator that knows the oracle, and sums."""

import asyncio
import json
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from built import ALIKE, Opened, adds_up, asking, bytes_of, dropped_of, manifest_of, rows_of, world_questions, written
from environments import TRANSFORMERS, python_of
from profile_server import bill_of, started
from test_serve_transformers import MODEL, program

from aligner.build import build
from aligner.config import BuildAnnotator, BuildConfig, BuildSource, BuildUpstream
from aligner.data.fields import triple_of
from aligner.models import load_model
from aligner.records import Message, SamplingParams
from aligner.world.oracle import mark
from aligner.world.questions import read_question

COUNT = 40
GREEDY: dict[str, Any] = {"temperature": 0.0, "top_p": 1.0, "top_k": 0}


@pytest.fixture(scope="module")
def small_model(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """`transformers serve` with the shipped upstream."""
    folder = tmp_path_factory.mktemp("serve")
    transformers = str(python_of("transformers-serve", TRANSFORMERS).parent / "transformers")
    serve = (transformers, "serve", MODEL, "--host", "127.0.0.1", "--port", "0", "--device", "cpu")
    offline = {"HF_HOME": str(folder / "hf"), "HF_HUB_OFFLINE": "1", "PYTHONPATH": ""}
    with program(serve, folder / "upstream.txt", r"running on (http://[\d.]+:\d+)", offline) as upstream:
        yield f"{upstream}/v1"


@pytest.fixture(scope="module")
def profile() -> Iterator[str]:
    """A profile of the world as a server."""
    with started("profile_server.py", "reckless") as url:
        yield url


@pytest.fixture(scope="module")
def oracle() -> Iterator[str]:
    """The annotator, some of whose replies are fenced or cannot be read."""
    with started("oracle_annotator.py", "--fenced", "0.3", "--broken", "0.2") as url:
        yield url


async def recorded(folder: Path, questions: list[str]) -> Path:
    """What a timid upstream once said to most of the questions."""
    model = load_model("world:timid")
    answers = [(await model.complete([Message("user", text)], SamplingParams())).text for text in questions[:-3]]
    rows = ({"question": text, "answer": answer} for text, answer in zip(questions, answers, strict=False))
    return written(folder / "recorded.jsonl", rows)


def config_of(folder: Path, questions: list[str], upstreams: list[BuildUpstream], oracle: str) -> BuildConfig:
    """A build of these questions."""
    return BuildConfig(
        out=folder / "out",
        sources=(asking(folder / "questions.jsonl", [*questions, questions[0], "?"]),),
        upstreams=tuple(upstreams),
        annotators=(BuildAnnotator(name="oracle", model=f"openai:oracle@{oracle}"),),
        filters=ALIKE,
        formats=("trl", "trl-preference", "kto", "axolotl", "llama-factory"),
        judge="world:",
    )


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_questions_become_triples_by_three_upstreams_and_an_oracle(
    tmp_path: Path, small_model: str, profile: str, oracle: str
) -> None:
    """Every row of every stage is accounted for, nothing is asked twice, and every correction is good."""
    questions = world_questions(COUNT)
    recording = asyncio.run(recorded(tmp_path, questions))
    upstreams = [
        BuildUpstream(name="small", model=f"openai:{MODEL}@{small_model}", max_tokens=96, at_a_time=2, **GREEDY),
        BuildUpstream(name="recorded", model=f"replay:{recording}"),
        BuildUpstream(name="reckless", model=f"openai:reckless@{profile}", samples=2),
    ]
    config = config_of(tmp_path, questions, upstreams, oracle)
    before = bill_of(profile)["billed"]
    build(config)
    assert bill_of(profile)["billed"] - before == 2 * COUNT

    manifest, triples = (
        manifest_of(config.out),
        [row for split in ("train", "validation") for row in rows_of(config.out, split)],
    )
    funnel = {step["name"]: step for step in manifest["funnel"]}
    adds_up(manifest["funnel"])
    assert (funnel["questions"]["came"], funnel["questions"]["left"]) == (COUNT + 2, COUNT)
    assert funnel["questions"]["dropped"].keys() == {"same_question", "no_words"}
    assert funnel["answers"]["came"] == 4 * COUNT
    assert funnel["answers"]["dropped"]["missing"] == 3
    assert funnel["corrections"]["came"] == funnel["answers"]["left"]
    assert funnel["verdicts"]["left"] == len(triples) == manifest["rows"]["train"] + manifest["rows"]["validation"]
    assert Counter(row["reason"] for row in dropped_of(config.out)) == sum(
        (Counter(step["dropped"]) for step in manifest["funnel"]), Counter[str]()
    )
    for row in triples:
        triple = triple_of(row)
        asked = read_question(str(triple.question))
        assert asked is not None
        assert mark(asked, triple.correction).good
        assert (row["kind"] == "identity") == mark(asked, triple.answer).good
    assert {row["upstream"] for row in triples} == {"small", "recorded", "reckless"}

    whole, asked_so_far = bytes_of(config.out), bill_of(oracle)
    build(config)
    assert bytes_of(config.out) == whole
    assert bill_of(oracle) == asked_so_far


def test_each_stage_alone_makes_what_all_at_once_make(tmp_path: Path, profile: str, oracle: str) -> None:
    """One after the other, the same bytes."""
    upstreams = [BuildUpstream(name="reckless", model=f"openai:reckless@{profile}")]
    together = replace(config_of(tmp_path, world_questions(20), upstreams, oracle), pilot=5)
    apart = replace(together, out=tmp_path / "apart")
    build(together)
    for stage in ("questions", "answers", "corrections", "verdicts", "export"):
        build(replace(apart, stage=stage))
    assert bytes_of(together.out) == bytes_of(apart.out)


def test_replies_that_cannot_be_read_are_asked_about_again(tmp_path: Path, profile: str) -> None:
    """Each broken reply once more, and no correction is lost."""
    upstreams = [BuildUpstream(name="reckless", model=f"openai:reckless@{profile}")]
    with started("oracle_annotator.py", "--broken", "1") as broken:
        config = replace(config_of(tmp_path, world_questions(20), upstreams, broken), judge="")
        build(config)
        assert bill_of(broken)["billed"] == 40
    funnel = {step["name"]: step for step in manifest_of(config.out)["funnel"]}
    assert (funnel["corrections"]["came"], funnel["corrections"]["left"]) == (20, 20)
    with started("oracle_annotator.py", "--broken", "1") as broken:
        once = replace(config_of(tmp_path, world_questions(20), upstreams, broken), judge="", out=tmp_path / "once")
        build(replace(once, annotators=(replace(once.annotators[0], asks=1),)))
    funnel = {step["name"]: step for step in manifest_of(once.out)["funnel"]}
    assert funnel["corrections"]["dropped"] == {"unreadable": 20}


def test_two_annotators_are_compared_and_only_the_first_is_exported(tmp_path: Path) -> None:
    """The second one's corrections count for the agreement alone."""
    config = BuildConfig(
        out=tmp_path / "out",
        sources=(BuildSource(path="world:30"),),
        upstreams=(BuildUpstream(name="careless", model="world:careless"),),
        annotators=(
            BuildAnnotator(name="one", model=f"rules:{rules(tmp_path)}", share=0.5),
            BuildAnnotator(name="other", model=f"rules:{rules(tmp_path)}"),
        ),
        twice=1.0,
        filters=ALIKE,
    )
    build(config)
    manifest = manifest_of(config.out)
    adds_up(manifest["funnel"])
    assert manifest["agreement"]["pairs"] == manifest["funnel"][1]["left"]
    assert manifest["agreement"]["same_choice"] == 1
    assert set(manifest["annotators"]) == {"one", "other"}


def rules(folder: Path) -> Path:
    """An annotator that keeps everything, whatever it is asked."""
    path = folder / "rules.json"
    path.write_text(
        json.dumps([{"pattern": r"(?s).*", "replace": '{"verdict": "keep", "reasons": [], "correction": ""}'}])
    )
    return path


def test_the_build_starts_without_torch() -> None:
    """Neither its code nor what it imports loads a heavy package."""
    code = "import sys, aligner.build; print([m for m in ('torch', 'transformers', 'ray') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_calls_that_fail_for_good_are_dropped_and_may_be_asked_again(tmp_path: Path, oracle: str) -> None:
    """With the reason; --failed retry asks them again, and what then comes takes the place of the drop."""
    questions = world_questions(6)
    rows = [{"question": text, "answer": "Yes."} for text in questions[:4]]
    recording = written(tmp_path / "recorded.jsonl", rows)
    upstreams = [BuildUpstream(name="recorded", model=f"replay:{recording}")]
    config = replace(config_of(tmp_path, questions, upstreams, oracle), judge="")
    build(config)
    with Opened(config.out) as opened:
        assert opened.store.drop_reasons("answers") == {"missing": 2}
        assert opened.store.kept("answers") == 4
    written(recording, [*rows, {"question": questions[4], "answer": "Yes."}])
    build(config)
    with Opened(config.out) as opened:
        assert opened.store.drop_reasons("answers") == {"missing": 2}
    build(replace(config, failed="retry"))
    adds_up(manifest_of(config.out)["funnel"])
    with Opened(config.out) as opened:
        assert opened.store.drop_reasons("answers") == {"missing": 1}
        assert opened.store.kept("answers") == 5
