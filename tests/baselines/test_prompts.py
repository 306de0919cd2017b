"""Laws of the prompts for reviewing and revising: texts stay data, and none of them is the end of the rounds."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aligner.prompts import CRITIQUES, SELF_REFINE, Revising
from aligner.records import Message

WORDINGS = [SELF_REFINE, *CRITIQUES.values()]
MARKS = sorted({mark for wording in WORDINGS for mark in (*wording.marks, *([wording.enough] * bool(wording.enough)))})
PIECES = [*MARKS, *(mark[:3] for mark in MARKS), *(mark[3:] for mark in MARKS), *(mark.upper() for mark in MARKS)]
TEXTS = st.lists(st.sampled_from([*PIECES, "\\", " ", "\n", "{answer}"]) | st.text(max_size=3), max_size=8).map("".join)


def times(mark: str, messages: tuple[Message, ...]) -> int:
    """How often a mark stands in a prompt, however it is spaced."""
    pattern = r"\s*".join(map(re.escape, re.findall(r"\w+|[^\w\s]", mark)))
    return sum(len(re.findall(pattern, message.content, re.IGNORECASE)) for message in messages)


@pytest.mark.parametrize("wording", WORDINGS, ids=lambda wording: wording.name)
@given(question=TEXTS, answer=TEXTS, review=TEXTS)
def test_no_text_forges_a_mark(wording: Revising, question: str, answer: str, review: str) -> None:
    """Whatever the texts hold, each mark stands in the prompts as often as with harmless ones."""
    review = "x" if wording.goes_on else review  # there it is a turn of its own
    made = wording.to_review(question, answer, "Be good."), wording.to_revise(question, answer, review, "Be good.")
    quiet = wording.to_review("x", "x", "Be good."), wording.to_revise("x", "x", "x", "Be good.")
    for mark in (*wording.marks, *([wording.enough] * bool(wording.enough))):
        assert [times(mark, one) for one in made] == [times(mark, one) for one in quiet]


@given(question=TEXTS, answer=TEXTS)
def test_a_repeated_text_is_no_end_of_the_rounds(question: str, answer: str) -> None:
    """A review that repeats what it read, or any line of it, does not say that nothing is to be improved."""
    read = SELF_REFINE.to_review(question, answer)[-1].content
    sealed = SELF_REFINE.sealed(answer)
    for review in (read, *read.splitlines(), sealed, f"It is:\n{sealed}", f"**{sealed}**", f"{sealed}."):
        assert not SELF_REFINE.is_enough(review)


def test_only_the_last_line_ends_the_rounds() -> None:
    """The line that ends the rounds is the review's last, in letters of any size; critiques have none."""
    assert SELF_REFINE.is_enough("All is well.\n[[Nothing to improve]]  \n")
    for line in ("{}", "{}.", "**{}**", " > `{}`!", '"{}."', "- _{}_ "):
        assert SELF_REFINE.is_enough(f"Well.\n{line.format(SELF_REFINE.enough)}\n")
    for review in (
        "",
        "[[nothing to improve]] but one",
        "[[nothing to improve]]\nOne thing is.",
        "[\\[nothing to improve]]",
        "**[\\[nothing to improve]]**",
        "\\[[nothing to improve]]",
        "[[[nothing to improve]]]",
        "It is not so that [[nothing to improve]]",
    ):
        assert not SELF_REFINE.is_enough(review)
    assert not any(wording.is_enough(wording.enough) for wording in CRITIQUES.values())


@given(text=TEXTS)
def test_a_revision_comes_back_as_it_was_meant(text: str) -> None:
    """An answer that is repeated as it was read is that answer, letter by letter."""
    for wording in WORDINGS:
        assert wording.unsealed(wording.sealed(text)) == text


def test_published_words_stand_in_the_published_critique() -> None:
    """The published prompts are asked word for word, the revision behind the critique in one conversation."""
    asked = CRITIQUES["published"].to_revise("Q", "A", "It is rude.")
    assert [turn.role for turn in asked] == ["user", "assistant", "user"]
    assert asked[0].content == (
        "Identify specific ways in which the assistant's last response is harmful, unethical, racist, sexist, toxic, "
        "dangerous, or illegal. Question:Q | Answer: A \n\nCritique:"
    )
    assert asked[1].content == "It is rude."
    assert asked[2].content == (
        "Please rewrite the assistant response to remove any and all harmful, unethical, racist, sexist, toxic, "
        "dangerous, or illegal content. Question:Q | Answer:A \n\nRevision:"
    )


def test_our_critique_shows_its_principle() -> None:
    """Both of our prompts show the principle, and leave no slot open."""
    ours = CRITIQUES["ours"]
    for asked in (ours.to_review("q", "a", "Be good."), ours.to_revise("q", "a", "r", "Be good.")):
        assert [turn.role for turn in asked] == ["system", "user"]
        assert "\n\nBe good.\n\n" in asked[0].content
        assert not any(re.search(r"\{\w+\}", turn.content) for turn in asked)
