"""Laws of the answers of a build: who is asked, and what becomes of each reply."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from built import Opened, upstreams, world_config
from hypothesis import given
from hypothesis import strategies as st

from aligner.building import answers, questions
from aligner.building.nouns import Failure, Fault, Reply, Request
from aligner.config import BuildConfig, BuildUpstream

FAULTS: tuple[Fault, ...] = ("transient", "refused", "context", "auth", "unusable", "missing", "expired", "cut_off")


@pytest.fixture
def opened(tmp_path: Path) -> Opened:
    """A store with the questions of `config`."""
    opened = Opened(tmp_path / "out")
    questions.gather(config(tmp_path), opened.store)
    return opened


def config(tmp_path: Path, **given_: object) -> BuildConfig:
    """A build with two upstreams."""
    return world_config(tmp_path, 30, **given_)


def asked(opened: Opened, config: BuildConfig) -> list[Request]:
    """All requests for answers."""
    return list(answers.requests(config, opened.store))


def test_every_question_is_asked_of_every_upstream_as_often_as_wanted(tmp_path: Path, opened: Opened) -> None:
    """One request for each question, upstream and sample, with keys and seeds of their own."""
    models = (*upstreams("careless"), *upstreams("timid", samples=3))
    requests = asked(opened, config(tmp_path, upstreams=models))
    assert Counter(request.model for request in requests) == {"careless": 30, "timid": 90}
    assert len({request.key for request in requests}) == 120
    assert {request.sampling.seed for request in requests if request.model == "timid"} == {0, 1, 2}


def test_asking_again_adds_nothing(tmp_path: Path, opened: Opened) -> None:
    """The same configuration has the same keys."""
    assert opened.ledger.add(answers.requests(config(tmp_path), opened.store)) == 60
    assert opened.ledger.add(answers.requests(config(tmp_path), opened.store)) == 0


def test_so_many_upstreams_are_drawn_for_a_question(tmp_path: Path, opened: Opened) -> None:
    """By the seed, and evenly."""
    models = upstreams("careless", "timid", "reckless", "mocking")
    few = config(tmp_path, upstreams=models, answers_per_question=2)
    requests = asked(opened, few)
    assert set(Counter(request.about for request in requests).values()) == {2}
    counts = Counter(request.model for request in requests)
    assert sum(counts.values()) == 60
    assert min(counts.values()) >= 5
    assert requests == asked(opened, few)
    assert requests != asked(opened, replace(few, seed=1))


@given(temperature=st.sampled_from([0.0, 0.5]), sample=st.integers(0, 3), seed=st.integers(0, 5))
def test_a_seed_is_sent_where_there_is_chance(temperature: float, sample: int, seed: int) -> None:
    """Greedy first samples need none, and some servers refuse one."""
    upstream = BuildUpstream(name="x", model="echo:", temperature=temperature)
    sampling = answers.sampling_of(BuildConfig(seed=seed), upstream, sample)
    assert sampling.seed == (seed + sample if temperature or sample else None)


def test_the_published_sampling_is_the_default() -> None:
    """Temperature 0.5, top-p 0.95, top-k 10."""
    sampling = answers.sampling_of(BuildConfig(), BuildUpstream(name="x", model="echo:"), 0)
    assert (sampling.temperature, sampling.top_p, sampling.top_k) == (0.5, 0.95, 10)


def test_only_chosen_questions_are_asked_in_a_pilot(tmp_path: Path, opened: Opened) -> None:
    """Their requests are those that they have in the whole."""
    chosen = [asked.id for asked in opened.store.questions()][:4]
    few = list(answers.requests(config(tmp_path), opened.store, chosen))
    assert {request.about for request in few} == set(chosen)
    assert {request.key for request in few} < {request.key for request in asked(opened, config(tmp_path))}


def test_every_reply_is_kept_dropped_or_open(tmp_path: Path, opened: Opened) -> None:
    """Empty and truncated answers go, faults for good go, faults that may pass stay open."""
    build = config(tmp_path, upstreams=upstreams("careless"))
    requests = asked(opened, build)
    opened.ledger.add(requests)
    outcomes: list[Reply | Failure] = [
        Reply("Yes."),
        Reply(" \n"),
        Reply("It is", "length"),
        *(Failure(fault, "why") for fault in FAULTS),
    ]
    for request, outcome in zip(requests, outcomes, strict=False):
        opened.ledger.put(request.key, outcome)
    for _ in range(2):
        answers.collect(build, opened.store, opened.ledger)
        assert [answer.text for answer in opened.store.answers()] == ["Yes."]
        assert opened.store.drop_reasons("answers") == {
            "auth": 1, "context": 1, "empty": 1, "missing": 1, "refused": 1, "truncated": 1, "unusable": 1,
        }  # fmt: skip


def test_what_comes_late_is_collected(tmp_path: Path, opened: Opened) -> None:
    """A call that failed in passing and then came back is an answer."""
    build = config(tmp_path, upstreams=upstreams("careless"))
    requests = asked(opened, build)
    opened.ledger.add(requests)
    opened.ledger.put(requests[0].key, Failure("transient", "busy"))
    answers.collect(build, opened.store, opened.ledger)
    opened.ledger.reopen(["transient"])
    opened.ledger.put(requests[0].key, Reply("Yes."))
    answers.collect(build, opened.store, opened.ledger)
    assert [answer.text for answer in opened.store.answers()] == ["Yes."]
