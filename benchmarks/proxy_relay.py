"""The least that a relay in Python does: Starlette in front, aiohttp behind, and everything as it comes."""

import os
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import aiohttp
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

UPSTREAM = "RELAY_UPSTREAM"
"""the variable of the environment that names the upstream, as in http://127.0.0.1:8000"""


def relay() -> Starlette:
    """The application: `uvicorn --factory proxy_relay:relay`."""
    return _Relay(os.environ[UPSTREAM]).application()


@dataclass(slots=True)
class _Relay:
    upstream: str
    session: aiohttp.ClientSession | None = None

    def application(self) -> Starlette:
        return Starlette(routes=[Route("/{path:path}", self.answer, methods=["POST"])], lifespan=self.connected)

    @asynccontextmanager
    async def connected(self, _: Starlette) -> AsyncGenerator[None, None]:
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as self.session:
            yield

    async def answer(self, request: Request) -> Response:
        if self.session is None:
            raise RuntimeError("the relay has not been started")
        headers = {name: value for name, value in request.headers.items() if name in ("authorization", "content-type")}
        reply = await self.session.post(self.upstream + request.url.path, data=await request.body(), headers=headers)
        if reply.content_type == "text/event-stream":
            return StreamingResponse(_pieces(reply), reply.status, media_type="text/event-stream")
        async with reply:
            return Response(await reply.read(), reply.status, media_type=reply.content_type)


async def _pieces(reply: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
    async with reply:
        async for piece in reply.content.iter_any():
            yield piece
