"""The price before the run: a pilot, an estimate that holds, and a limit that is never passed."""

import sqlite3
from collections.abc import Iterator
from dataclasses import replace
from math import isclose
from pathlib import Path

import orjson
import pytest
from built import ALIKE, Opened, asking, manifest_of, upstreams, world_config, world_questions, written
from profile_server import bill_of, started

from aligner.build import build
from aligner.building import answers, estimating
from aligner.building.estimating import Measured
from aligner.building.nouns import Failure
from aligner.building.spending import BudgetError
from aligner.config import BuildAnnotator, BuildConfig, BuildUpstream

COUNT = 600
PILOT = 200
AT_A_TIME = 4


@pytest.fixture(scope="module")
def servers() -> Iterator[tuple[str, str, str]]:
    """Two upstreams and an annotator."""
    with (
        started("profile_server.py", "careless") as careless,
        started("profile_server.py", "rambling") as rambling,
        started("oracle_annotator.py", "--broken", "0.1", "--fenced", "0.2") as oracle,
    ):
        yield careless, rambling, oracle


def config_of(folder: Path, servers: tuple[str, str, str], count: int, **given: object) -> BuildConfig:
    """A build with prices."""
    careless, rambling, oracle = servers
    settings: dict[str, object] = {
        "out": folder / "out",
        "sources": (asking(folder / "questions.jsonl", world_questions(count)),),
        "upstreams": (
            BuildUpstream(
                name="careless", model=f"openai:m@{careless}", price_in=100, price_out=4000, at_a_time=AT_A_TIME
            ),
            BuildUpstream(
                name="rambling", model=f"openai:m@{rambling}", price_in=200, price_out=9000, at_a_time=AT_A_TIME
            ),
        ),
        "annotators": (
            BuildAnnotator(
                name="oracle", model=f"openai:m@{oracle}", price_in=100, price_out=5000, at_a_time=AT_A_TIME
            ),
        ),
        "filters": ALIKE,
        "pilot": PILOT,
        "seed": 5,
    }
    return BuildConfig(**{**settings, **given})  # type: ignore[arg-type]


@pytest.mark.slow
def test_the_estimate_is_within_a_tenth_of_what_the_run_costs(
    tmp_path: Path, servers: tuple[str, str, str], capfd: pytest.CaptureFixture[str]
) -> None:
    """The pilot alone is asked first; the rest only with --yes; calls, tokens and money are then as was said."""
    config = config_of(tmp_path, servers, COUNT)
    build(config)
    said = capfd.readouterr().err
    assert "nothing more is asked until that is agreed to" in said
    assert not (config.out / "dataset").exists()
    with Opened(config.out) as opened:
        assert opened.ledger.state("answers").done == PILOT
        kept = opened.store.value("pilot all")
        assert kept is not None
        seen = Measured(**orjson.loads(kept))
        before = estimating.estimate(config, opened.store, opened.ledger, seen)
    build(replace(config, yes=True))
    with Opened(config.out) as opened:
        spent = opened.ledger.spent()
        calls = sum(opened.ledger.state(stage).done for stage in ("answers", "corrections"))
    print(f"estimated {before.cost:.3f}, spent {spent:.3f}: {before.cost / spent - 1:+.1%}")
    assert abs(before.cost / spent - 1) < 0.1
    assert abs(sum(line.calls for line in before.lines) / calls - 1) < 0.05
    assert isclose(manifest_of(config.out)["costs"]["total"], spent, rel_tol=1e-6)


def test_the_limit_is_passed_by_no_more_than_the_calls_in_flight(tmp_path: Path) -> None:
    """It stops in one line with what was spent and what is left; a greater one goes on, and pays nothing twice."""
    with (
        started("profile_server.py", "careless", "--pause", "0.02") as careless,
        started("profile_server.py", "rambling", "--pause", "0.02") as rambling,
        started("oracle_annotator.py", "--pause", "0.02") as oracle,
    ):
        servers = careless, rambling, oracle
        limit = 3.0
        config = config_of(tmp_path, servers, 60, pilot=120, max_cost=limit)
        with pytest.raises(BudgetError, match="--max-cost 3") as error:
            build(config)
        assert "\n" not in str(error.value)
        with Opened(config.out) as opened:
            spent = opened.ledger.spent()
            state = opened.ledger.state("answers")
            most = max(0.5, spent / max(1, state.done))
        assert limit <= spent <= limit + 2 * AT_A_TIME * most
        assert not (config.out / "dataset").exists()
        with pytest.raises(BudgetError):
            build(config)
        with Opened(config.out) as opened:
            assert opened.ledger.spent() == spent
        build(replace(config, max_cost=1e6))
        with Opened(config.out) as opened:
            done = [opened.ledger.state("answers", ["careless"]), opened.ledger.state("corrections", ["oracle"])]
        assert [state.done for state in done] == [bill_of(careless)["billed"], bill_of(oracle)["billed"]]


def test_less_money_than_the_whole_takes_pays_for_whole_triples(
    tmp_path: Path, servers: tuple[str, str, str], capfd: pytest.CaptureFixture[str]
) -> None:
    """So many questions are asked as can be answered and corrected; more money goes on, and pays nothing twice."""
    config = config_of(tmp_path, servers, 120, pilot=40)
    build(config)
    with Opened(config.out) as opened:
        kept = opened.store.value("pilot all")
        assert kept is not None
        whole = estimating.estimate(config, opened.store, opened.ledger, Measured(**orjson.loads(kept))).cost
    build(replace(config, max_cost=whole / 2))
    assert "pays for about 50% of that" in capfd.readouterr().err
    found = manifest_of(config.out)
    assert 0.85 * whole / 2 < found["costs"]["total"] <= whole / 2
    with Opened(config.out) as opened:
        states = [opened.ledger.state("answers"), opened.ledger.state("corrections")]
    assert 100 < states[0].done < 140
    assert all(state.todo == 0 for state in states)
    build(replace(config, yes=True))
    assert manifest_of(config.out)["rows"]["train"] > 1.7 * found["rows"]["train"]


def test_what_costs_nothing_needs_no_agreement(tmp_path: Path, servers: tuple[str, str, str]) -> None:
    """The estimate is told, and the build goes on."""
    config = config_of(tmp_path, servers, 10, pilot=4)
    free = {"price_in": 0.0, "price_out": 0.0}
    config = replace(
        config,
        upstreams=tuple(replace(model, **free) for model in config.upstreams),
        annotators=tuple(replace(model, **free) for model in config.annotators),
    )
    build(config)
    assert manifest_of(config.out)["rows"]["train"] > 10


def test_a_build_in_stages_asks_for_agreement_at_each_that_costs(
    tmp_path: Path, servers: tuple[str, str, str], capfd: pytest.CaptureFixture[str]
) -> None:
    """The pilot of the answers asks no annotator."""
    config = config_of(tmp_path, servers, 20, pilot=6)
    before = bill_of(servers[2])["billed"]
    build(replace(config, stage="questions"))
    build(replace(config, stage="answers"))
    assert "--yes" in capfd.readouterr().err
    with Opened(config.out) as opened:
        assert opened.ledger.state("answers").done == 6
    assert bill_of(servers[2])["billed"] == before
    build(replace(config, stage="answers", yes=True))
    build(replace(config, stage="corrections"))
    with Opened(config.out) as opened:
        assert opened.ledger.state("answers").done == 40
        assert 0 < opened.ledger.state("corrections").done < 20


def test_the_pilot_asks_nothing_but_its_own(tmp_path: Path) -> None:
    """What an earlier run left to be done is not asked before the estimate is agreed to."""
    config = world_config(tmp_path, 30, upstreams=upstreams("careless", price_in=1.0), pilot=4)
    build(replace(config, stage="questions"))
    with Opened(config.out) as opened:
        assert opened.ledger.add(answers.requests(config, opened.store)) == 30
    build(config)
    with Opened(config.out) as opened:
        state = opened.ledger.state("answers")
        assert (state.done, state.todo) == (4, 26)
        assert opened.store.kept("annotated") + len(list(opened.store.dropped("corrections"))) == 4


def test_a_finished_build_needs_no_agreement(tmp_path: Path) -> None:
    """Calls that failed for good are not left: without --yes it goes to its end, though its estimate was more."""
    texts = world_questions(12)
    recorded = written(tmp_path / "recorded.jsonl", ({"question": text, "answer": "No."} for text in texts[:9]))
    model = BuildUpstream(name="recorded", model=f"replay:{recorded}", price_in=100.0, price_out=100.0)
    config = world_config(tmp_path, 12, upstreams=(model,), pilot=0)
    for stage in ("questions", "answers", "corrections"):
        build(replace(config, stage=stage, yes=True))
    assert not (config.out / "dataset").exists()
    build(config)
    assert (config.out / "dataset").exists()


def test_status_changes_nothing(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """What failed and may pass is shown as failed, and stays so."""
    config = world_config(tmp_path, 5, upstreams=upstreams("careless"))
    build(replace(config, stage="questions"))
    with Opened(config.out) as opened:
        opened.ledger.add(answers.requests(config, opened.store))
        (first, *_) = opened.ledger.requests("answers", model="careless", state="todo")
        opened.ledger.put(first.key, Failure("transient", "busy"))
    with sqlite3.connect(config.out / "build.sqlite") as db:
        before = list(db.iterdump())
    build(replace(config, stage="status"))
    assert "failed: 1 transient" in capfd.readouterr().out
    with sqlite3.connect(config.out / "build.sqlite") as db:
        assert list(db.iterdump()) == before
