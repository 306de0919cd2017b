"""Laws of text that comes piece by piece: the pieces add up to the text."""

from hypothesis import given
from hypothesis import strategies as st

from aligner.models.pieces import StopCutter, TokenText, words

AB = st.text("ab", max_size=8)


@given(st.text())
def test_words_add_up_to_the_text(text: str) -> None:
    """No white space is lost between words."""
    assert "".join(words(text)) == text


@given(st.binary())
def test_tokens_add_up_to_the_decoded_text(data: bytes) -> None:
    """Tokens of one byte each give the text of all bytes, also where these are no characters."""
    text = TokenText(lambda ids: bytes(ids).decode(errors="replace"))
    pieces = [text.add(byte) for byte in data]
    assert "".join([*pieces, text.rest()]) == data.decode(errors="replace")


@given(st.text(), st.lists(st.integers(0, 30)))
def test_many_tokens_at_once_are_their_text(written: str, sizes: list[int]) -> None:
    """However many come together, the text is the same, and no character comes in halves."""
    text, data = TokenText(lambda ids: bytes(ids).decode(errors="replace")), written.encode()
    given_out = ""
    for size in [*sizes, len(data)]:
        piece, data = text.add(*data[:size]), data[size:]
        assert "\ufffd" not in piece or "\ufffd" in written
        given_out += piece
    assert given_out + text.rest() == written


@given(st.text(st.characters(exclude_characters="\ufffd", exclude_categories=["Cs"])))
def test_no_piece_holds_half_a_character(written: str) -> None:
    """A character is given out with its last byte."""
    text = TokenText(lambda ids: bytes(ids).decode(errors="replace"))
    assert "".join(text.add(byte) for byte in written.encode()) == written
    assert text.rest() == ""


@given(st.lists(AB), st.lists(AB, max_size=3))
def test_a_text_ends_before_the_first_stop_string(pieces: list[str], stop: list[str]) -> None:
    """However the text is cut into pieces, it ends before the stop string that is whole first."""
    cutter = StopCutter(stop)
    given_out = "".join([*(cutter.add(piece) for piece in pieces), cutter.rest()])
    text = "".join(pieces)
    whole = [(end, -len(s)) for end in range(len(text) + 1) for s in stop if s and text[:end].endswith(s)]
    end, start = min(whole, default=(len(text), 0))
    assert given_out == text[: end + start]
    assert cutter.stopped == bool(whole)


def test_only_what_may_begin_a_stop_string_is_held_back() -> None:
    """Text is given out as early as it can be."""
    cutter = StopCutter(["\nUser:"])
    assert [cutter.add(piece) for piece in ["Hi", "\n", "Use", "ful", "\nUser: x", "y"]] == [
        "Hi",
        "",
        "",
        "\nUseful",
        "",
        "",
    ]
    assert cutter.rest() == ""
