"""One route of the proxy: who may ask, how many at a time, and what is said when something fails."""

import asyncio
import logging
import os
import time
import traceback
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from aligner.serving.admission import ADMITS, Admission
from aligner.serving.client import Client, Receive, Send, read_body
from aligner.serving.database import StoreError
from aligner.serving.proxy import error_of
from aligner.serving.upstream import Headers
from aligner.serving.wire import WireError

Scope = Any
Handler = Callable[[Scope, Receive, Client], Awaitable[None]]
_ENDING = WireError(
    503, "the proxy is told to end", "shutting_down", "server_error", headers=(("x-should-retry", "false"),)
)


@dataclass(frozen=True, slots=True)
class Endpoint:
    """An ASGI application for one route: every failure becomes an error, mostly in OpenAI's shape."""

    handle: Handler
    admission: Admission | None
    """none where the route is open to all"""
    speaks: type[Client] = Client
    """how the client is told of failures"""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, for as long as its client is there."""
        if scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1000})
            return
        client = self.speaks(send)
        try:
            if self.admission is None:
                await self.handle(scope, receive, client)
                return
            named = {n.decode("latin-1"): v.decode("latin-1") for n, v in scope["headers"] if n in ADMITS}
            caller = self.admission.admit(named, scope["method"], scope["path"])
            scope.setdefault("state", {})["caller"] = caller
            await self.admission.places.take()
            try:
                await self.handle(scope, receive, client)
            finally:
                self.admission.places.give_back()
        except ConnectionAbortedError:
            return
        except asyncio.CancelledError:
            # The server's time to finish what was begun is over.
            with suppress(TimeoutError):
                await asyncio.wait_for(client.refuse(_ENDING), 1)
        except Exception as problem:  # noqa: BLE001  # whatever it is, the client reads OpenAI's shape
            await client.refuse(told_of(problem), [("x-request-id", new_id())])


def headers_of(scope: Scope) -> Headers:
    """A request's headers; their names are small letters by the law of ASGI."""
    return [(name.decode("latin-1"), value.decode("latin-1")) for name, value in scope["headers"]]


async def body_of(scope: Scope, receive: Receive, largest: int) -> bytes:
    """The whole body of a request; raises WireError, 408, 413 or 415."""
    named = {name: value for name, value in scope["headers"] if name in (b"content-encoding", b"content-length")}
    if named.get(b"content-encoding", b"identity") != b"identity":
        raise WireError(415, "a compressed request is not read", "unsupported_encoding")
    declared = named.get(b"content-length")
    return await read_body(receive, declared=declared and declared.decode("latin-1"), largest=largest)


def new_id() -> str:
    """A UUID of version 7: ids in the order of their making."""
    drawn = int.from_bytes(os.urandom(10), "big")
    value = (time.time_ns() // 1_000_000) << 80 | 7 << 76 | (drawn >> 68) << 64 | 2 << 62 | (drawn & (2**62 - 1))
    digits = f"{value:032x}"
    return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))


def told_of(problem: Exception) -> WireError:
    """What the client is told of a failure; one that nobody foresaw goes to the log, and says nothing of itself."""
    if (error := error_of(problem)) is not None:
        return error
    if isinstance(problem, StoreError):
        return WireError(503, "the log cannot be reached just now", "log_unavailable", "server_error")
    # The words of an exception may quote a text.
    frames = traceback.extract_tb(problem.__traceback__)
    places = ", ".join(f"{frame.filename.rpartition(os.sep)[2]}:{frame.lineno}" for frame in frames)
    logging.getLogger("aligner").error("a request failed: %s at %s", type(problem).__name__, places)
    return WireError(500, "the proxy failed", "internal_error", "server_error")
