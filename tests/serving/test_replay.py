"""Laws of a corrected stream."""

import asyncio
from collections.abc import Sequence

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aligner.serving.frames import Frame, FrameReader, frame_of
from aligner.serving.replay import Correcting, CutShortError, replay
from aligner.serving.wire import Route

TEXT = st.text(alphabet="ab é😀\n", max_size=12)
PIECES = st.lists(TEXT, max_size=5)


def chunk(index: int, delta: dict[str, object], finish: str | None = None) -> dict[str, object]:
    """A chunk of a chat."""
    return {"id": "c", "choices": [{"index": index, "delta": delta, "logprobs": None, "finish_reason": finish}]}


def stream_of(answers: Sequence[Sequence[str]]) -> list[Frame]:
    """An upstream's stream, the pieces of its choices in turn."""
    events = [chunk(i, {"role": "assistant", "content": ""}) for i in range(len(answers))]
    longest = max((len(pieces) for pieces in answers), default=0)
    for place in range(longest):
        events += [chunk(i, {"content": pieces[place]}) for i, pieces in enumerate(answers) if place < len(pieces)]
    events += [chunk(i, {}, "stop") for i in range(len(answers))]
    reader = FrameReader()
    return reader.add(b"".join(frame_of(event) for event in events) + b"data: [DONE]\n\n")


async def replayed(frames: Sequence[Frame], corrections: Sequence[tuple[str, Sequence[str]]], route: Route) -> bytes:
    """The stream, while each correction comes in its pieces."""
    states = {i: Correcting(answer) for i, (answer, _) in enumerate(corrections)}

    async def write(state: Correcting, pieces: Sequence[str]) -> None:
        for piece in pieces:
            await asyncio.sleep(0)
            state.add(piece)
        await asyncio.sleep(0)
        state.end("".join(pieces))

    async with asyncio.TaskGroup() as group:
        for i, (_, pieces) in enumerate(corrections):
            group.create_task(write(states[i], pieces))
        return b"".join([part async for part in replay(route, frames, states)])


def contents(stream: bytes, choices: int) -> list[str]:
    """The text of each choice, as a client adds it up."""
    texts = [""] * choices
    for frame in FrameReader().add(stream):
        for choice in (frame.event or {}).get("choices", []):
            texts[choice["index"]] += choice["delta"].get("content") or ""
    return texts


@given(answers=st.lists(PIECES, min_size=1, max_size=3), cut=st.integers(1, 5))
def test_what_is_not_changed_is_the_upstreams_stream_byte_for_byte(answers: list[list[str]], cut: int) -> None:
    """In whatever pieces the corrections come."""
    frames, texts = stream_of(answers), ["".join(pieces) for pieces in answers]
    corrections = [(text, [text[i : i + cut] for i in range(0, len(text), cut)]) for text in texts]
    found = asyncio.run(replayed(frames, corrections, "chat"))
    assert found == b"".join(frame.raw for frame in frames)


@given(answers=st.lists(PIECES, min_size=1, max_size=3), data=st.data())
def test_a_client_adds_up_the_corrections(answers: list[list[str]], data: st.DataObject) -> None:
    """Each choice has one finish reason, after its text, and one role."""
    frames = stream_of(answers)
    corrections = [("".join(pieces), data.draw(PIECES)) for pieces in answers]
    found = asyncio.run(replayed(frames, corrections, "chat"))
    assert contents(found, len(answers)) == ["".join(pieces) for _, pieces in corrections]
    events = [frame.event for frame in FrameReader().add(found) if frame.event]
    for index in range(len(answers)):
        own = [event["choices"][0] for event in events if event["choices"][0]["index"] == index]
        assert [bool(choice["finish_reason"]) for choice in own] == [False] * (len(own) - 1) + [True]
        assert [choice["delta"].get("role") for choice in own if choice["delta"].get("role")] == ["assistant"]
    assert found.endswith(b"data: [DONE]\n\n")


def test_chunks_are_sent_as_soon_as_the_correction_has_come_so_far() -> None:
    """Nothing is held back until the end."""

    async def first() -> bytes:
        state = Correcting("one two")
        state.add("one ")
        chunks = replay("chat", stream_of([["one ", "two"]]), {0: state})
        return b"".join([await anext(chunks) for _ in range(2)])

    assert contents(asyncio.run(first()), 1) == ["one "]


def test_a_correction_that_is_taken_back_after_some_of_it_was_sent_is_an_error() -> None:
    """Deltas cannot be taken back."""

    async def taken_back() -> None:
        state = Correcting("one")
        state.add("two")
        chunks = replay("chat", stream_of([["one"]]), {0: state})
        with pytest.raises(CutShortError):
            async for part in chunks:
                if b"two" in part:
                    state.end("one")

    asyncio.run(taken_back())


def test_a_kept_answer_of_which_nothing_else_was_sent_is_the_upstreams_stream() -> None:
    """Although the Aligner had begun to write something else."""

    async def kept() -> bytes:
        state = Correcting("one")
        state.add("two")
        state.end("one")
        return b"".join([part async for part in replay("chat", frames, {0: state})])

    frames = stream_of([["one"]])
    assert asyncio.run(kept()) == b"".join(frame.raw for frame in frames)


def test_a_completion_of_text_is_replaced_in_its_own_field() -> None:
    """The older route has `text` in place of a delta."""

    async def corrected() -> bytes:
        state = Correcting("one")
        state.end("two")
        events = [{"choices": [{"index": 0, "text": "one", "finish_reason": None}]}]
        events.append({"choices": [{"index": 0, "text": "", "finish_reason": "stop"}]})
        frames = FrameReader().add(b"".join(frame_of(event) for event in events))
        return b"".join([part async for part in replay("completions", frames, {0: state})])

    found = [frame.event for frame in FrameReader().add(asyncio.run(corrected()))]
    texts = [event["choices"][0]["text"] for event in found if event]
    assert "".join(texts) == "two"
    assert orjson.dumps(found[-1]).count(b'"stop"') == 1
