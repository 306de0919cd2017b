"""Laws of the heads of requests: one that has no end costs its sender the connection, and nobody else anything."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import orjson
import pytest
import uvicorn
from programs import running

from aligner.serving.heads import LARGEST, LimitedHeads
from aligner.testing import Upstream, serving

_HEAD = b"POST / HTTP/1.1\r\nhost: localhost\r\n"


class Hurried(LimitedHeads):
    """Has little patience."""

    seconds = 0.3


async def echoing(scope: Any, receive: Any, send: Any) -> None:
    """An application that sends a body back, slowly."""
    assert scope["type"] == "http"
    body, more = b"", True
    while more:
        message = await receive()
        body, more = body + message.get("body", b""), message.get("more_body", False)
    await asyncio.sleep(0.5)
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(body))]})
    await send({"type": "http.response.body", "body": body})


@asynccontextmanager
async def listening() -> AsyncGenerator[int]:
    """The port of such an application."""
    server = uvicorn.Server(uvicorn.Config(echoing, http=Hurried, port=0, lifespan="off", log_config=None))
    task = asyncio.create_task(server.serve())
    while not server.started:  # noqa: ASYNC110  # nothing tells of it
        await asyncio.sleep(0.01)
    try:
        yield server.servers[0].sockets[0].getsockname()[1]
    finally:
        server.should_exit = True
        await task


async def heard(port: int, *portions: bytes, pause: float = 0.0) -> bytes:
    """All that comes back until the other side hangs up."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    async with asyncio.timeout(10):
        try:
            for portion in portions:
                writer.write(portion)
                await writer.drain()
                await asyncio.sleep(pause)
            return await reader.read()
        except ConnectionError:  # it hung up while more was on its way
            return b""
        finally:
            writer.close()


def code_of(answer: bytes) -> tuple[int, str]:
    """Status and code of an error in OpenAI's shape."""
    head, _, body = answer.partition(b"\r\n\r\n")
    return int(head.split()[1]), orjson.loads(body)["error"]["code"]


def test_a_head_without_an_end_ends_in_time() -> None:
    """Half a head, one that trickles, and none: the connection is closed, and whoever waits after half is told why."""

    async def check() -> None:
        async with listening() as port:
            half, trickled, silent, asked = await asyncio.gather(
                heard(port, _HEAD),
                heard(port, _HEAD, *[b"x"] * 1000, pause=0.02),
                heard(port),
                heard(port, _HEAD + b"connection: close\r\ncontent-length: 2\r\n\r\n", b"hi", pause=0.4),
            )
        assert code_of(half) == (408, "request_timeout")
        assert trickled == silent == b""
        assert asked.endswith(b"\r\n\r\nhi")  # a head in time may be followed by a slow body and a slow answer

    asyncio.run(check())


def test_an_answer_on_its_way_is_never_mixed_with_a_refusal() -> None:
    """Half a second head behind a request that is being answered: the answer is whole, and then the connection ends."""

    async def check() -> None:
        async with listening() as port:
            found = await heard(port, _HEAD + b"content-length: 2\r\n\r\nhi" + _HEAD[:20])
        assert found.count(b"HTTP/1.1") <= 2
        assert b"hi" not in found or found.split(b"\r\n\r\n", 1)[1].startswith(b"hi")

    asyncio.run(check())


@pytest.mark.parametrize(
    ("sent", "told"),
    [
        ([_HEAD + b"x: " + b"y" * (LARGEST - len(_HEAD) - 3), b"y"], (431, "head_too_large")),
        ([b"GET /" + b"y" * (LARGEST - 5), b"y"], (431, "head_too_large")),
        ([b"no HTTP at all\r\n\r\n"], (400, "invalid_http")),
    ],
)
def test_what_is_no_head_is_refused_in_the_shape_of_openai(
    sent: list[bytes], told: tuple[int, str], tmp_path: Path
) -> None:
    """By the command itself, which goes on answering others."""

    async def check() -> None:
        async with serving(Upstream()) as upstream, running(upstream, tmp_path) as program:
            port = int(program.url.rpartition(":")[2])
            assert code_of(await heard(port, *sent, pause=0.2)) == told
            alive = await heard(port, b"GET /healthz HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")
            assert alive.endswith(b'{"status":"ok"}')

    asyncio.run(check())
