"""The events of an upstream's stream as the bytes that they came in, so that they can be sent on unchanged."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

import orjson

from aligner.events import EventReader
from aligner.serving.wire import Json, written

_LINE_END = rb"(?:\r\n|\n|\r(?!\n))"
_EVENT_END = re.compile(_LINE_END + _LINE_END)
HEARTBEAT = b": aligner\n\n"
"""a comment, which every client ignores"""


@dataclass(frozen=True, slots=True)
class Frame:
    """One event, or a comment, with the empty line that ends it."""

    raw: bytes
    data: str | None
    """None for a comment"""
    event: Json | None
    """the object in it, if it holds one"""

    @property
    def is_end(self) -> bool:
        """Whether this is the last event."""
        return self.data is not None and self.data.strip() == "[DONE]"

    @property
    def is_error(self) -> bool:
        """Whether the upstream reports an error instead of a chunk."""
        return self.event is not None and bool(self.event.get("error")) and not self.event.get("choices")


END = Frame(b"data: [DONE]\n\n", "[DONE]", None)


class FrameReader:
    """Cuts bytes that come in any chunks into frames; put together again they are the bytes."""

    def __init__(self, largest: int = 2**20) -> None:
        self._bytes = b""
        self._largest = largest

    def add(self, chunk: bytes) -> list[Frame]:
        """The frames that this chunk completes; raises ValueError for an event beyond the largest size."""
        self._bytes += chunk
        frames: list[Frame] = []
        start = 0
        for match in _EVENT_END.finditer(self._bytes):
            # A carriage return at the very end may be the first half of a line end.
            if match.end() == len(self._bytes) and match.group().endswith(b"\r"):
                break
            frames.append(_frame(self._bytes[start : match.end()]))
            start = match.end()
        self._bytes = self._bytes[start:]
        if len(self._bytes) > self._largest:
            raise ValueError(f"an event of more than {self._largest:,} bytes")
        return frames

    def rest(self) -> list[Frame]:
        """What is left when no more bytes come; some servers leave out the last empty line."""
        raw, self._bytes = self._bytes, b""
        return [_frame(raw)] if raw else []


def frame_of(event: Mapping[str, Any]) -> bytes:
    """An event of our own."""
    return b"data: " + written(event) + b"\n\n"


def _frame(raw: bytes) -> Frame:
    reader = EventReader()
    data = [*reader.add(raw), *reader.rest()]
    return Frame(raw, data[0] if data else None, _json(data[0]) if data else None)


def _json(data: str) -> Json | None:
    try:
        found: object = orjson.loads(data)
    except orjson.JSONDecodeError:
        return None
    return cast("Json", found) if isinstance(found, dict) else None
