"""A real server on loopback that answers as OpenAI-compatible servers do, well or badly."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass
class Served:
    """Where the server listens, and what it was asked."""

    base_url: str = ""
    payloads: list[dict[str, Any]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    clients: set[Any] = field(default_factory=set)


def transport_of(request: web.Request) -> asyncio.Transport:
    """The connection of a request, which is open."""
    assert request.transport is not None
    return request.transport


@asynccontextmanager
async def serving(*answers: Answer) -> AsyncIterator[Served]:
    """A server that gives one answer after the other, and the last of them from then on."""
    served, left = Served(), list(answers)

    async def handle(request: web.Request) -> web.StreamResponse:
        served.payloads.append(await request.json())
        served.headers.append(dict(request.headers))
        served.clients.add(transport_of(request).get_extra_info("peername"))
        answer = left.pop(0) if len(left) > 1 else left[0]
        return await answer(request)

    app = web.Application()
    for path in ("/v1/chat/completions", "/v1/completions"):
        app.router.add_post(path, handle)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        served.base_url = f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
        yield served
    finally:
        await runner.cleanup()


def body(content: Any, status: int = 200, **options: Any) -> Answer:
    """An answer with that body: text or bytes as they are, anything else as JSON."""

    async def answer(_: web.Request) -> web.Response:
        text = content if isinstance(content, str | bytes) else json.dumps(content)
        data = text.encode() if isinstance(text, str) else text
        everything: dict[str, Any] = {"content_type": "application/json"} | options
        return web.Response(body=data, status=status, **everything)

    return answer


def completion(text: Any, **message: Any) -> dict[str, Any]:
    """A chat completion as OpenAI writes it."""
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": text} | message, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5},
    }


def chunk(text: Any, finish_reason: str | None = None, **delta: Any) -> dict[str, Any]:
    """One chunk of a streamed completion."""
    choice = {"index": 0, "delta": {"content": text} | delta, "finish_reason": finish_reason}
    return {"object": "chat.completion.chunk", "choices": [choice]}


def event(data: Any) -> bytes:
    """A server-sent event: bytes as they are, anything else as JSON."""
    return b"data: " + (data if isinstance(data, bytes) else json.dumps(data).encode()) + b"\n\n"


def stream(*writes: bytes, cut: bool = False, content_type: str = "text/event-stream") -> Answer:
    """A streamed answer that is written in these portions; `cut` breaks the connection off after them."""

    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": content_type})
        await response.prepare(request)
        for portion in writes:
            await response.write(portion)
            await asyncio.sleep(0.001)
        if cut:
            transport_of(request).abort()
        else:
            await response.write_eof()
        return response

    return answer


def stalled(*writes: bytes) -> Answer:
    """An answer that stops coming: before its head, or after these portions."""

    async def answer(request: web.Request) -> web.StreamResponse:
        if writes:
            response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
            await response.prepare(request)
            for portion in writes:
                await response.write(portion)
        await asyncio.sleep(60)
        raise AssertionError("the client should have left")

    return answer


async def hang_up(request: web.Request) -> web.StreamResponse:
    """No answer: the connection is closed."""
    transport_of(request).abort()
    return web.Response()


def truncated(status: int) -> Answer:
    """An answer whose body is shorter than its head says."""

    async def answer(request: web.Request) -> web.StreamResponse:
        head = {"Content-Type": "application/json", "Content-Length": "100"}
        response = web.StreamResponse(status=status, headers=head)
        await response.prepare(request)
        await response.write(b'{"choices": [')
        transport_of(request).abort()
        return response

    return answer
