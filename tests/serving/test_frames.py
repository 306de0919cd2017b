"""Laws of the upstream's events as bytes."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from aligner.serving.frames import FrameReader, frame_of

LINES = st.sampled_from(
    [
        b"data: {}",
        b'data:{"a":"\xe2\x80\xa8"}',
        b": comment",
        b"data: [DONE]",
        b"event: x",
        b"",
        b"data: \xf0\x9f\x98\x80",
    ]
)
STREAMS = st.lists(st.tuples(LINES, st.sampled_from([b"\n", b"\r\n", b"\r"])), max_size=12).map(
    lambda lines: b"".join(line + end for line, end in lines)
)


@given(stream=st.one_of(STREAMS, st.binary(max_size=60)), cuts=st.lists(st.integers(0, 200), max_size=6))
def test_frames_put_together_are_the_bytes(stream: bytes, cuts: list[int]) -> None:
    """However the bytes are cut, and whatever they are."""
    reader, places = FrameReader(), sorted({0, *(cut for cut in cuts if cut < len(stream)), len(stream)})
    frames = [frame for start, end in pairwise(places) for frame in reader.add(stream[start:end])]
    assert b"".join(frame.raw for frame in [*frames, *reader.rest()]) == stream


@given(stream=STREAMS, cuts=st.lists(st.integers(0, 200), max_size=6))
def test_the_frames_do_not_depend_on_the_cuts(stream: bytes, cuts: list[int]) -> None:
    """The same events come of the same bytes, in whatever chunks."""
    whole = FrameReader()
    expected = [frame.data for frame in [*whole.add(stream), *whole.rest()] if frame.data is not None]
    reader, places = FrameReader(), sorted({0, *(cut for cut in cuts if cut < len(stream)), len(stream)})
    found = [frame for start, end in pairwise(places) for frame in reader.add(stream[start:end])]
    assert [frame.data for frame in [*found, *reader.rest()] if frame.data is not None] == expected


def test_an_event_of_ours_is_read_as_it_was_meant() -> None:
    """Also with a line separator of Unicode in it."""
    (frame,) = FrameReader().add(frame_of({"a": "x\u2028y"}))
    assert frame.event == {"a": "x\u2028y"}
