"""Laws of words and languages: words know no case and no marks, and a language is told only where it can be."""

import tomllib
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aligner.data.languages import language_of, names_of, words

SENTENCES = tomllib.loads((Path(__file__).parent / "sentences.toml").read_text(encoding="utf-8"))


@pytest.mark.parametrize("language", SENTENCES)
def test_sentences_are_in_their_languages(language: str) -> None:
    """A sentence of common words is told, in small and in capital letters."""
    assert language_of(SENTENCES[language]) == language
    assert language_of(SENTENCES[language].upper()) == language
    assert names_of(language)


@pytest.mark.parametrize(
    "text", ["", "42", "x = f(y) + 1", "OK", "Paris", "!!!", "Bordeaux, Lyon, Nice, Paris, Toulouse", "😀😀😀"]
)
def test_what_cannot_be_told_is_not_guessed(text: str) -> None:
    """Figures, names and formulas are in no language."""
    assert language_of(text) is None


@given(st.text())
def test_any_text_has_words_and_perhaps_a_language(text: str) -> None:
    """Words hold letters and digits alone, and their words are themselves."""
    found = words(text)
    assert all(word and " " not in word and "_" not in word for word in found)
    assert language_of(text) is None or names_of(language_of(text) or "")


@given(
    st.lists(st.text("abcäöéßзй0123", min_size=1), max_size=8),
    st.sampled_from([", ", " ", "\n", "...", " - ", "_", "\u3000"]),
)
def test_words_know_no_case_no_marks_and_no_way_to_write_accents(given_words: list[str], between: str) -> None:
    """The same words come out of a text however they are cased, parted and composed."""
    plain = words(" ".join(given_words))
    assert words(between.join(given_words)) == plain
    assert words(between.join(given_words).upper()) == plain
    assert words(unicodedata.normalize("NFD", " ".join(given_words))) == plain


def test_apostrophes_and_what_nobody_sees_part_no_words() -> None:
    """Don't is one word with any apostrophe or none, and a soft hyphen or a zero-width space is not there."""
    assert words("don't Don\u2019t dont do\u00adnt do\u200bnt") == ["dont"] * 5
    assert words("\ufb01ne \uff26\uff49\uff4e\uff45") == ["fine"] * 2
    assert words("snake_case x-ray") == ["snake", "case", "x", "ray"]


def test_scripts_without_spaces_have_a_word_for_each_character() -> None:
    """Word runs mean something in Chinese, Japanese and Thai, too."""
    assert words("我有3只猫") == ["我", "有", "3", "只", "猫"]
