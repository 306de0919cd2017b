"""The client of the proxy: its request, its wire, and whether it is still there."""

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterable, MutableMapping
from contextlib import asynccontextmanager
from typing import Any, cast

from aligner.serving.frames import HEARTBEAT
from aligner.serving.wire import WireError

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

EVENT_STREAM = (
    ("content-type", "text/event-stream; charset=utf-8"),
    ("cache-control", "no-cache, no-transform"),
    ("x-accel-buffering", "no"),
)
JSON = (("content-type", "application/json"),)
_SECONDS_FOR_A_PIECE = 30.0
"""for the next piece of a request's body"""
_EVENT_ENDS = (b"\n\n", b"\r\r", b"\n\r\n", b"\r\n\n")


class Client:
    """Sends one answer; what it is given at a time is whole events, so that comments may stand between."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._last = 0.0
        self._tail = b"\n\n"
        self._sends_events = False
        self.started = self.ended = False
        self.first: float | None = None
        """when the first of the body was sent, in seconds of `time.perf_counter`"""

    async def start(self, status: int, headers: Iterable[tuple[str, str]]) -> None:
        """Send the status and the headers."""
        self.started = True
        raw = [(name.encode("latin-1"), value.encode("latin-1", errors="replace")) for name, value in headers]
        self._sends_events = any(name == b"content-type" and b"event-stream" in value for name, value in raw)
        await self._send({"type": "http.response.start", "status": status, "headers": raw})

    async def write(self, data: bytes) -> None:
        """Send some of the body; waits while the client is slow."""
        self._last, self._tail = time.monotonic(), data[-4:]
        self.first = self.first or time.perf_counter()
        await self._send({"type": "http.response.body", "body": data, "more_body": True})

    async def end(self, data: bytes = b"") -> None:
        """Send the last of the body."""
        self.ended, self.first = True, self.first or time.perf_counter()
        await self._send({"type": "http.response.body", "body": data, "more_body": False})

    async def answer(self, status: int, headers: Iterable[tuple[str, str]], body: bytes) -> None:
        """Send a whole answer."""
        await self.start(status, [*headers, ("content-length", str(len(body)))])
        await self.end(body)

    async def refuse(self, error: WireError, headers: Iterable[tuple[str, str]] = ()) -> None:
        """Send an error: as a status, or as the last event of a stream that has begun.

        Any other body that has begun stays without its end, so that nobody takes it for the whole.
        """
        if not self.started:
            await self.answer(error.status, [*JSON, *headers, *error.headers], error.body)
        elif self._sends_events and not self.ended:
            await self.end((b"" if self._tail.endswith(_EVENT_ENDS) else b"\n\n") + error.frame)

    @asynccontextmanager
    async def kept_alive(self, seconds: float) -> AsyncGenerator[None, None]:
        """Send a comment whenever nothing was sent for so long."""

        async def beat() -> None:
            while True:
                await asyncio.sleep(max(self._last + seconds - time.monotonic(), 0.01))
                if self.started and time.monotonic() - self._last >= seconds:
                    await self.write(HEARTBEAT)

        self._last = time.monotonic()
        beating = asyncio.create_task(beat())
        try:
            yield
        finally:
            beating.cancel()
            await asyncio.wait([beating])


class Incoming:
    """The body of a request in the pieces that come, and after it whether the client is still there."""

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._whole = asyncio.Event()

    async def pieces(self) -> AsyncIterator[bytes]:
        """The body; raises ConnectionAbortedError where the client goes away, and WireError, 408, where it waits."""
        more = True
        try:
            while more:
                piece, more = await _piece(self._receive)
                yield piece
        finally:
            self._whole.set()

    async def rest(self) -> Message:
        """What the client does once it has sent all of it."""
        await self._whole.wait()
        return await self._receive()


async def read_body(receive: Receive, *, declared: str | None, largest: int) -> bytes:
    """The whole body of a request; raises WireError, 413, before more than `largest` bytes are read, and 408."""
    too_large = WireError(413, f"the request is larger than {largest:,} bytes", "request_too_large")
    if declared is not None and declared.isdecimal() and int(declared) > largest:
        raise too_large
    parts, size, more = list[bytes](), 0, True
    while more:
        piece, more = await _piece(receive)
        parts.append(piece)
        size += len(piece)
        if size > largest:
            raise too_large
    return b"".join(parts)


async def _piece(receive: Receive) -> tuple[bytes, bool]:
    """Some of a body, and whether there is more."""
    try:
        async with asyncio.timeout(_SECONDS_FOR_A_PIECE):
            message = await receive()
    except TimeoutError:
        raise WireError(408, "the rest of the request did not come in time", "request_timeout") from None
    if message["type"] == "http.disconnect":
        raise ConnectionAbortedError
    return message.get("body", b""), bool(message.get("more_body"))


async def while_connected(work: Awaitable[None], receive: Receive) -> bool:
    """Do some work, and cancel it as soon as the client goes away; whether it was done.

    Only this reads from the client once the body is there: who else did so would take away the message.
    """
    mine, gone = cast("asyncio.Task[Any]", asyncio.current_task()), False

    async def watch() -> None:
        nonlocal gone
        while (await receive())["type"] != "http.disconnect":
            pass
        gone = True
        mine.cancel()

    watching = asyncio.create_task(watch())
    try:
        await work
    except asyncio.CancelledError:
        if gone and mine.uncancel() == 0:
            return False
        raise
    finally:
        watching.cancel()
    return True
