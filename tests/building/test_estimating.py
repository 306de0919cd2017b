"""Laws of the estimate: what the pilot took, for all the rest."""

from dataclasses import replace
from math import isclose
from pathlib import Path

import pytest
from built import Opened, upstreams, world_config

from aligner.building import answers, corrections, estimating, questions
from aligner.building.annotating import as_reply
from aligner.building.estimating import Measured
from aligner.building.nouns import Reply
from aligner.building.showing import estimate_lines
from aligner.config import BuildAnnotator, BuildConfig

PRICED = {"price_in": 1.0, "price_out": 3.0, "requests_per_minute": 30.0}


@pytest.fixture
def opened(tmp_path: Path) -> Opened:
    """A store with forty questions."""
    opened = Opened(tmp_path / "out")
    questions.gather(world_config(tmp_path, 40), opened.store)
    return opened


def config_of(tmp_path: Path, **given: object) -> BuildConfig:
    """A build with prices; each answer reads 10 and writes 20 tokens, each correction reads 100 and writes 50."""
    models = upstreams("careless", "timid", **PRICED)
    annotator = BuildAnnotator(name="one", model="echo:", price_in=5.0, price_out=10.0)
    return world_config(tmp_path, 40, upstreams=models, annotators=(annotator,), pilot=10, **given)


def make(opened: Opened, config: BuildConfig, only: frozenset[str] | None) -> None:
    """Answers and corrections, each with its cost."""
    opened.ledger.add(answers.requests(config, opened.store, only))
    for model in config.upstreams:
        for request in list(opened.ledger.requests("answers", model=model.name, state="todo")):
            cost = (10 * model.price_in + 20 * model.price_out) / 1e6
            opened.ledger.put(request.key, Reply(f"Yes, {request.key}.", "stop", 10, 20, cost))
    answers.collect(config, opened.store, opened.ledger, only)
    opened.ledger.add(corrections.requests(config, opened.store, opened.ledger, only))
    for model in config.annotators:
        for request in list(opened.ledger.requests("corrections", model=model.name, state="todo")):
            cost = (100 * model.price_in + 50 * model.price_out) / 1e6
            opened.ledger.put(request.key, Reply(as_reply("keep", ""), "stop", 100, 50, cost, "given"))
    corrections.collect(config, opened.store, opened.ledger, only)


def test_the_pilot_is_a_fair_sample_of_questions(tmp_path: Path, opened: Opened) -> None:
    """So many that they have as many answers as wanted; the same for the same seed."""
    config = config_of(tmp_path)
    pilot = estimating.pilot_of(config, opened.store)
    assert len(pilot) == 5
    assert pilot == estimating.pilot_of(config, opened.store)
    assert pilot != estimating.pilot_of(replace(config, seed=1), opened.store)
    assert len(estimating.pilot_of(replace(config, pilot=10**6), opened.store)) == 40


@pytest.mark.parametrize("given", [{}, {"answers_per_question": 1}])
def test_where_all_calls_are_alike_the_estimate_is_exact(tmp_path: Path, opened: Opened, given: dict[str, int]) -> None:
    """Before the run, in the middle, and at its end, when nothing is left."""
    config = config_of(tmp_path, **given)
    pilot = estimating.pilot_of(config, opened.store)
    make(opened, config, pilot)
    seen = estimating.measured(config, opened.store, opened.ledger, pilot, {})
    before = estimating.estimate(config, opened.store, opened.ledger, seen)
    assert before.spent < before.cost
    make(opened, config, None)
    after = estimating.estimate(config, opened.store, opened.ledger, seen)
    assert isclose(before.cost, opened.ledger.spent())
    assert isclose(after.cost, after.spent)
    assert before.triples == after.triples == opened.store.kept("annotated")
    assert [line.calls for line in before.lines] == [line.calls for line in after.lines]
    assert {line.left for line in after.lines} == {0}


def test_hours_are_those_of_the_limits_or_of_the_pilot(tmp_path: Path, opened: Opened) -> None:
    """Whichever is slower; models of one stage work at the same time."""
    config = config_of(tmp_path)
    pilot = estimating.pilot_of(config, opened.store)
    make(opened, config, pilot)
    limited = estimating.estimate(config, opened.store, opened.ledger, Measured())
    assert isclose(limited.hours, 35 / 30 / 60)
    pace = {"answers": 0.1, "corrections": 0.2}
    paced = estimating.estimate(config, opened.store, opened.ledger, Measured(pace=pace))
    assert isclose(paced.hours, (70 / 0.1 + 70 / 0.2) / 3600)


def test_batches_cost_their_share(tmp_path: Path, opened: Opened) -> None:
    """Of all that is not asked live in the pilot."""
    config = config_of(tmp_path)
    pilot = estimating.pilot_of(config, opened.store)
    make(opened, config, pilot)
    live = estimating.estimate(config, opened.store, opened.ledger, Measured())
    batched = tuple(replace(model, calling="batch", model="openai:x") for model in config.upstreams)
    half = estimating.estimate(replace(config, upstreams=batched), opened.store, opened.ledger, Measured())
    answers_left = 70 * (10 * 1.0 + 20 * 3.0) / 1e6
    assert isclose(live.cost - half.cost, answers_left / 2)


def test_the_estimate_is_shown_with_calls_tokens_money_and_hours(tmp_path: Path, opened: Opened) -> None:
    """A line for each model, one for the whole, and one where the limit is less."""
    config = config_of(tmp_path, max_cost=0.01)
    pilot = estimating.pilot_of(config, opened.store)
    make(opened, config, pilot)
    lines = estimate_lines(config, estimating.estimate(config, opened.store, opened.ledger, Measured()))
    assert len(lines) == 5
    assert "answers of careless" in lines[0]
    assert "40 calls" in lines[0]
    assert "USD" in lines[3]
    assert "--max-cost 0.01 pays for about 12% of that" in lines[4]
