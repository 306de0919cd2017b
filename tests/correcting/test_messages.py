"""Laws of an engine's messages: what makes no sense is refused at the door, and everything else is kept."""

from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aligner.correcting.messages import fields_of, instruction_of, order_of, question_of, text_of
from aligner.records import Correction, Exchange, Message, Role, SamplingParams
from aligner.serving.wire import object_of

ORDER: dict[str, Any] = {"answer": "a", "stop": [], "max_tokens": None, "gate": None, "doubt": False}
TURNS = st.lists(st.tuples(st.sampled_from(get_args(Role)), st.text()), min_size=1)


@given(text=st.text(), turns=TURNS)
def test_a_question_is_what_was_asked(text: str, turns: list[tuple[Role, str]]) -> None:
    """A text is itself, and a list of messages is the conversation."""
    assert question_of(text) == text
    sent = [{"role": role, "content": content, "name": "x"} for role, content in turns]
    assert question_of(sent) == tuple(Message(role, content) for role, content in turns)


@pytest.mark.parametrize(
    "value",
    [
        None,
        3,
        [],
        {},
        ["user"],
        [{"role": "tool", "content": "x"}],
        [{"role": "user"}],
        [{"role": "user", "content": []}],
    ],
)
def test_what_is_no_question_is_refused(value: object) -> None:
    """Unknown roles and contents that are no texts are none of ours."""
    with pytest.raises(ValueError, match=r"is no text|is neither a text nor a list of messages"):
        question_of(value)


@given(
    answer=st.text(),
    stop=st.lists(st.text(min_size=1)),
    most=st.none() | st.integers(1, 10**6),
    gate=st.none() | st.floats(0, 1),
    doubt=st.booleans(),
    told=st.text(),
)
def test_an_order_is_what_was_sent(
    answer: str, stop: list[str], most: int | None, gate: float | None, doubt: bool, told: str
) -> None:
    """Every field of it counts."""
    order = order_of("q", {"answer": answer, "stop": stop, "max_tokens": most, "gate": gate, "doubt": doubt}, told)
    assert order.exchange == Exchange("q", answer, instruction=told)
    assert order.sampling == SamplingParams(max_tokens=most, stop=tuple(stop))
    assert (order.gate, order.doubt) == (gate, doubt)


@pytest.mark.parametrize(
    "wrong",
    [
        {"answer": None},
        {"stop": [1]},
        {"stop": 1},
        {"max_tokens": 0},
        {"max_tokens": "3"},
        {"max_tokens": 1.5},
        {"gate": "0.5"},
    ],
)
def test_an_order_that_makes_no_sense_is_refused(wrong: dict[str, Any]) -> None:
    """A field of another kind is named, and not guessed at."""
    assert order_of("q", ORDER).exchange.answer == "a"
    with pytest.raises(ValueError, match=f'"{next(iter(wrong))}" is no '):
        order_of("q", ORDER | wrong)


def test_an_instruction_is_a_text_or_none() -> None:
    """Nothing says nothing."""
    assert instruction_of({"instruction": "be brief"}) == "be brief"
    assert instruction_of({}) == instruction_of({"instruction": None}) == ""
    with pytest.raises(ValueError, match='"instruction" is no text'):
        instruction_of({"instruction": 5})


def test_what_is_no_object_has_no_fields() -> None:
    """Lists and numbers have nothing to read."""
    for value in ([1], 3, "x", None):
        assert object_of(value) == {}
        with pytest.raises(ValueError, match='"id" is no text'):
            text_of(object_of(value), "id")


def test_a_kept_answer_is_told_with_its_reason() -> None:
    """The text, the verdict and the figures of a correction are all there."""
    correction = Correction(exchange=Exchange("q", "a"), text="a", kept_reason="gate", confidence=0.5, doubt=(0.5,))
    told = fields_of(correction)
    assert (told["text"], told["changed"], told["kept_reason"], told["edits"]) == ("a", False, "gate", [])
    assert (told["confidence"], told["doubt"], told["usage"]) == (0.5, (0.5,), correction.usage)
