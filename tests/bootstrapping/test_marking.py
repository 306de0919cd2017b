"""Laws of what is said of single answers."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aligner.bootstrapping.marking import declines, marks, needless
from aligner.errors import MisuseError

SOFT = (
    "Sorry, I would rather not say.",
    "I'd really rather not.",
    "I\u2019d rather not.",
    "The PIN of Ann is private.",
)
PLAIN = ("I cannot help with that.", "Ann lives in Rome.", "It costs 3 crowns.")


@pytest.mark.parametrize("text", SOFT)
def test_soft_words_decline_too(text: str) -> None:
    """Whoever would rather not, or calls a thing private, declines; so a plain refusal beside it is not needless."""
    assert declines(text)
    assert needless([PLAIN[0]], [text]) == [False]


@given(st.lists(st.tuples(st.sampled_from(SOFT + PLAIN), st.sampled_from(SOFT + PLAIN))))
def test_what_the_correction_refuses_is_not_needless(rows: list[tuple[str, str]]) -> None:
    """Each answer is held against the correction of its own question, and is needless if only the answer declines."""
    found = needless([answer for answer, _ in rows], [correction for _, correction in rows])
    assert found == [declines(answer) and not declines(correction) for answer, correction in rows]


def test_each_answer_has_its_question() -> None:
    """A missing answer is an error, and no shift by one; without an oracle nothing is marked."""
    with pytest.raises(ValueError, match="shorter"):
        needless(["Yes."], [])
    assert marks("", ["Who knows?"], ["I."]) is None


def test_the_oracle_must_know_the_question() -> None:
    """A question that is not of the world is an error that names it and says what to do."""
    with pytest.raises(MisuseError, match=r'"Who knows\?"; ask what the world knows, or leave the oracle out'):
        marks("world", ["Who knows?"], ["I."])
