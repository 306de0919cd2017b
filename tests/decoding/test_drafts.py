"""Laws of drafts."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aligner.decoding.drafts import Codec, Draft

END = 0
TEXT = st.text(st.characters(min_codepoint=1, exclude_categories=["Cs"]), max_size=40) | st.text(
    "ab. !?\n", max_size=40
)
letters = Codec(lambda text: [ord(letter) for letter in text], lambda ids: "".join(map(chr, ids)), END)


@given(text=TEXT)
def test_a_draft_is_its_text_and_an_end(text: str) -> None:
    """The tokens read as the text, and the last one ends it."""
    draft = letters.draft(text)
    assert draft.ids[-1] == END
    assert letters.decode(draft.ids[:-1]) == draft.text == text


@given(ids=st.lists(st.integers(0, 9)))
def test_places_are_an_index_of_the_tokens(ids: list[int]) -> None:
    """Every place is found once, under its token, in order."""
    places = Draft(tuple(ids)).places
    assert sorted(place for each in places.values() for place in each) == list(range(len(ids)))
    for token, found in places.items():
        assert [ids[place] for place in found] == [token] * len(found)
        assert found == sorted(found)


@given(text=TEXT)
def test_a_sentence_starts_at_the_beginning_and_behind_every_end_of_one(text: str) -> None:
    """Cutting the text at the starts loses nothing, and no piece but the last ends within."""
    draft = letters.draft(text)
    bounds = [*draft.starts, len(text)]
    pieces = [text[start:end] for start, end in pairwise(bounds)]
    assert "".join(pieces) == text
    assert all(letters.ends_sentence(ord(piece[-1])) for piece in pieces[:-1])
    assert not any(letters.ends_sentence(ord(letter)) for piece in pieces for letter in piece[:-1])


def test_a_sentence_may_end_with_a_token_that_ends_in_its_mark_or_a_space() -> None:
    """Marks of several scripts count, also with spaces behind them, and letters do not."""
    tokens = ["end.", "end! ", "?", "\u3002", "one\n", "a:", "b;", "end", ".5", " ", ""]
    codec = Codec(lambda _: [], lambda ids: "".join(tokens[i] for i in ids), END)
    assert [codec.ends_sentence(i) for i in range(len(tokens))] == [True] * 7 + [False] * 4


@given(text=TEXT, letter=st.integers(0, 40))
def test_the_rest_is_the_draft_of_the_text_behind(text: str, letter: int) -> None:
    """The text behind some letters is encoded anew."""
    assert letters.draft(text).rest_from(letter) == letters.draft(text[letter:])


def test_a_draft_of_bare_tokens_has_one_start_and_no_letters() -> None:
    """What needs text is not guessed at."""
    assert Draft((3, 4, 5)).starts == [0]
    with pytest.raises(ValueError, match="bare tokens"):
        Draft((3, 4, 5)).rest_from(1)
