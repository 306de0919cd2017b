"""A server of an OpenAI-compatible model that answers by script, notes what it is asked, and sees clients leave."""

import asyncio
import socket
import time
from collections import deque
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import Any, cast

import uvicorn
from starlette.requests import ClientDisconnect, Request
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from aligner.testing.answering import by_model
from aligner.testing.script import Answering, Asked, Chunk, Script, json_body

CALLS = "/calls"
"""Where a scripted upstream tells, as JSON, what it was asked: for whoever runs it in a process of its own."""


@dataclass(slots=True, eq=False)
class Call:
    """A request, and what becomes of it; times are those of `time.monotonic`."""

    asked: Asked
    began: float
    gone: float | None = None
    """when the client went away before the answer's end, if it did"""
    over: asyncio.Event = field(default_factory=asyncio.Event, repr=False)
    """set when the script has come to its end or the client has gone"""


class Upstream:
    """An ASGI application that answers every request by a script; the default takes scripts by the model's name.

    Scripts that cut the connection need the server that `serving` runs.
    """

    def __init__(self, answering: Answering | None = None, *, keep: int = 10_000) -> None:
        self.calls: deque[Call] = deque(maxlen=keep)
        """the last so many requests, in the order in which they came"""
        self.count = 0
        """all requests"""
        self._answering = answering or by_model()
        self._came = asyncio.Condition()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            return
        request = Request(scope, receive)
        try:
            asked = await _read(request)
        except ClientDisconnect:
            return
        if asked.path == CALLS:
            await _Playing(json_body([_told(call) for call in self.calls]), request, send).play()
            return
        call = Call(asked, time.monotonic())
        await self._note(call)
        try:
            call.gone = await _Playing(self._answering(asked), request, send).play()
        finally:
            call.over.set()

    async def call(self, number: int = 1) -> Call:
        """The request of that number, counted from 1, as soon as it is there."""
        async with self._came:
            await self._came.wait_for(lambda: self.count >= number)
        return self.calls[number - 1 - self.count]

    async def _note(self, call: Call) -> None:
        async with self._came:
            self.calls.append(call)
            self.count += 1
            self._came.notify_all()


class _Playing:
    """One script on its way to one client."""

    def __init__(self, script: Script, request: Request, send: Send) -> None:
        self._script, self._request, self._send = script, request, send
        self._leaving = asyncio.create_task(_left(request))

    async def play(self) -> float | None:
        """Play the script to its end; returns when the client went away before that."""
        try:
            return await self._until_gone()
        finally:
            self._leaving.cancel()

    async def _until_gone(self) -> float | None:
        script = self._script
        if script.head and not await self._head_and_chunks():
            return time.monotonic()
        if script.ending == "stall":
            await asyncio.wait({self._leaving})
            return time.monotonic()
        if script.ending == "cut":
            self._request.state.transport.close()  # after what is still in its buffer
            await asyncio.wait({self._leaving})
        return None

    async def _head_and_chunks(self) -> bool:
        script = self._script
        if not await self._stays(script.wait):
            return False
        headers = [(name.encode(), value.encode()) for name, value in script.headers]
        await self._send({"type": "http.response.start", "status": script.status, "headers": headers})
        chunks = script.chunks or (Chunk(b""),)
        for left, chunk in zip(range(len(chunks) - 1, -1, -1), chunks, strict=True):
            if not await self._stays(chunk.pause):
                return False
            more = left > 0 or script.ending != "end"
            await self._send({"type": "http.response.body", "body": chunk.data, "more_body": more})
        # Whoever has the whole answer leaves, too, but that is seen only later.
        return not self._leaving.done()

    async def _stays(self, pause: float) -> bool:
        """Pause, and say whether the client is still there."""
        if pause:
            await asyncio.wait({self._leaving}, timeout=pause)
        else:
            await asyncio.sleep(0)
        return not self._leaving.done()


async def _read(request: Request) -> Asked:
    body = await request.body()
    headers: dict[str, str] = {}
    for name, value in request.headers.items():
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    return Asked(request.method, request.scope["path"], request.scope["query_string"].decode(), headers, body)


async def _left(request: Request) -> None:
    """Wait until the client has gone, or has all that it waited for."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _told(call: Call) -> dict[str, Any]:
    asked = call.asked
    return {
        "method": asked.method,
        "path": asked.path,
        "query": asked.query,
        "headers": dict(asked.headers),
        "body": asked.body.decode(errors="replace"),
        "gone_after": None if call.gone is None else call.gone - call.began,
    }


class _Protocol(HttpToolsProtocol):
    """HTTP by uvicorn, which lets an application reach its connection, to close it."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        super().connection_made(transport)
        self.app_state = {**self.app_state, "transport": transport}


class _Server(uvicorn.Server):
    """A server that leaves signals to the program around it."""

    @contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        yield

    def hang_up(self) -> None:
        """Close every connection at once."""
        for connection in list(self.server_state.connections):
            cast("_Protocol", connection).transport.abort()


@asynccontextmanager
async def serving(app: ASGIApp, port: int = 0) -> AsyncGenerator[str, None]:
    """Serve an ASGI application on loopback, at any free port; gives the URL, which ends with the port.

    At the end all connections are closed at once, whatever is still on its way.
    """
    listener = _listening(port)
    config = uvicorn.Config(
        app,
        http=_Protocol,
        log_config=None,
        access_log=False,
        server_header=False,
        date_header=False,
        timeout_graceful_shutdown=5,
    )
    server = _Server(config)
    running = asyncio.create_task(server.serve([listener]))
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.hang_up()
        server.should_exit = True
        await running


def _listening(port: int) -> socket.socket:
    # Asyncio sends without delay only over sockets that are said to be of TCP, which create_server's are not.
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", port))
    listener.listen(1024)
    return listener
