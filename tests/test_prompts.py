"""The prompts of judges and annotators: what was published stands in them, and no text gets out of its place."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aligner.errors import MisuseError
from aligner.prompts import EDITORS, RUBRICS, Editor, Rubric, editor_named, rubrics_named
from aligner.prompts.sealing import Seal
from aligner.records import Message

SEALED: list[Rubric | Editor] = [*EDITORS.values(), *(one for all_ in RUBRICS.values() for one in all_.of.values())]
MARKS = sorted({mark for prompt in SEALED for mark in prompt.marks})
PIECES = [
    *MARKS,
    *(mark[:cut] for mark in MARKS for cut in (1, len(mark) // 2)),
    *(mark[1:] for mark in MARKS),
    *(" ".join(re.findall(r"\w+|[^\w\s]", mark)) for mark in MARKS),
    *("\\", " ", "\n"),
]
TEXTS = st.lists(st.sampled_from(PIECES) | st.text(max_size=4), max_size=8).map("".join)
TURNS = st.lists(st.builds(Message, st.sampled_from(["system", "user", "assistant"]), TEXTS), min_size=1, max_size=4)
QUESTIONS = TEXTS | TURNS.map(tuple)
PUBLISHED = {
    "published-gpt4": (
        "As an answer editor",
        "Question: ",
        "Original Answer: ",
        "Edited Version (by you): ",
    ),
    "published-llama": (
        "You are a helpful, respectful, and honest assistant. As an answer editor",
        "Question: ",
        "Original Answer: ",
        "Edited Version (by you): ",
        "Return your correction as Edited Answer: [[Your correction]].",
    ),
}


def loose(mark: str) -> str:
    """A pattern of a mark with white space between its words and signs."""
    return r"\s*".join(map(re.escape, re.findall(r"\w+|[^\w\s]", mark)))


def times(mark: str, text: str) -> int:
    return len(re.findall(loose(mark), text, re.IGNORECASE))


@pytest.mark.parametrize("prompt", SEALED, ids=lambda prompt: getattr(prompt, "name", "rubric"))
@given(text=TEXTS)
def test_a_sealed_text_holds_no_mark_and_comes_back(prompt: Rubric | Editor, text: str) -> None:
    """Whatever a text is made of, sealed it holds no mark of the prompt, and unsealed it is the text again."""
    sealed = prompt.sealed(text)
    assert prompt.unsealed(sealed) == text
    assert not any(times(mark, sealed) for mark in prompt.marks)


@given(question=QUESTIONS, answer=TEXTS, name=st.sampled_from(sorted(EDITORS)))
def test_a_prompt_gives_question_and_answer_back(question: str | tuple[Message, ...], answer: str, name: str) -> None:
    """For any question and answer the prompt gives both back, and a conversation turn by turn where it marks turns."""
    editor = EDITORS[name]
    if isinstance(question, str) or editor.turns:
        assert editor.texts(editor.messages(question, answer, "Be good.")[1].content) == (question, answer)


@given(question=QUESTIONS, answer=TEXTS, name=st.sampled_from(sorted(EDITORS)))
def test_no_mark_of_a_prompt_can_be_forged(question: str | tuple[Message, ...], answer: str, name: str) -> None:
    """Whatever question and answer hold, each mark stands in the prompt as often as with harmless ones."""
    editor = EDITORS[name]
    quiet = question if isinstance(question, str) else tuple(Message(turn.role, "x") for turn in question)
    harmless = editor.messages("x" if isinstance(quiet, str) else quiet, "x", "Be good.")
    made = editor.messages(question, answer, "Be good.")
    assert made[0] == harmless[0]
    assert [times(mark, made[1].content) for mark in editor.marks] == [
        times(mark, harmless[1].content) for mark in editor.marks
    ]


@given(first=TURNS.map(tuple), second=QUESTIONS)
def test_different_conversations_are_shown_differently(first: tuple[Message, ...], second: object) -> None:
    """No text of a turn can make one conversation look like another one in our own prompt."""
    ours = EDITORS["ours"]
    assert isinstance(second, str | tuple)
    shown = ours.messages(first, "a", ""), ours.messages(second, "a", "")
    assert (shown[0] == shown[1]) == (first == second)


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_words_stand_in_the_published_prompts(name: str) -> None:
    """What is known word for word of the paper's prompts stands in them, and the user's turn is nothing else."""
    system, user = EDITORS[name].messages("{answer}", "{question}", "Rules.")
    assert system.role == "system"
    assert [words for words in PUBLISHED[name] if words not in system.content] == []
    assert system.content.startswith(PUBLISHED[name][0])
    assert user == Message("user", "Question: {answer}, Answer: {question}, your revision:")


@pytest.mark.parametrize("name", EDITORS)
def test_principles_stand_in_the_prompt_as_they_are(name: str) -> None:
    """Each prompt shows its annotator the principles, and no slot is left open."""
    system, user = EDITORS[name].messages("q", "a", "Be {question} good.")
    assert "Be {question} good." in system.content
    assert not re.search(r"\{\w+\}", system.content.replace("Be {question} good.", "") + user.content)


def test_a_slot_inside_a_text_is_text() -> None:
    """A question or an answer that is written like a slot is not filled."""
    user = EDITORS["ours"].messages("{answer}", "{principles}", "")[1].content
    assert "<question>\n{answer}\n</question>" in user
    assert "<answer>\n{principles}\n</answer>" in user


def test_an_unknown_prompt_is_named_with_the_nearest() -> None:
    """A name that is not known raises one line that names the nearest one."""
    with pytest.raises(MisuseError, match='did you mean "published-gpt4"'):
        editor_named("published-gpt5")
    with pytest.raises(MisuseError, match='did you mean "published"'):
        rubrics_named("publish")


def test_a_seal_without_such_a_text_changes_nothing() -> None:
    """A text without marks is shown as it is."""
    assert Seal(("<answer>",)).sealed("x < y <answers") == "x < y <answers"
