"""What the tests of faults ask of a proxy, and look at."""

import asyncio
import re
from collections.abc import Awaitable, Callable
from contextlib import closing, suppress
from typing import Any

import aiohttp
import orjson
from proxies import Got, ask

from aligner.serving.database import place_of
from aligner.serving.logged import Logged
from aligner.serving.store import Store

CHAT = "/v1/chat/completions"
LIMIT = 60.0


def chat(model: str = "unchanged", content: str = "q", **fields: Any) -> bytes:
    """A request for a chat's answer."""
    return orjson.dumps({"model": model, "messages": [{"role": "user", "content": content}], **fields})


async def asked(url: str, body: bytes, path: str = CHAT, **headers: str) -> Got:
    """One request over a connection of its own."""
    async with asyncio.timeout(LIMIT), aiohttp.ClientSession() as session:
        return await ask(session, url + path, body, **headers)


def within(law: Callable[[], Awaitable[None]]) -> None:
    """Run a law, which must not take for ever."""

    async def limited() -> None:
        async with asyncio.timeout(2 * LIMIT):
            await law()

    asyncio.run(limited())


async def figure(url: str, name: str) -> float:
    """One of the figures in /metrics; 0 where it is not told yet."""
    async with asyncio.timeout(LIMIT), aiohttp.ClientSession() as session:
        told = (await ask(session, f"{url}/metrics", b"", method="GET")).body.decode()
    found = re.search(rf"^{re.escape(name)} (\S+)$", told, re.MULTILINE)
    return float(found[1]) if found else 0.0


async def until_figure(url: str, name: str, holds: Callable[[float], bool]) -> float:
    """A figure, as soon as something holds of it."""
    async with asyncio.timeout(LIMIT):
        while not holds(value := await figure(url, name)):  # noqa: ASYNC110  # nothing tells of it
            await asyncio.sleep(0.05)
    return value


def code_of(got: Got) -> str | None:
    """The code of the error that an answer is, or that ends its stream."""
    frames = re.findall(rb'data: (\{"error".*\})\n\ndata: \[DONE\]\n\n$', got.body)
    return orjson.loads(frames[0] if frames else got.body)["error"]["code"]


def rows_of(database: str) -> list[Logged]:
    """The rows in a log, in order of time."""
    with closing(Store(place_of(database), writable=False)) as store:
        return list(store.rows())


async def raw(url: str, data: bytes) -> bytes:
    """What comes back for some bytes until the connection ends."""
    host, _, port = url.removeprefix("http://").partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(data)
    parts: list[bytes] = []
    async with asyncio.timeout(LIMIT):
        with suppress(ConnectionResetError):
            while part := await reader.read(2**16):
                parts.append(part)
    writer.close()
    return b"".join(parts)
