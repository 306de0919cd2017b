"""Laws of how reports show texts: all of them, exactly, and nothing of them acts."""

import re
from html import unescape

from hypothesis import given
from hypothesis import strategies as st

from aligner.evaluating.shown import cut, diff, parts, visible

LETTERS = st.characters() | st.sampled_from(" \n\t👩\u200d🔬é\u202e\u200b\u2066\x00\x1b\ufeffa.<>&\"'")
TEXTS = st.text(LETTERS, max_size=60)
HIDDEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u00ad\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff]")


@given(TEXTS, TEXTS)
def test_diffs_lose_no_character(answer: str, correction: str) -> None:
    """What is the same and what went make the answer; what is the same and what came, the correction."""
    found = parts(answer, correction)
    assert "".join(part.text for part in found if part.kind != "ins") == answer
    assert "".join(part.text for part in found if part.kind != "del") == correction
    assert all(part.text for part in found)


@given(TEXTS, TEXTS)
def test_nothing_hidden_and_no_mark_up_is_left(answer: str, correction: str) -> None:
    """The only tags are those of the diff, and each character is seen."""
    shown = str(diff(answer, correction))
    assert set(re.findall("<[^>]*>", shown)) <= {"<del>", "</del>", "<ins>", "</ins>", "<i>", "</i>"}
    assert not HIDDEN.search(shown)
    kept = unescape(re.sub("<del>.*?</del>|<[^>]*>", "", shown, flags=re.DOTALL))
    if len(correction) < 100 and correction == answer:
        assert kept == visible(correction)


def test_controls_and_directions_are_told_by_number() -> None:
    """A terminal's bell, a text that runs backwards, and half a pair; tabs and line ends stay."""
    assert visible("a\x07\x7f\u202eb\ud800\tc\n") == "a⟦U+0007⟧⟦U+007F⟧⟦U+202E⟧b⟦U+D800⟧\tc\n"


def test_blank_changes_are_seen() -> None:
    """A space that came, and a joiner that went."""
    assert str(diff("ab", "a b")) != str(diff("ab", "ab"))
    assert "<ins>␣</ins>" in str(diff("a.b", "a. b"))
    assert "<del>⟦U+200D⟧</del>" in str(diff("a.\u200d.b", "a..b"))


def test_long_texts_are_cut_and_say_so() -> None:
    """Far from a change, little is shown; and no text is shown without an end."""
    words = " ".join(f"w{number}" for number in range(3000))
    shown = str(diff(f"{words} old {words}", f"{words} new {words}"))
    assert "<del>old</del><ins>new</ins>" in shown
    assert len(shown) < 1500
    assert "the same" in shown
    assert len(str(diff("", "x" * 10**6))) < 10_000
    assert len(str(diff("y " * 10**5, "x " * 10**5))) < 10_000
    assert cut("abcdef", 3) == "abc … (3 more characters)"
