"""Laws of the edits between two texts."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aligner.records import Edit, apply_edits
from aligner.scoring.edits import edits_between

WORDS = st.lists(st.sampled_from(["a", "is", "The", " ", "  ", "\n", "é", "e\u0301", "🙂", ".", "_", "\x1c", "٣"])).map(
    "".join
)
TEXTS = st.text() | WORDS


@given(TEXTS, TEXTS)
def test_edits_make_the_text_of_the_answer(answer: str, text: str) -> None:
    """Applying the edits between an answer and any text gives that text."""
    assert apply_edits(answer, edits_between(answer, text)) == text


@given(TEXTS, TEXTS)
def test_edits_are_ordered_and_apart(answer: str, text: str) -> None:
    """Edits lie within the answer, change something, and have text that stays between them."""
    edits = edits_between(answer, text)
    assert all(0 <= start <= end <= len(answer) and answer[start:end] != new for start, end, new in edits)
    assert all(before.end < after.start for before, after in pairwise(edits))


@given(TEXTS)
def test_a_text_needs_no_edits_to_be_itself(text: str) -> None:
    """Between equal texts there are no edits."""
    assert edits_between(text, text) == ()


@pytest.mark.parametrize(
    ("answer", "text", "edits"),
    [
        ("The capital is Lyon.", "The capital is Paris.", [Edit(15, 19, "Paris")]),
        ("It is blue.", "It is dark blue.", [Edit(6, 6, "dark ")]),
        ("Well, no.", "No.", [Edit(0, 8, "No")]),
        ("", "New.", [Edit(0, 0, "New.")]),
        ("Old.", "", [Edit(0, 4, "")]),
    ],
)
def test_whole_words_are_replaced(answer: str, text: str, edits: list[Edit]) -> None:
    """An edit never begins or ends within a word, and what touches is one edit."""
    assert list(edits_between(answer, text)) == edits
