"""What a scripted upstream is asked, and what it answers: bytes, pauses, and how it ends."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, cast

import orjson

Headers = tuple[tuple[str, str], ...]
Ending = Literal["end", "cut", "stall"]

HEADERS: Headers = (
    ("x-request-id", "req_scripted"),
    ("openai-version", "2020-10-01"),
    ("x-ratelimit-remaining-requests", "99"),
)
STREAM_HEADERS: Headers = (
    ("content-type", "text/event-stream; charset=utf-8"),
    ("cache-control", "no-cache, no-transform"),
    ("x-accel-buffering", "no"),
    *HEADERS,
)
DONE = b"data: [DONE]\n\n"


@dataclass(frozen=True, slots=True)
class Asked:
    """A request as it came."""

    method: str
    path: str
    query: str
    headers: Mapping[str, str]
    """names in lower case"""
    body: bytes

    @property
    def payload(self) -> Mapping[str, Any]:
        """The body where it is a JSON object, or else an empty one."""
        try:
            value: object = orjson.loads(self.body)
        except orjson.JSONDecodeError:
            return {}
        return cast("Mapping[str, Any]", value) if isinstance(value, dict) else {}


@dataclass(frozen=True, slots=True)
class Chunk:
    """Bytes that are written at once, after a pause in seconds."""

    data: bytes
    pause: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Script:
    """What an upstream does with a request."""

    status: int = 200
    headers: Headers = ()
    chunks: tuple[Chunk, ...] = ()
    ending: Ending = "end"
    """after the last chunk the body ends, or the socket is closed without an end, or nothing comes any more"""
    head: bool = True
    """whether anything is sent before the ending; without it, there are no status, headers and chunks either"""
    wait: float = 0.0
    """seconds before the head"""

    @property
    def body(self) -> bytes:
        """All bytes of the body."""
        return b"".join(chunk.data for chunk in self.chunks)

    @property
    def streamed(self) -> bool:
        """Whether it sends server-sent events."""
        return dict(self.headers).get("content-type", "").startswith("text/event-stream")

    def writing(self, writes: Iterable[bytes], pause: float = 0.0) -> "Script":
        """The same with the body written in these portions, with a pause before each."""
        return replace(self, chunks=tuple(Chunk(data, pause) for data in writes))

    def at_rate(self, rate: float) -> "Script":
        """The same with so many chunks a second."""
        return self.writing((chunk.data for chunk in self.chunks), 1 / rate)


Answering = Callable[[Asked], Script]


def whole(data: bytes, status: int = 200, *, content_type: str = "application/json", headers: Headers = ()) -> Script:
    """A script that sends one body of known length."""
    head = (("content-type", content_type), ("content-length", str(len(data))), *HEADERS, *headers)
    return Script(status=status, headers=head, chunks=(Chunk(data),))


def json_body(value: object, status: int = 200, *, headers: Headers = ()) -> Script:
    """A script that sends a value as JSON."""
    return whole(orjson.dumps(value), status, headers=headers)


def stream(events: Iterable[object], *, last: bytes = DONE) -> Script:
    """A script that sends server-sent events, one write for each, and then the bytes in `last`."""
    writes = [*map(event, events), *([last] if last else [])]
    return Script(headers=STREAM_HEADERS).writing(writes)


def event(data: object) -> bytes:
    """A server-sent event of a value as JSON."""
    return b"data: " + orjson.dumps(data) + b"\n\n"


def refusal(
    status: int,
    message: str,
    code: str | None = None,
    *,
    kind: str = "invalid_request_error",
    param: str | None = None,
    headers: Headers = (),
) -> Script:
    """A script that answers with an error in OpenAI's shape."""
    return json_body({"error": error(message, code, kind=kind, param=param)}, status, headers=headers)


def error(message: str, code: str | None = None, *, kind: str = "server_error", param: str | None = None) -> object:
    """What stands under `error`."""
    return {"message": message, "type": kind, "param": param, "code": code}


def always(script: Script) -> Answering:
    """One script for every request."""
    return lambda _: script


def in_turn(*scripts: Script) -> Answering:
    """One script after the other, and the last of them from then on."""
    left = list(scripts)
    return lambda _: left.pop(0) if len(left) > 1 else left[0]
