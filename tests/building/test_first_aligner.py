"""A first Aligner as annotator: every request gets its reply once, and a failed correction is no praise."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aligner.building.annotating import Understood, read, request_messages, template_of
from aligner.building.first_aligner import outcome_of, run
from aligner.building.ledger import Ledger
from aligner.building.nouns import Failure, Reply, Request, key_of, order_of
from aligner.building.principles import load
from aligner.building.store import Store
from aligner.building.workers import Worker
from aligner.correct import Aligner
from aligner.correcting.writers import load_writer
from aligner.errors import ModelError
from aligner.records import Correction, Exchange, Message, Question, SamplingParams, Usage

PRINCIPLES = load(["helpful"])
NAME = "first"
TEXTS = st.text(st.characters(codec="utf-8"))


def request(question: Question, answer: str, number: int = 0) -> Request:
    messages = request_messages("ours", question, answer, PRINCIPLES)
    key = key_of(NAME, messages, SamplingParams(), template_of("ours", PRINCIPLES), number)
    about = f"answer-{number}"
    return Request(key=key, stage="corrections", model=NAME, messages=messages, about=about, order=order_of(0, about))


@pytest.fixture
def requests() -> list[Request]:
    return [request(f"Question {i}?", f"teh answer {i}" if i % 3 else f"an answer {i}", i) for i in range(150)]


@pytest.fixture
def aligner(tmp_path: Path) -> Aligner:
    rules = tmp_path / "rules.toml"
    rules.write_text("[[rules]]\npattern = 'teh'\nreplace = 'the'\n", encoding="utf-8")
    return Aligner(load_writer(f"rules:{rules}", "cpu"))


def test_all_requests_get_replies(tmp_path: Path, requests: list[Request], aligner: Aligner) -> None:
    """Each request of that name gets the Aligner's own verdict, others are left alone, and once more does nothing."""
    other = Request(key="0", stage="corrections", model="other", messages=(), about="x")
    with Store(tmp_path / "build.sqlite") as store, Worker(tmp_path) as worker:
        ledger = Ledger(store, worker)
        ledger.add([*requests, other])
        assert run(ledger, "corrections", NAME, aligner.correct_many) == len(requests)
        for i, asked in enumerate(requests):
            reply = ledger.reply(asked.key)
            assert reply is not None
            wanted = Understood("edit", f"the answer {i}") if i % 3 else Understood("keep", f"an answer {i}")
            assert read("ours", f"teh answer {i}" if i % 3 else f"an answer {i}", reply) == wanted
            assert reply.way == "aligner"
        assert run(ledger, "corrections", NAME, aligner.correct_many) == 0
        assert ledger.state("corrections", ["other"]).todo == 1


def test_an_aligner_that_breaks_leaves_the_rest_to_do(
    tmp_path: Path, requests: list[Request], aligner: Aligner
) -> None:
    """What was corrected before an error is kept, the rest is free at once, and is all done by the next run."""

    def breaking(exchanges: Sequence[Exchange]) -> Iterator[Correction]:
        yield from aligner.correct_many(exchanges[:5])
        raise ModelError("no memory left")

    def counted(exchanges: Sequence[Exchange]) -> Iterable[Correction]:
        corrected.extend(exchanges)
        return aligner.correct_many(exchanges)

    corrected: list[Exchange] = []
    with Store(tmp_path / "build.sqlite") as store, Worker(tmp_path) as worker:
        ledger = Ledger(store, worker)
        ledger.add(requests)
        with pytest.raises(ModelError):
            run(ledger, "corrections", NAME, breaking)
        state = ledger.state("corrections", [NAME])
        assert (state.done, state.leased, state.todo) == (5, 0, len(requests) - 5)
        assert run(ledger, "corrections", NAME, counted) == len(corrected) == len(requests) - 5
        assert ledger.state("corrections", [NAME]).done == len(requests)


def test_messages_of_something_else_are_failures(tmp_path: Path, aligner: Aligner) -> None:
    """A request that holds no question and answer fails for good, and stops nobody."""
    odd = Request(key="odd", stage="corrections", model=NAME, messages=(Message("user", "Hello"),), about="x")
    good = request("q", "teh")
    with Store(tmp_path / "build.sqlite") as store, Worker(tmp_path) as worker:
        ledger = Ledger(store, worker)
        ledger.add([odd, good])
        assert run(ledger, "corrections", NAME, aligner.correct_many) == 2
        failure = ledger.failure("odd")
        assert failure is not None
        assert failure.fault == "unusable"
        assert ledger.reply(good.key) is not None


@given(answer=TEXTS, text=TEXTS.filter(str.strip))
def test_a_correction_is_read_as_it_was_made(answer: str, text: str) -> None:
    """The reply of a correction is understood as its text, letter by letter."""
    outcome = outcome_of(Correction(exchange=Exchange("q", answer), text=text, usage=Usage(7, 9)))
    assert isinstance(outcome, Reply)
    assert (outcome.prompt_tokens, outcome.completion_tokens, outcome.cost) == (7, 9, 0.0)
    found = read("ours", answer, outcome)
    assert isinstance(found, Understood)
    assert found.text in {text, answer}
    assert (found.text == text) or (found.choice == "keep" and text.split() == answer.split())


def test_only_a_gate_says_that_an_answer_is_good() -> None:
    """An answer that was kept since its correction failed is a failure, and one that the gate kept is kept."""

    def kept(reason: str) -> Reply | Failure:
        return outcome_of(Correction(exchange=Exchange("q", "a"), text="a", kept_reason=reason))

    gate = kept("gate")
    assert isinstance(gate, Reply)
    assert read("ours", "a", gate) == Understood("keep", "a")
    assert kept("the correction was cut off") == Failure("unusable", "the correction was cut off")
    context = "question and answer do not fit the Aligner's context"
    assert kept(context) == Failure("context", context)
