"""The letter that an answer settles on is read, in whatever words it comes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aligner.tasks.letters import letter_of

CHOICES = ("Dyslexia", "Epilepsy", "Hydrocephalus", "Narcolepsy")

SAID = (
    ("B", "B"),
    ("B.", "B"),
    ("(b)", ""),
    ("Answer: B", "B"),
    ("answer: b", "B"),
    ("**Answer: B**", "B"),
    ("Answer: **B. Epilepsy**", "B"),
    ("The answer is (C).", "C"),
    ("The correct answer is: C) Hydrocephalus", "C"),
    ("Therefore, the best choice would be option D.", "D"),
    (r"So we get $\boxed{D}$.", "D"),
    (r"\boxed{\text{D}}", "D"),
    ("D. Narcolepsy is the disorder of uncontrollable sleep.", "D"),
    ("I would go with C, since water is involved.", "C"),
    ("A is tempting, but B is correct.", "B"),
    ("Option (B) is the best answer; A is wrong.", "B"),
    ("At first I thought the answer is A. But wait: seizures matter here, so it's actually B.", "B"),
    ("The answer is A.\n\nOn reflection, that was a mistake.\n\nAnswer: C", "C"),
    ("A. Dyslexia: no.\nB. Epilepsy: no.\nC. Hydrocephalus: no.\nD. Narcolepsy: yes.\n\nAnswer: D", "D"),
    ("A patient who falls asleep has a disorder of sleep. That is narcolepsy.", "D"),
    ("It is a matter of sleep (D).", "D"),
    ("I think, I am, and I do not know.", ""),
    ("A disorder, and I cannot say which.", ""),
    ("The answer is not clear from what is given.", ""),
    ("The answer is a rare disorder.", ""),
    ("Answer: E", ""),
    ("Could be dyslexia or epilepsy.", ""),
    ("", ""),
)


@pytest.mark.parametrize(("answer", "letter"), SAID)
def test_the_letter_that_is_settled_on_is_read(answer: str, letter: str) -> None:
    """Plain, bold, boxed, in brackets, in a sentence, after a change of mind, or by the words of a choice."""
    assert letter_of(answer, CHOICES) == letter


@given(st.text(), st.sampled_from("ABCD"))
def test_what_is_asked_for_is_read_behind_any_text(text: str, letter: str) -> None:
    """Any words may come before the line that the question asks for, and change nothing."""
    assert letter_of(f"{text}\nAnswer: {letter}", CHOICES) == letter


@given(st.text(), st.lists(st.text(), min_size=2, max_size=12))
def test_any_text_is_read(text: str, choices: list[str]) -> None:
    """Whatever is said, the result is one letter of a choice, or none."""
    assert letter_of(text, choices) in {"", *"ABCDEFGHIJKL"[: len(choices)]}
