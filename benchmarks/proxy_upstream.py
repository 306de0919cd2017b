"""The scripted upstream of the proxy's benchmark: the answers of `aligner.testing` over a bare protocol, to be fast."""

import asyncio
import random
from collections.abc import Sequence
from typing import cast

import httptools
import orjson
import uvloop

from aligner.testing.named import says
from aligner.testing.replies import Wanted
from aligner.testing.script import Script

MODEL = "scripted"
WORDS = 200
CHUNKS = WORDS + 3
"""of a stream: the role, a word each, the finish reason, and the end"""
SECONDS_BETWEEN_CHUNKS = 0.001
"""the least at which a loop's clock can wake up; chunks that came at once would be read at once, and cost less"""
_SHORT = "a is of the to and in that it for was on are with as this be at by from have or not word can each all".split()


def serve(port: int) -> None:
    """Answer on loopback until the process is ended."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(port))


async def _serve(port: int) -> None:
    loop = asyncio.get_running_loop()
    answer = says(" ".join(random.Random(0).choices(_SHORT, k=WORDS)))
    wanted = {"model": MODEL, "messages": [{"role": "user", "content": "Why?"}]}
    whole = answer(Wanted(chat=True, payload=wanted))
    streamed = answer(Wanted(chat=True, payload={**wanted, "stream": True}))
    head = _head(streamed, ("transfer-encoding", "chunked"))
    chunks = [b"%x\r\n%b\r\n" % (len(chunk.data), chunk.data) for chunk in streamed.chunks]
    if len(chunks) != CHUNKS:
        raise ValueError(f"a stream has {len(chunks)} chunks, not {CHUNKS}")
    answers = (_head(whole) + whole.body, (head, *chunks[:-1], chunks[-1] + b"0\r\n\r\n"))
    server = await loop.create_server(lambda: _Answering(*answers), "127.0.0.1", port, backlog=1024)
    await server.serve_forever()


def _head(script: Script, *more: tuple[str, str]) -> bytes:
    lines = [f"{name}: {value}" for name, value in (*script.headers, *more)]
    return "\r\n".join([f"HTTP/1.1 {script.status} OK", *lines, "", ""]).encode()


class _Answering(asyncio.Protocol):
    """One connection, on which every request gets the one answer or, streamed, its chunks."""

    def __init__(self, whole: bytes, streamed: Sequence[bytes]) -> None:
        self._whole, self._streamed = whole, streamed
        self._body: list[bytes] = []
        self._parser = httptools.HttpRequestParser(self)
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Somebody wants to ask."""
        self._transport = cast("asyncio.Transport", transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """Nobody listens any more."""
        self._transport = None

    def data_received(self, data: bytes) -> None:
        """Some of a request."""
        self._parser.feed_data(data)

    def on_body(self, body: bytes) -> None:
        """Some of its body."""
        self._body.append(body)

    def on_message_complete(self) -> None:
        """A whole request."""
        payload = orjson.loads(b"".join(self._body))
        self._body.clear()
        if payload.get("stream"):
            self._write(0)
        elif self._transport is not None:
            self._transport.write(self._whole)

    def _write(self, number: int) -> None:
        if self._transport is None:
            return
        self._transport.write(self._streamed[number])
        if number + 1 < len(self._streamed):
            asyncio.get_running_loop().call_later(SECONDS_BETWEEN_CHUNKS, self._write, number + 1)
