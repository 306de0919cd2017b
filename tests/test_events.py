"""Laws of server-sent events: the data is the same however the bytes are cut, and whatever ends the lines."""

from hypothesis import given
from hypothesis import strategies as st

from aligner.events import EventReader

# Lines end at these three only; `str.splitlines` knows more.
DATA = st.text(st.characters(exclude_characters="\r\n", exclude_categories=["Cs"]))


def read(chunks: list[bytes]) -> list[str]:
    reader = EventReader()
    return [data for chunk in chunks for data in reader.add(chunk)] + reader.rest()


@given(st.lists(st.lists(DATA, min_size=1)), st.sampled_from(["\n", "\r", "\r\n"]), st.data())
def test_any_cut_of_the_bytes_gives_the_same_data(events: list[list[str]], end: str, draw: st.DataObject) -> None:
    """Several lines of data are one event, and neither chunk borders nor line ends change it."""
    text = "".join("".join(f"data: {line}{end}" for line in lines) + end for lines in events)
    whole = text.encode()
    cuts = sorted(draw.draw(st.lists(st.integers(0, len(whole)))))
    chunks = [whole[start:stop] for start, stop in zip([0, *cuts], [*cuts, len(whole)], strict=True)]
    assert read(chunks) == ["\n".join(lines) for lines in events]


def test_comments_names_and_empty_events_are_no_data() -> None:
    """Only `data` lines count; one space after the colon is not part of them."""
    lines = b": hello\n\nevent: x\nid: 1\n\n\n\ndata:no space\n: inside\n\ndata:  two\n\ndata\n\nother: y\n\n"
    assert read([lines]) == ["no space", " two", ""]


def test_a_byte_order_mark_is_skipped_at_the_start_only() -> None:
    """The mark before the first line is no part of its name."""
    assert read([b"\xef\xbb", b"\xbfdata: a\n\n\xef\xbb\xbfdata: b\n\n"]) == ["a"]


def test_the_last_event_needs_no_empty_line() -> None:
    """Bytes that end inside an event give out what it has."""
    assert read([b"data: a\n\ndata: b\n"]) == ["a", "b"]
    assert read([b"data: a\n\ndata: b"]) == ["a", "b"]
    assert read([b"data: a\r"]) == ["a"]


def test_bytes_that_are_no_utf8_are_replaced() -> None:
    """A broken character does not end the stream."""
    assert read([b"data: a\xffb\n\n"]) == ["a\ufffdb"]
