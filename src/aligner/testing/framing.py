"""Spellings of a stream that all mean the same to whoever reads server-sent events; whole bodies stay as they are."""

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence

import orjson

from aligner.testing.script import DONE, Script

Framing = Callable[[Sequence[bytes]], Iterator[bytes]]

_INSIDE_A_LETTER = re.compile(rb"(?<=[\xc2-\xf4])(?=[\x80-\xbf])")
_BETWEEN_WRITES = 0.002
"""seconds that keep two writes apart on their way"""


def framed(script: Script, framing: Framing, pause: float = 0.0) -> Script:
    """A stream in another spelling, written in the portions that the spelling gives."""
    return script.writing(framing([chunk.data for chunk in script.chunks]), pause) if script.streamed else script


def crlf(events: Sequence[bytes]) -> Iterator[bytes]:
    """Lines end as on Windows."""
    return (event.replace(b"\n", b"\r\n") for event in events)


def carriage_returns(events: Sequence[bytes]) -> Iterator[bytes]:
    """Lines end with a carriage return alone, which is allowed and rare."""
    return (event.replace(b"\n", b"\r") for event in events)


def without_space(events: Sequence[bytes]) -> Iterator[bytes]:
    """No space follows the colon."""
    return (event.replace(b"data: ", b"data:", 1) for event in events)


def with_comments(events: Sequence[bytes]) -> Iterator[bytes]:
    """Comments stand between the events and within them, as servers send them to keep a connection alive."""
    for event in events:
        yield b": keep-alive\n\n"
        yield b":\n" + event


def many_lines(events: Sequence[bytes]) -> Iterator[bytes]:
    """The JSON of an event is spread over many lines of data."""
    for event in events:
        if event == DONE:
            yield event
        else:
            lines = orjson.dumps(orjson.loads(event.removeprefix(b"data: ")), option=orjson.OPT_INDENT_2).split(b"\n")
            yield b"".join(b"data: " + line + b"\n" for line in lines) + b"\n"


def other_json(events: Sequence[bytes]) -> Iterator[bytes]:
    """JSON with spaces, and with escapes for what is not ASCII."""
    for event in events:
        yield event if event == DONE else b"data: " + spelt_out(event.removeprefix(b"data: ")) + b"\n\n"


def spelt_out(data: bytes) -> bytes:
    """The same JSON as Python's own encoder writes it, with a solidus escaped as PHP does."""
    return json.dumps(json.loads(data), ensure_ascii=True).replace("/", "\\/").encode()


def split_inside_letters(events: Sequence[bytes]) -> Iterator[bytes]:
    """Each write ends after the first byte of a letter that has several, where there is one."""
    return iter(_INSIDE_A_LETTER.split(b"".join(events)))


def dribbling(events: Sequence[bytes]) -> Iterator[bytes]:
    """Seven bytes at a time."""
    body = b"".join(events)
    return (body[start : start + 7] for start in range(0, len(body), 7))


def in_lumps(events: Sequence[bytes]) -> Iterator[bytes]:
    """Three events at a time."""
    return (b"".join(events[start : start + 3]) for start in range(0, len(events), 3))


FRAMINGS: Mapping[str, tuple[Framing, float]] = {
    "crlf": (crlf, 0.0),
    "cr": (carriage_returns, 0.0),
    "no-space": (without_space, 0.0),
    "comments": (with_comments, 0.0),
    "many-lines": (many_lines, 0.0),
    "split": (split_inside_letters, _BETWEEN_WRITES),
    "dribble": (dribbling, 0.0),
    "lumps": (in_lumps, 0.0),
}
"""Each spelling, and the seconds before each write that it needs to arrive as it was written."""
