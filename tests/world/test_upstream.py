"""Laws of the closed world's upstreams as models."""

import asyncio

import pytest

from aligner.errors import MisuseError, ModelError
from aligner.models import load_model
from aligner.records import Message, SamplingParams
from aligner.world.oracle import mark
from aligner.world.profiles import PROFILES
from aligner.world.questions import read_question
from aligner.world.rows import rows


def _ask(name: str, question: str, seed: int = 0) -> str:
    sampling = SamplingParams(seed=seed)
    return asyncio.run(load_model(name).complete([Message("user", question)], sampling)).text


def test_an_upstream_answers_in_its_own_way() -> None:
    """Asked often enough, an upstream gives good answers and flawed ones, and the same seed gives the same."""
    question = next(iter(rows(PROFILES["rambling"], count=1, seed=1, split="unseen"))).asked.text
    asked = read_question(question)
    assert asked is not None
    answers = [_ask("world:rambling", question, seed) for seed in range(40)]
    assert {mark(asked, answer).good for answer in answers} == {True, False}
    assert all(mark(asked, answer).honest for answer in answers if "by the way" not in answer.lower())
    assert answers == [_ask("world:rambling", question, seed) for seed in range(40)]


def test_a_stream_adds_up_to_the_answer() -> None:
    """The pieces of a stream are the whole answer."""

    async def streamed() -> str:
        model = load_model("world:careless")
        return "".join([piece async for piece in model.stream([Message("user", "Who wrote Dune?")])])

    assert asyncio.run(streamed()) == _ask("world:careless", "Who wrote Dune?")


def test_a_question_from_elsewhere_is_an_error() -> None:
    """A question that the world does not know is refused, and an unknown profile is named with the nearest."""
    with pytest.raises(ModelError, match="no such question"):
        _ask("world:careless", "What is love?")
    with pytest.raises(MisuseError, match='did you mean "careless"'):
        load_model("world:carless")
