"""Laws of fields: a triple survives as a row, and what is wrong with a field is said in its words."""

import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aligner.data.fields import exchange_of, question_of, row_of, text_field, triple_of
from aligner.data.readers import Fields, triples
from aligner.files import RowError, read, write_rows
from aligner.files.bad_rows import StopAtBadRow
from aligner.objectives import OBJECTIVES
from aligner.records import Exchange, Message, Question, Triple

TEXT = st.text(st.characters(exclude_categories=["Cs"]))
SAID = TEXT.filter(str.strip)
TURNS = st.builds(Message, st.sampled_from(["system", "user", "assistant"]), TEXT)
CONVERSATIONS = st.builds(
    lambda turns, last: (*turns, Message("user", last)), st.lists(TURNS, min_size=1, max_size=3), SAID
)
QUESTIONS: st.SearchStrategy[Question] = SAID | CONVERSATIONS
TRIPLES = st.builds(
    Triple, QUESTIONS, SAID, SAID, st.tuples(TEXT, TEXT, TEXT), conversation=TEXT, instruction=st.just("") | SAID
)


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz", "a.parquet"])
@given(triples=st.lists(TRIPLES, max_size=4))
@settings(deadline=None, max_examples=60)
def test_triples_survive_a_file(tmp_path_factory: pytest.TempPathFactory, name: str, triples: list[Triple]) -> None:
    """Any text, conversations among plain questions too, comes back from any kind of file as it was."""
    path = tmp_path_factory.getbasetemp() / name
    write_rows(path, map(row_of, triples))
    assert [value for _, value in read(path, triple_of, bad_rows=StopAtBadRow())] == triples


def test_awkward_letters_survive_a_file(tmp_path: Path) -> None:
    """Control characters, line separators and letters beyond the basic plane are text like any other."""
    text = "".join(map(chr, range(32))) + "x\x7f\u0085\u2028\u2029\ufeff\ufffe😀\U0010ffff"
    for name in ("a.jsonl", "a.parquet"):
        write_rows(tmp_path / name, [row_of(Triple(text, text, text, (text, "", text)))])
        (parsed,) = read(tmp_path / name, triple_of, bad_rows=StopAtBadRow())
        assert parsed.value == Triple(text, text, text, (text, "", text))


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        (None, 'no "answer"'),
        (7, '"answer" is a number, not text'),
        (0.5, '"answer" is a number, not text'),
        (True, '"answer" is true or false, not text'),
        (["x"], '"answer" is a list, not text'),
        ({"x": 1}, '"answer" is an object, not text'),
        (b"x", '"answer" is a bytes, not text'),
        ("", '"answer" is empty'),
        (" \n\t", '"answer" is empty'),
        ("half \ud83d", '"answer" is not valid Unicode: it holds half a surrogate pair'),
    ],
)
def test_field_that_is_no_text_says_what_it_is(answer: object, problem: str) -> None:
    """The problem names the field and what stands there instead of text."""
    with pytest.raises(RowError) as caught:
        exchange_of({"question": "what?", "answer": answer})
    assert str(caught.value) == problem
    with pytest.raises(RowError, match='no "correction"'):
        triple_of({"question": "what?", "answer": "that"})
    with pytest.raises(RowError, match='no "other"'):
        text_field({}, "other")


def test_question_is_text_or_conversation_under_either_name() -> None:
    """A conversation may stand in `question`, or in `messages` where there is none; one user turn is its text."""
    turns = [{"role": "system", "content": ""}, {"role": "user", "content": "what?", "name": "more"}]
    conversation = (Message("system", ""), Message("user", "what?"))
    assert question_of({"question": "what?"}) == "what?"
    assert question_of({"question": turns}) == conversation
    assert question_of({"messages": turns}) == conversation
    assert question_of({"question": None, "messages": turns}) == conversation
    assert question_of({"question": "first", "messages": turns}) == "first"
    assert question_of({"messages": turns[1:]}) == "what?"


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        ({}, 'no "question"'),
        ({"question": ""}, '"question" is empty'),
        ({"question": []}, '"question" is empty'),
        ({"messages": []}, '"messages" is empty'),
        ({"messages": "text"}, None),
        ({"messages": 7}, '"messages" is a number, not text'),
        ({"messages": ["hi"]}, '"messages.0" is text, not a message'),
        ({"messages": [{"content": "hi"}]}, 'no "messages.0.role"'),
        ({"messages": [{"role": "tool", "content": "hi"}]}, '"messages.0.role" is none of system, user, assistant'),
        ({"messages": [{"role": "user"}]}, 'no "messages.0.content"'),
        ({"messages": [{"role": "user", "content": [1]}]}, '"messages.0.content" is a list, not text'),
        ({"messages": [{"role": "user", "content": " "}]}, '"messages.0.content" is empty'),
        (
            {"question": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "ho"}]},
            '"question" ends with the turn of the assistant, not of the user',
        ),
    ],
)
def test_question_that_asks_nothing_says_why(row: dict[str, object], problem: str | None) -> None:
    """Whatever cannot be a question is told apart."""
    if problem is None:
        assert question_of(row) == "text"
        return
    with pytest.raises(RowError) as caught:
        question_of(row)
    assert str(caught.value) == problem


def test_id_is_text_or_a_whole_number_or_made() -> None:
    """A given id is kept as text; without one, the same question and answer have the same."""
    row = {"question": "what?", "answer": "that"}
    assert exchange_of({**row, "id": "a-1"}).id == "a-1"
    assert exchange_of({**row, "id": 17}).id == "17"
    assert exchange_of(row) == exchange_of({**row, "id": None}) == Exchange("what?", "that")
    for value in (True, 0.5, ["a"], {}):
        with pytest.raises(RowError, match=r'^"id" is .*, neither text nor a whole number$'):
            exchange_of({**row, "id": value})


def test_sources_are_three_texts_or_none() -> None:
    """What does not say where question, answer and correction came from is a bad row."""
    row = {"question": "what?", "answer": "that", "correction": "this"}
    assert triple_of(row).sources == ("", "", "")
    assert triple_of({**row, "sources": ["a", "b", "c"]}).sources == ("a", "b", "c")
    for value in ("abc", ["a"], ["a", "b", 3], {}):
        with pytest.raises(RowError, match='"sources" is not a list of three texts'):
            triple_of({**row, "sources": value})


def test_an_instruction_is_given_in_words_or_by_name() -> None:
    """Rows say it in either field, empty ones say nothing, and what is given besides is for those that say nothing."""
    row = {"question": "what?", "answer": "that", "correction": "this"}
    concise = OBJECTIVES["concise"].instruction
    for said, instruction in (
        ({}, ""),
        ({"instruction": None, "objective": ""}, ""),
        ({"instruction": " ", "objective": None}, ""),
        ({"instruction": "be brief"}, "be brief"),
        ({"instruction": "", "objective": "concise"}, concise),
    ):
        assert triple_of({**row, **said}).instruction == exchange_of({**row, **said}).instruction == instruction
        assert exchange_of({**row, **said}, instruction="be kind").instruction == (instruction or "be kind")
    for wrong, problem in (
        ({"instruction": "a", "objective": "code"}, 'both "instruction" and "objective"'),
        ({"objective": "empathy"}, 'unknown objective "empathy"; did you mean "empathetic"?'),
        ({"instruction": 5}, '"instruction" is a number, not text'),
        ({"objective": ["code"]}, '"objective" is a list, not text'),
    ):
        with pytest.raises(RowError, match=f"^{re.escape(problem)}"):
            triple_of({**row, **wrong})


def test_a_field_that_is_the_question_is_no_instruction() -> None:
    """Some call the question an instruction; whoever says so gets it once."""
    row = {"instruction": "what?", "output": "that", "better": "this"}
    read = triples(row, Fields(question="instruction", answer="output", correction="better"))
    assert (read.question, read.instruction) == ("what?", "")
    asked = triples({**row, "q": "why?"}, Fields(question="q", answer="output", correction="better"))
    assert (asked.question, asked.instruction) == ("why?", "what?")
