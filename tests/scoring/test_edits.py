"""Laws of the edits between two texts."""

import time
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


BOUNDS = st.integers(0, 100) | st.just(10**9)


@given(TEXTS, TEXTS, BOUNDS)
def test_edits_make_the_text_of_the_answer(answer: str, text: str, most: int) -> None:
    """Applying the edits between an answer and any text gives that text, however few words may be compared."""
    assert apply_edits(answer, edits_between(answer, text, most=most)) == text


@given(TEXTS, TEXTS, BOUNDS)
def test_edits_are_ordered_and_apart(answer: str, text: str, most: int) -> None:
    """Edits lie within the answer, change something, and have text that stays between them."""
    edits = edits_between(answer, text, most=most)
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


def test_long_texts_are_compared_by_their_sentences_first() -> None:
    """One changed word in each of many sentences; what differs all through is one edit, and takes no time."""
    answer = "".join(f"Sentence {number} is here. " for number in range(10_000))
    text = answer.replace("1 is", "1 was")
    edits = edits_between(answer, text, most=10**8)
    assert apply_edits(answer, edits) == text
    assert (len(edits), {edit.text for edit in edits}) == (1000, {"was"})
    began = time.perf_counter()
    assert edits_between("a " * 500_000, "b " * 500_000) == (Edit(0, 999_999, "b " * 499_999 + "b"),)
    assert time.perf_counter() - began < 20
