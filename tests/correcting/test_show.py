"""Laws of showing a correction."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aligner.correcting.show import diff, show_correction
from aligner.errors import visible
from aligner.records import Correction, Exchange
from aligner.scoring.edits import edits_between


def correction(answer: str, text: str, kept_reason: str | None = None) -> Correction:
    """A correction with its edits."""
    return Correction(
        exchange=Exchange("q", answer), text=text, edits=edits_between(answer, text), kept_reason=kept_reason
    )


@given(st.text(), st.text())
def test_both_texts_can_be_read_off_the_diff(answer: str, text: str) -> None:
    """Without what went in the diff is the text, and without what came it is the answer."""
    shown = diff(correction(answer, text))
    old, new, position = "", "", 0
    for span in sorted(shown.spans):
        same, changed = shown.plain[position : span.start], shown.plain[span.start : span.end][2:-2]
        old, new = old + same, new + same
        old, new = (old + changed, new) if span.style == "red strike" else (old, new + changed)
        position = span.end
    assert (old + shown.plain[position:], new + shown.plain[position:]) == (visible(answer), visible(text))


def test_the_diff_can_be_read_without_colours(capsys: pytest.CaptureFixture[str]) -> None:
    """Words that went and came stand in brackets, and what looks like markup is text."""
    show_correction(correction("It is [red]Lyon[/red].", "It is surely [red]Paris[/red]."))
    assert capsys.readouterr() == ("It is {+surely +}[red][-Lyon-]{+Paris+}[/red].\n", "")


@given(st.text())
def test_no_control_character_reaches_the_terminal(text: str) -> None:
    """A text cannot move the cursor or change colours: only line ends and tabs are left as they are."""
    assert all(unicodedata.category(letter) != "Cc" or letter in "\n\t" for letter in visible(text))
    assert visible("\x1b[31m\r\x9b") == "␛[31m␍\ufffd"
    assert visible(visible(text)) == visible(text)


def test_a_long_line_stays_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing is wrapped: what is printed can be copied."""
    text = "word " * 200
    show_correction(correction(text, text))
    assert capsys.readouterr().out == f"{text}\n"


def test_a_kept_answer_says_why(capsys: pytest.CaptureFixture[str]) -> None:
    """The answer goes to standard output, and the reason to standard error."""
    show_correction(correction("As it was.", "As it was.", "the correction was [empty]"))
    assert capsys.readouterr() == ("As it was.\n", "The original stays: the correction was [empty].\n")
