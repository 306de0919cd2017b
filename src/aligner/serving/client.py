"""The client of the proxy: its request, its wire, and whether it is still there."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, MutableMapping
from contextlib import asynccontextmanager
from typing import Any

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


class Client:
    """Sends one answer; what it is given at a time is whole events, so that comments may stand between."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._lock = asyncio.Lock()
        self._last = 0.0
        self.started = self.ended = False

    async def start(self, status: int, headers: Iterable[tuple[str, str]]) -> None:
        """Send the status and the headers."""
        self.started = True
        raw = [(name.encode("latin-1"), value.encode("latin-1", errors="replace")) for name, value in headers]
        await self._send({"type": "http.response.start", "status": status, "headers": raw})

    async def write(self, data: bytes) -> None:
        """Send some of the body; waits while the client is slow."""
        async with self._lock:
            self._last = asyncio.get_running_loop().time()
            await self._send({"type": "http.response.body", "body": data, "more_body": True})

    async def end(self, data: bytes = b"") -> None:
        """Send the last of the body."""
        async with self._lock:
            self.ended = True
            await self._send({"type": "http.response.body", "body": data, "more_body": False})

    async def answer(self, status: int, headers: Iterable[tuple[str, str]], body: bytes) -> None:
        """Send a whole answer."""
        await self.start(status, [*headers, ("content-length", str(len(body)))])
        await self.end(body)

    async def refuse(self, error: WireError, headers: Iterable[tuple[str, str]] = ()) -> None:
        """Send an error, as a status or, in a stream that has begun, as its last event."""
        if self.started:
            await self.end(error.frame)
        else:
            await self.answer(error.status, [*JSON, *headers, *error.headers], error.body)

    @asynccontextmanager
    async def kept_alive(self, seconds: float) -> AsyncGenerator[None, None]:
        """Send a comment whenever nothing was sent for so long."""

        async def beat() -> None:
            loop = asyncio.get_running_loop()
            while True:
                await asyncio.sleep(max(self._last + seconds - loop.time(), 0.01))
                if self.started and loop.time() - self._last >= seconds:
                    await self.write(HEARTBEAT)

        self._last = asyncio.get_running_loop().time()
        beating = asyncio.create_task(beat())
        try:
            yield
        finally:
            beating.cancel()
            await asyncio.wait([beating])


async def read_body(receive: Receive, *, declared: str | None, largest: int) -> bytes:
    """The whole body of a request; raises WireError, 413, before more than `largest` bytes are read."""
    too_large = WireError(413, f"the request is larger than {largest:,} bytes", "request_too_large")
    if declared is not None and declared.isdecimal() and int(declared) > largest:
        raise too_large
    parts, size, more = list[bytes](), 0, True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ConnectionAbortedError
        parts.append(message.get("body", b""))
        size, more = size + len(parts[-1]), bool(message.get("more_body"))
        if size > largest:
            raise too_large
    return b"".join(parts)


async def while_connected(work: Awaitable[None], receive: Receive) -> bool:
    """Do some work, and cancel it as soon as the client goes away; whether it was done.

    Only this reads from the client once the body is there: who else did so would take away the message.
    """
    task, gone = asyncio.ensure_future(work), asyncio.create_task(_disconnected(receive))
    try:
        await asyncio.wait([task, gone], return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            return False
        task.result()
        return True
    finally:
        for other in (task, gone):
            other.cancel()
        await asyncio.gather(task, gone, return_exceptions=True)


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
