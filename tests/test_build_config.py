"""What is wrong with a build's configuration is said in one line, with its cure, and before anything is asked."""

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from built import ALIKE, world_config, written

from aligner.build import build
from aligner.building.checking import check
from aligner.building.estimating import Estimate
from aligner.building.showing import estimate_lines
from aligner.cli import main
from aligner.config import (
    BuildAgainst,
    BuildAnnotator,
    BuildConfig,
    BuildFilters,
    BuildReview,
    BuildSource,
    BuildUpstream,
    packaged_config,
    read_config,
)
from aligner.data.filters import about_tokens, question_filters, triple_filters
from aligner.errors import AlignerError, MisuseError
from aligner.judge import load_judge

TOML = """
out = "{out}"
[[sources]]
path = "world:5"
[[upstreams]]
name = "careless"
model = "world:careless"
[[annotators]]
name = "echo"
model = "echo:"
"""


def said(folder: Path, capsys: pytest.CaptureFixture[str], *changes: tuple[str, str]) -> str:
    """What the command line says of a file with changes."""
    text = TOML.format(out=folder / "out")
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    path = folder / "build.toml"
    path.write_text(text, encoding="utf-8")
    assert main(["build", "--config", str(path)]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert not (folder / "out").exists()
    return lines[0]


@pytest.mark.parametrize(
    ("old", "new", "nearest"),
    [
        ("out =", "outt =", '"out"'),
        ('model = "world:careless"', 'modle = "world:careless"', '"model"'),
        ('path = "world:5"', 'paht = "world:5"', '"path"'),
        ('[[annotators]]\nname = "echo"', '[filters]\nnear_dup = 1\n[[annotators]]\nname = "echo"', "near_duplicate"),
        ("[[upstreams]]", "[[upstream]]", "upstreams"),
    ],
)
def test_an_unknown_key_is_told_the_nearest(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], old: str, new: str, nearest: str
) -> None:
    """At any depth of the file."""
    line = said(tmp_path, capsys, (old, new))
    assert nearest in line
    assert "build.toml" in line


def config_with(**given: Any) -> Callable[[Path], BuildConfig]:
    """A build of the closed world with something wrong."""
    return lambda folder: world_config(folder, **given)


ONE = BuildUpstream(name="one", model="world:careless")
ECHO = BuildAnnotator(name="echo", model="echo:")
WRONG: tuple[tuple[Callable[[Path], BuildConfig], str], ...] = (
    (config_with(sources=()), "no sources"),
    (config_with(upstreams=()), "no upstreams"),
    (config_with(annotators=()), "no annotators"),
    (config_with(sources=(BuildSource(path="nowhere.jsonl"),)), "nowhere.jsonl: no such file"),
    (config_with(sources=(BuildSource(path="world:3"), BuildSource(path="world:4"))), "stands there twice"),
    (config_with(upstreams=(ONE, ONE)), 'the name "one" is taken by an upstream'),
    (config_with(upstreams=(ONE, replace(ONE, name="echo"))), 'the name "echo" is taken by an upstream'),
    (config_with(upstreams=(replace(ONE, name="questions"),)), 'the name "questions" is taken by a source'),
    (config_with(upstreams=(replace(ONE, name="judge"),)), 'the name "judge" is taken by the judge'),
    (config_with(upstreams=(replace(ONE, name=" "),)), "has no name"),
    (config_with(upstreams=(replace(ONE, model="opnai:gpt"),)), 'did you mean "openai:"'),
    (config_with(upstreams=(replace(ONE, model="human:"),)), "unknown model"),
    (config_with(upstreams=(replace(ONE, calling="batch"),)), "is for openai:MODEL alone"),
    (config_with(upstreams=(replace(ONE, samples=0),)), "samples begins at 1"),
    (config_with(upstreams=(replace(ONE, at_a_time=0),)), "at_a_time begins at 1"),
    (config_with(upstreams=(replace(ONE, price_in=-1.0),)), "price_in begins at 0"),
    (config_with(annotators=(replace(ECHO, share=1.5),)), "share from 0 to 1"),
    (config_with(annotators=(replace(ECHO, prompt="our"),)), 'did you mean "ours"'),
    (config_with(twice=2.0), "twice is a share"),
    (config_with(principles=("helpfull",)), 'did you mean "helpful"'),
    (config_with(principles=()), "no principles"),
    (config_with(judge="wrld:"), 'did you mean "world:"'),
    (config_with(judge="truth:nowhere"), "no such folder"),
    (config_with(filters=BuildFilters(tokenizer="./nowhere")), r"filters\.tokenizer"),
    (config_with(against=(BuildAgainst(path="nowhere.jsonl"),)), "nowhere.jsonl: no such file"),
    (config_with(rows_per_shard=0), "rows_per_shard begins at 1"),
    (config_with(max_cost=-1.0), "max_cost begins at 0"),
    (config_with(max_cost=float("nan")), "max_cost begins at 0"),
    (config_with(pilot=-1), "pilot begins at 0"),
    (config_with(sources=(BuildSource(path="world:3", sample=-1),)), "sample begins at 0"),
    (config_with(filters=BuildFilters(near_duplicate=1.5)), "near_duplicate is a share"),
    (config_with(filters=BuildFilters(min_ratio=2.0, max_ratio=1.0)), "is below filters.min_ratio"),
    (config_with(filters=BuildFilters(max_length=0)), "max_length begins at 1"),
    (config_with(filters=BuildFilters(overlap_words=65)), "overlap_words goes from 1 to 64"),
    (config_with(filters=BuildFilters(max_overlap=1.1)), "max_overlap is a share"),
    (config_with(review=BuildReview(port=70000)), "port goes from 0 to 65535"),
    (config_with(upstreams=(replace(ONE, share=1.5),)), "share from 0 to 1"),
    (config_with(sources=(BuildSource(path="https://example.org/a.jsonl"),)), "download it first"),
    (config_with(against=(BuildAgainst(path="x", task="gsm"),)), "unknown task|no such"),
)


@pytest.mark.parametrize(("config", "wanted"), WRONG, ids=[wanted for _, wanted in WRONG])
def test_what_cannot_become_a_build_is_said_in_one_line(
    tmp_path: Path, config: Callable[[Path], BuildConfig], wanted: str
) -> None:
    """Before a store is made, or a model loaded."""
    with pytest.raises(AlignerError, match=wanted) as error:
        build(config(tmp_path))
    assert "\n" not in str(error.value)
    assert error.value.exit_code == 2


def test_a_build_goes_on_only_with_what_it_was_begun_with(tmp_path: Path) -> None:
    """Another seed or other sources would mix two builds; prices and limits may change."""
    whole = world_config(tmp_path, 4)
    config = replace(whole, stage="questions", upstreams=(), annotators=())
    build(config)
    build(config := whole)
    with pytest.raises(MisuseError, match="was begun with other seed"):
        build(replace(config, seed=1))
    with pytest.raises(MisuseError, match="was begun with other upstreams"):
        build(replace(config, upstreams=config.upstreams[:1]))
    cheaper = tuple(replace(model, price_in=1.0, at_a_time=2) for model in config.upstreams)
    build(replace(config, upstreams=cheaper))
    build(replace(config, stage="verdicts", judge="world:", quality="honest", filters=replace(ALIKE, max_length=900)))


def test_a_build_that_failed_before_its_questions_holds_to_nothing(tmp_path: Path) -> None:
    """What was wrong may be mended."""
    config = world_config(tmp_path, 4)
    bad = BuildSource(path=str(written(tmp_path / "bad.jsonl", [{"question": 7}])))
    with pytest.raises(AlignerError, match=r"bad\.jsonl:1"):
        build(replace(config, sources=(bad,), seed=5))
    build(config)


def test_stages_before_the_questions_say_what_is_missing(tmp_path: Path) -> None:
    """With the command that makes them; so does the status of no build."""
    config = world_config(tmp_path, 4)
    with pytest.raises(MisuseError, match="holds no build"):
        build(replace(config, stage="status"))
    with pytest.raises(MisuseError, match="aligner build questions"):
        build(replace(config, stage="answers"))


def test_the_status_tells_rows_calls_and_reasons(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Of every stage, on standard output."""
    config = world_config(tmp_path, 4)
    build(config)
    build(replace(config, stage="status"))
    told = capsys.readouterr().out
    for part in ("questions", "answers of careless", "corrections of echo", "4 done", "unreadable", "spent: 0.00 USD"):
        assert part in told


@pytest.mark.parametrize("name", ["build-world", "build-example"])
def test_the_shipped_configurations_can_be_read(name: str) -> None:
    """And hold what a build needs."""
    config = read_config(BuildConfig, packaged_config(name))
    assert config.sources
    assert config.upstreams
    assert config.annotators


def test_the_command_starts_no_heavy_package_to_say_what_is_wrong(tmp_path: Path) -> None:
    """Neither torch nor what reads models."""
    path = tmp_path / "build.toml"
    path.write_text('[[sources]]\npath = "nowhere.jsonl"\n')
    code = (
        "import sys; from aligner.cli import main; main(sys.argv[1:]);"
        "print([name for name in ('torch', 'transformers', 'ray') if name in sys.modules])"
    )
    command = [sys.executable, "-c", code, "build", "--config", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
    assert "no such file" in done.stderr


def test_nothing_is_exported_while_verdicts_are_open(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What waits is told with its reason, and an old data set stays as it was."""
    row = {"question": "Who wrote the book about the sea?", "answer": "It was Ada.", "correction": "It was Bob."}
    source = BuildSource(path=str(written(tmp_path / "given.jsonl", [row])), takes="triples")
    config = world_config(tmp_path, sources=(source,), upstreams=(), annotators=())
    build(replace(config, stage="questions"))
    build(replace(config, stage="export"))
    told = capsys.readouterr().err
    assert "no data set is written" in told
    assert not (config.out / "dataset").exists()


def test_every_reason_stands_in_the_guide() -> None:
    """So that nobody has to guess why a row went."""
    guide = (Path(__file__).parent.parent / "docs" / "guides" / "build.md").read_text(encoding="utf-8")
    filters = BuildFilters()
    known = {*question_filters(filters), *triple_filters(filters, about_tokens)}
    given = {"no_triple", "unreadable", "same_question", "near_duplicate", "overlap", "empty", "truncated", "open"}
    others = {"no_annotator", "duplicate", "inspected", "worse", "refused", "auth", "context", "unusable", "missing"}
    assert {name for name in known | given | others if f"`{name}`" not in guide} == set()


def test_the_judges_that_are_known_before_are_those_that_there_are() -> None:
    """What may stand before the colon is checked without loading anything."""
    with pytest.raises(MisuseError) as error:
        load_judge("nobody:")
    with pytest.raises(MisuseError) as other:
        check(BuildConfig(sources=(BuildSource(path="world:1"),), stage="questions", judge="nobody:"))
    assert str(other.value) == str(error.value)


def test_the_estimate_says_that_the_judge_is_not_in_it(tmp_path: Path) -> None:
    """In a line of its own, where there is a judge."""
    nothing = Estimate((), 0, 0.0, {})
    (_, line) = estimate_lines(world_config(tmp_path, judge="world:"), nothing)
    assert line == "the judge world:: not counted, and no limit holds for it"
    assert len(estimate_lines(world_config(tmp_path), nothing)) == 1
