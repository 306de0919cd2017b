"""Laws of the nouns."""

from collections.abc import Callable
from dataclasses import FrozenInstanceError, fields, is_dataclass
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aligner import records
from aligner.records import (
    Comparison,
    Completion,
    Correction,
    Edit,
    Exchange,
    Message,
    Preference,
    Role,
    SamplingParams,
    Triple,
    Usage,
    Winner,
    apply_edits,
    as_messages,
    as_question,
)

MESSAGES = st.builds(Message, st.sampled_from(get_args(Role)), st.text())
QUESTIONS = st.text() | st.lists(MESSAGES, min_size=1).map(as_question)
NOUNS = (
    Message("user", "q"),
    SamplingParams(),
    Usage(),
    Completion("a"),
    Exchange("q", "a"),
    Correction(exchange=Exchange("q", "a"), text="a"),
    Triple("q", "a", "c"),
    Preference("q", "c", "r"),
    Comparison("q", "a", "b", "tie"),
)


@pytest.mark.parametrize("noun", NOUNS, ids=lambda noun: type(noun).__name__)
def test_nouns_are_values(noun: Any) -> None:
    """No field of a noun can be set, and none can be added."""
    for field in fields(noun):
        with pytest.raises(FrozenInstanceError):
            setattr(noun, field.name, getattr(noun, field.name))
    assert not hasattr(noun, "__dict__")


def test_all_nouns_are_tested_for_being_values() -> None:
    """The list above has every dataclass of the module."""
    assert {type(noun) for noun in NOUNS} == {kind for kind in vars(records).values() if is_dataclass(kind)}


@given(st.text(), st.text(), st.text(), st.sampled_from(get_args(Winner)))
def test_a_comparison_swapped_twice_is_itself(question: str, a: str, b: str, winner: Winner) -> None:
    """Swapping is its own inverse, and names the same answer the winner."""
    comparison = Comparison(question, a, b, winner)
    swapped = comparison.swap()
    assert swapped.swap() == comparison
    if winner == "tie":
        assert swapped.winner == "tie"
    else:
        assert getattr(swapped, swapped.winner) == getattr(comparison, winner)


@given(QUESTIONS, st.text(), st.text(min_size=1))
def test_an_id_that_is_given_is_kept(question: records.Question, answer: str, given_id: str) -> None:
    """An exchange has the id it was given, and with none an id that its content alone decides."""
    assert Exchange(question, answer, given_id).id == given_id
    assert Exchange(question, answer) == Exchange(question, answer)
    assert Exchange(question, answer).id


EXCHANGES = st.builds(Exchange, QUESTIONS, st.text(), instruction=st.text(max_size=2))


@given(EXCHANGES, EXCHANGES)
def test_ids_are_equal_where_the_content_is(one: Exchange, other: Exchange) -> None:
    """Two exchanges have one id if, and only if, question, answer and instruction are the same."""
    said = [(as_messages(each.question), each.answer, each.instruction) for each in (one, other)]
    assert (one.id == other.id) == (said[0] == said[1])


def test_an_id_does_not_change_between_versions() -> None:
    """The hash is part of the files that people keep."""
    assert Exchange("What is 2 + 2?", "4").id == "5d064d543cf62ecf"
    assert Exchange((Message("system", "Be kind."), Message("user", "Hé?")), "4").id == "5388486bfd69bb19"


@given(QUESTIONS)
def test_a_question_is_its_messages_and_back(question: records.Question) -> None:
    """A question made into messages and back is the same question."""
    assert as_question(as_messages(question)) == question


@given(st.lists(MESSAGES, min_size=1))
def test_messages_are_a_question_and_back(messages: list[Message]) -> None:
    """Messages made into a question and back are the same messages."""
    assert as_messages(as_question(messages)) == tuple(messages)


@pytest.mark.parametrize("make", [str, lambda text: text.upper()])
def test_a_correction_knows_whether_it_changed_the_answer(make: Callable[[str], str]) -> None:
    """Changed means that the text is another one."""
    exchange = Exchange("q", "answer")
    assert Correction(exchange=exchange, text=make("answer")).changed == (make("answer") != "answer")


def test_edits_replace_insert_and_delete() -> None:
    """Edits are in characters of the answer, and no edits are no change."""
    edits = (Edit(0, 0, "So "), Edit(2, 3, ""), Edit(5, 7, "🙂!"))
    assert apply_edits("ab.de??", edits) == "So abde🙂!"
    assert apply_edits("ab.de??", ()) == "ab.de??"


@given(st.text(), st.booleans())
def test_an_identity_triple_has_its_answer_as_correction(text: str, same: bool) -> None:
    """A triple is an identity if the answer was good as it was."""
    assert Triple("q", text, text if same else f"{text}.").is_identity == same
