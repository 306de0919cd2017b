"""Laws of what is taken from a row: questions alone need no answers, and chats give their first exchange."""

from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aligner.data.readers import FORMATS, Fields, Given, NoTriple, Takes, giver_named, sharegpt, truthfulqa
from aligner.errors import MisuseError
from aligner.files import RowError
from aligner.records import Message, Triple

WORDS = st.text(st.characters(categories=["L", "N"]), min_size=1)
TRUTHFUL = {
    "Type": "Adversarial",
    "Question": "Are vampires real?",
    "Best Answer": "No, they are not",
    "Correct Answers": "No; Vampires are a legend",
    "Incorrect Answers": "Yes, they are; Some of them are",
}


def test_first_falsehood_is_corrected_by_the_best_answer() -> None:
    """A row of TruthfulQA's CSV file, and one of the hub, hold the same triple."""
    hub = {"question": "Are vampires real?", "best_answer": "No, they are not"}
    expected = Triple(
        "Are vampires real?", "Yes, they are", "No, they are not", ("truthfulqa", "incorrect_answers", "best_answer")
    )
    assert truthfulqa(TRUTHFUL) == expected
    assert truthfulqa({**hub, "incorrect_answers": ["Yes, they are", "Some of them are"]}) == expected


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        ({**TRUTHFUL, "Best Answer": " "}, '"Best Answer" is empty'),
        ({**TRUTHFUL, "Incorrect Answers": "; x"}, '"Incorrect Answers" is empty'),
        ({"question": "x", "best_answer": "y", "incorrect_answers": []}, '"incorrect_answers" is empty'),
        ({"question": "x", "best_answer": "y"}, 'no "incorrect_answers"'),
    ],
)
def test_rows_without_a_falsehood_or_a_truth_say_so(row: Mapping[str, object], problem: str) -> None:
    """What a triple needs is named where it is missing."""
    with pytest.raises(RowError) as caught:
        truthfulqa(row)
    assert str(caught.value) == problem


def test_questions_alone_need_nothing_else() -> None:
    """Rows without answers and corrections give their questions."""
    assert giver_named("truthfulqa", "questions")({"Question": "why?"}) == Given("why?")
    assert giver_named("triples", "questions", Fields(question="q.0"))({"q": ["why?"]}) == Given("why?")
    assert giver_named("triples", "answers", Fields(answer="a"))({"question": "why?", "a": "so"}) == Given("why?", "so")
    messages = [
        {"role": "user", "content": "why?"},
        {"role": "assistant", "content": "so"},
        {"role": "user", "content": "?"},
    ]
    found = giver_named("triples", "questions")({"messages": messages})
    assert isinstance(found, Given)
    assert len(found.question) == 3


@pytest.mark.parametrize(
    ("takes", "expected"),
    [("questions", Given("why?")), ("answers", Given("why?", "so")), ("triples", Given("why?", "so", "because"))],
)
def test_only_what_is_taken_is_given(takes: Takes, expected: Given) -> None:
    """Of a whole triple only that comes which was asked for."""
    assert giver_named("triples", takes)({"question": "why?", "answer": "so", "correction": "because"}) == expected


@given(question=WORDS, reply=WORDS, later=st.lists(WORDS, max_size=3), system=st.none() | WORDS)
def test_chats_give_their_first_exchange(question: str, reply: str, later: list[str], system: str | None) -> None:
    """What came later, and who else wrote, makes no difference; a system's turn is part of the question."""
    turns = [("system", system)] if system is not None else []
    turns += [("human", question), ("gpt", reply), *(("human", text) for text in later)]
    row = {"id": "x", "conversations": [{"from": who, "value": said} for who, said in turns]}
    expected = question if system is None else (Message("system", system), Message("user", question))
    assert giver_named("sharegpt", "answers")(row) == Given(expected, reply)
    assert giver_named("sharegpt", "questions")(row) == Given(expected)
    assert sharegpt(row) == NoTriple("holds no correction")
    assert giver_named("sharegpt", "triples")(row) == NoTriple("holds no correction")


@pytest.mark.parametrize(
    ("turns", "questions", "answers"),
    [
        ([("gpt", "hi")], "does not begin with a question of the user", "does not begin with a question of the user"),
        ([], "does not begin with a question of the user", "does not begin with a question of the user"),
        ([("human", " ")], "does not begin with a question of the user", "does not begin with a question of the user"),
        ([("user", "why?")], None, "no reply follows the question"),
        ([("user", "why?"), ("bard", "")], None, "no reply follows the question"),
    ],
)
def test_chats_without_an_exchange_say_why(turns: list[tuple[str, str]], questions: str | None, answers: str) -> None:
    """A chat that the model opened has no question, and one without a reply no answer."""
    row = {"conversations": [{"from": who, "value": said} for who, said in turns]}
    found = giver_named("sharegpt", "questions")(row)
    assert found == (Given("why?") if questions is None else NoTriple(questions))
    assert giver_named("sharegpt", "answers")(row) == NoTriple(answers)


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        ({}, '"messages" is null, not a list of messages'),
        ({"conversations": "x"}, '"conversations" is text, not a list of turns'),
        ({"conversations": ["x"]}, '"conversations.0" is text, not a turn'),
        ({"conversations": [{"from": "human"}]}, 'no "conversations.0.content"'),
        ({"conversations": [{"from": ["x"], "value": "x"}]}, '"conversations.0.from" is none of human, user, gpt'),
    ],
)
def test_rows_that_are_no_chats_say_what_is_wrong(row: Mapping[str, object], problem: str) -> None:
    """Each way not to be a chat has its own words."""
    with pytest.raises(RowError) as caught:
        sharegpt(row)
    assert str(caught.value).startswith(problem)


def test_formats_and_fields_are_checked_when_they_are_named() -> None:
    """An unknown format is named, and so is one that has fields of its own."""
    with pytest.raises(MisuseError, match='unknown format "nothing"'):
        giver_named("nothing", "questions")
    with pytest.raises(MisuseError, match="names of fields are for"):
        giver_named("hh-rlhf", "triples", Fields(question="q"))
    for name in FORMATS:
        assert callable(giver_named(name, "triples"))
