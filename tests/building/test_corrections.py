"""Laws of the corrections of a build: who corrects what, and what becomes of each reply."""

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import orjson
import pytest
from built import Opened, world_config, written
from hypothesis import given
from hypothesis import strategies as st

from aligner.building import corrections, questions
from aligner.building.annotating import as_reply
from aligner.building.corrections import annotators_of
from aligner.building.nouns import Failure, Reply, Request
from aligner.config import BuildAnnotator, BuildConfig, BuildSource
from aligner.prompts import EDITORS, Editor

ONE = BuildAnnotator(name="one", model="echo:", share=0.5)
TWO = BuildAnnotator(name="two", model="echo:", share=0.8)
REST = BuildAnnotator(name="rest", model="human:")


def config_of(folder: Path, *annotators: BuildAnnotator, **given_: Any) -> BuildConfig:
    """A build of answers that are given: two to each question, of which some are equal."""
    rows = [
        {"question": f"Who is number {i}?", "answer": answer}
        for i in range(20)
        for answer in (f"No. {i}.", f"No. {i % 2}.")
    ]
    source = BuildSource(path=str(written(folder / "said.jsonl", rows)), takes="answers")
    return world_config(
        folder, sources=(source,), upstreams=(), annotators=annotators or (replace(ONE, share=1),), **given_
    )


@pytest.fixture
def opened(tmp_path: Path) -> Opened:
    """A store with those answers."""
    opened = Opened(tmp_path / "out")
    questions.gather(config_of(tmp_path), opened.store)
    return opened


def asked(opened: Opened, config: BuildConfig) -> list[Request]:
    """What is to be asked now, noted in the ledger."""
    requests = list(corrections.requests(config, opened.store, opened.ledger))
    opened.ledger.add(requests)
    return requests


def test_shares_are_of_what_is_left(tmp_path: Path) -> None:
    """Half for the first, four fifths of the rest for the second, what then is left for the last."""
    config = config_of(tmp_path, ONE, TWO, REST, twice=0)
    counts = Counter(annotators_of(config, "q", str(i))[0].name for i in range(4000))
    assert abs(counts["one"] - 2000) < 130
    assert abs(counts["two"] - 1600) < 130
    assert abs(counts["rest"] - 400) < 80


@given(twice=st.floats(0, 1), text=st.text())
def test_a_second_annotator_is_another_one(tmp_path_factory: pytest.TempPathFactory, twice: float, text: str) -> None:
    """And nobody is asked twice where there is nobody else."""
    folder = tmp_path_factory.mktemp("twice")
    found = annotators_of(config_of(folder, ONE, TWO, REST, twice=twice), "q", text)
    assert len({one.name for one in found}) == len(found)
    assert len(annotators_of(config_of(folder, twice=1.0), "q", text)) == 1
    assert len(annotators_of(config_of(folder, ONE, TWO, REST, twice=1.0), "q", text)) == 2


def test_equal_answers_to_a_question_are_corrected_once(tmp_path: Path, opened: Opened) -> None:
    """They share a request, so it is paid for once, and both have the correction."""
    config = config_of(tmp_path)
    requests = asked(opened, config)
    assert len(requests) == 40
    assert len({request.key for request in requests}) == 38
    for key in {request.key for request in requests}:
        opened.ledger.put(key, Reply(as_reply("edit", "Nobody."), way="given"))
    corrections.collect(config, opened.store, opened.ledger)
    assert [row.text for row in opened.store.annotated()] == ["Nobody."] * 40


def test_a_reply_that_says_nothing_is_asked_about_until_the_asks_are_over(tmp_path: Path, opened: Opened) -> None:
    """Then the answer is dropped as unreadable; before, it is open."""
    config = config_of(tmp_path, replace(ONE, share=1, asks=3))
    for ask in range(3):
        requests = asked(opened, config)
        assert len({request.key for request in requests}) == 38
        assert {len(request.messages) for request in requests} == {2 if ask == 0 else 4}
        corrections.collect(config, opened.store, opened.ledger)
        assert opened.store.drop_reasons("corrections") == {}
        for key in {request.key for request in requests}:
            opened.ledger.put(key, Reply("I am not sure."))
    assert asked(opened, config) == []
    corrections.collect(config, opened.store, opened.ledger)
    assert opened.store.drop_reasons("corrections") == {"unreadable": 40}


def test_the_work_of_people_outlives_the_words_that_models_are_asked_with(
    tmp_path: Path, opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With other wording of our prompt, people are asked the same as before, and models anew."""
    people, models = (config_of(tmp_path, replace(ONE, share=1, model=name)) for name in ("human:", "echo:"))
    before = [{request.key for request in asked(opened, config)} for config in (people, models)]
    ours = EDITORS["ours"]
    reworded = replace(ours, version=ours.version + 1, system=f"Please. {ours.system}")
    monkeypatch.setitem(cast("dict[str, Editor]", EDITORS), "ours", reworded)
    after = [{request.key for request in asked(opened, config)} for config in (people, models)]
    assert after[0] == before[0]
    assert not after[1] & before[1]


def test_keeping_gives_the_answer_itself(tmp_path: Path, opened: Opened) -> None:
    """Byte for byte."""
    config = config_of(tmp_path)
    for request in asked(opened, config):
        opened.ledger.put(
            request.key, Reply(orjson.dumps({"verdict": "keep", "reasons": [], "correction": ""}).decode())
        )
    corrections.collect(config, opened.store, opened.ledger)
    answers = {answer.id: answer.text for answer in opened.store.answers()}
    assert {row.answer: row.text for row in opened.store.annotated()} == answers
    assert {row.choice for row in opened.store.annotated()} == {"keep"}


def test_failures_for_good_drop_the_answer_and_others_leave_it_open(tmp_path: Path, opened: Opened) -> None:
    """Under the id of the answer, since there is no correction."""
    config = config_of(tmp_path)
    requests = asked(opened, config)
    opened.ledger.put(requests[0].key, Failure("refused", "not this"))
    opened.ledger.put(requests[2].key, Failure("transient", "busy"))
    corrections.collect(config, opened.store, opened.ledger)
    dropped = list(opened.store.dropped("corrections"))
    assert {row.reason for row in dropped} == {"refused"}
    assert {row.id for row in dropped} <= {answer.id for answer in opened.store.answers()}


def test_a_second_annotator_that_fails_drops_nothing(tmp_path: Path, opened: Opened) -> None:
    """What he says is for the agreement alone."""
    config = config_of(tmp_path, replace(ONE, share=1), TWO, twice=1.0)
    for request in asked(opened, config):
        outcome = Failure("refused", "no") if request.model == "two" else Reply(as_reply("keep", ""), way="given")
        opened.ledger.put(request.key, outcome)
    corrections.collect(config, opened.store, opened.ledger)
    assert opened.store.drop_reasons("corrections") == {}
    assert opened.store.kept("annotated") == 40


def test_answers_that_the_shares_leave_over_are_dropped(tmp_path: Path, opened: Opened) -> None:
    """With that reason, so that the funnel adds up."""
    config = config_of(tmp_path, replace(ONE, share=0.2))
    requests = asked(opened, config)
    corrections.collect(config, opened.store, opened.ledger)
    assert opened.store.drop_reasons("corrections") == {"no_annotator": 40 - len(requests)}


def test_nobody_is_asked_for_what_was_given(tmp_path: Path) -> None:
    """Triples have their corrections."""
    rows = [{"question": "Who is it?", "answer": "Ada", "correction": "Ada."}]
    source = BuildSource(path=str(written(tmp_path / "given.jsonl", rows)), takes="triples")
    config = world_config(tmp_path, sources=(source,), upstreams=())
    with Opened(tmp_path / "out") as opened:
        questions.gather(config, opened.store)
        assert asked(opened, config) == []


def test_people_are_asked_once(tmp_path: Path, opened: Opened) -> None:
    """Their page lets nothing through that cannot be read."""
    config = config_of(tmp_path, REST)
    (first, *_) = asked(opened, config)
    opened.ledger.put(first.key, Reply("?", way="human"))
    assert first.key not in {request.key for request in asked(opened, config)}
    assert len({request.key for request in asked(opened, config)}) == 37


def test_one_more_ask_takes_the_place_of_the_drop(tmp_path: Path, opened: Opened) -> None:
    """What a later ask brought stays, with fewer asks, too: an answer is corrected or dropped, never both."""
    few, more = (config_of(tmp_path, replace(ONE, share=1, asks=asks)) for asks in (1, 2))
    for config, said in ((few, "I am not sure."), (more, as_reply("edit", "Nobody."))):
        for request in asked(opened, config):
            opened.ledger.put(request.key, Reply(said))
        corrections.collect(config, opened.store, opened.ledger)
        counts = opened.store.kept("annotated"), sum(opened.store.drop_reasons("corrections").values())
        assert counts == ((0, 40) if config is few else (40, 0))
    corrections.collect(few, opened.store, opened.ledger)
    assert opened.store.drop_reasons("corrections") == {}
