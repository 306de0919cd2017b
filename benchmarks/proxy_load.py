"""Who asks, in the proxy's benchmark: connections over a bare protocol, to cost little beside what is measured."""

import asyncio
import time
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import NamedTuple, cast

import httptools
import orjson
from proxy_upstream import MODEL

_PATH = "/v1/chat/completions"
_BYTES = 2048
"""of a request's body"""


class Answer(NamedTuple):
    """What came of one request; its status was 200."""

    headers: Mapping[str, str]
    body: bytes
    pieces: int
    """reads in which it came"""
    seconds: float


class _Connection(asyncio.Protocol):
    """A connection that is kept, for one request at a time."""

    def __init__(self) -> None:
        self._parser = httptools.HttpResponseParser(self)
        self._headers: dict[str, str] = {}
        self._body: list[bytes] = []
        self._pieces = 0
        self._ended: asyncio.Future[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """It is open."""
        self._transport = cast("asyncio.Transport", transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """The server has closed it."""
        if self._ended is not None and not self._ended.done():
            self._ended.set_exception(ConnectionError("the server closed the connection in the middle of an answer"))

    def data_received(self, data: bytes) -> None:
        """Some of an answer."""
        self._pieces += 1
        self._parser.feed_data(data)

    def on_header(self, name: bytes, value: bytes) -> None:
        """One of its headers."""
        self._headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_body(self, body: bytes) -> None:
        """Some of its body."""
        self._body.append(body)

    def on_message_complete(self) -> None:
        """All of it."""
        if self._ended is not None:
            self._ended.set_result(None)

    async def ask(self, request: bytes) -> Answer:
        """Send a request, and wait for the whole answer.

        Raises ValueError unless its status is 200, and ConnectionError where the server has hung up.
        """
        if self._transport.is_closing():
            raise ConnectionError("the server has closed the connection")
        self._headers, self._body, self._pieces = {}, [], 0
        self._ended = asyncio.get_running_loop().create_future()
        began = time.perf_counter()
        self._transport.write(request)
        await self._ended
        seconds = time.perf_counter() - began
        body, status = b"".join(self._body), self._parser.get_status_code()
        if status != 200:
            raise ValueError(f"status {status}: {body[:500].decode(errors='replace')}")
        return Answer(self._headers, body, self._pieces, seconds)

    def close(self) -> None:
        """Let go of it."""
        self._transport.close()


def request_for(port: int, *, streamed: bool) -> bytes:
    """A request for a chat's answer, with a body of 2 kB."""
    payload = {"model": MODEL, "messages": [{"role": "user", "content": ""}], "stream": streamed}
    question = ("Why is the sky blue? " * _BYTES)[: _BYTES - len(orjson.dumps(payload))]
    body = orjson.dumps({**payload, "messages": [{"role": "user", "content": question}]})
    head = (
        f"POST {_PATH} HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\nauthorization: Bearer sk-of-nobody\r\n"
        f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


@asynccontextmanager
async def _connected(port: int) -> AsyncGenerator[_Connection, None]:
    _, connection = await asyncio.get_running_loop().create_connection(_Connection, "127.0.0.1", port)
    try:
        yield connection
    finally:
        connection.close()


async def in_turn(port: int, count: int, *, streamed: bool = False, pause: float = 0.0) -> list[Answer]:
    """So many requests, one after the other; with a pause, one begins every so many seconds."""
    request, answers = request_for(port, streamed=streamed), list[Answer]()
    async with _connected(port) as connection:
        began = time.perf_counter()
        for number in range(count):
            if pause:
                await asyncio.sleep(max(0.0, began + number * pause - time.perf_counter()))
            answers.append(await connection.ask(request))
    return answers


async def side_by_side(port: int, connections: int) -> list[Answer]:
    """So many streams, which all begin at once."""
    streams = await asyncio.gather(*(in_turn(port, 1, streamed=True) for _ in range(connections)))
    return [answer for answers in streams for answer in answers]


async def at_once(port: int, connections: int, seconds: float) -> float:
    """Requests answered in a second, when so many clients each ask again as soon as they are answered."""
    request, began = request_for(port, streamed=False), time.perf_counter()

    async def client() -> int:
        count = 0
        async with _connected(port) as connection:
            while time.perf_counter() < began + seconds:
                await connection.ask(request)
                count += 1
        return count

    counts: Sequence[int] = await asyncio.gather(*(client() for _ in range(connections)))
    return sum(counts) / (time.perf_counter() - began)
