"""A real server, in a process of its own, that answers chat completions and counts what it would bill.

It has limits, is slow, breaks answers and refuses, as it is told; what it answers depends on the question alone.
"""

import asyncio
import hashlib
import json
import subprocess
import sys
import time
import urllib.request
from collections import Counter, deque
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from random import Random
from typing import Any, NamedTuple

from aiohttp import web

FAULTS = ("broken", "cut", "hang_up", "unavailable", "error_body")


@dataclass(frozen=True, kw_only=True)
class Terms:
    """How the server behaves."""

    idempotent: bool = True
    """whether it bills a key once, and gives the same answer again"""
    key: str = ""
    """the one that it lets in; empty lets everybody in"""
    seconds: tuple[float, float] = (0.0, 0.0)
    """that an answer takes, by chance"""
    minute: float = 60.0
    """seconds that the limits are for"""
    requests: int = 0
    """in any such time; 0 sets no limit"""
    tokens: int = 0
    """of all answers, in any such time"""
    faults: float = 0.0
    """share of the requests that meet one of FAULTS"""
    written: int = 12
    """tokens of an answer"""
    tells_usage: bool = True


class Stats(NamedTuple):
    """What the server saw."""

    paid: dict[str, int]
    """how often it would bill each key"""
    arrivals: list[float]
    """seconds, of all requests"""
    accepted: list[tuple[float, int]]
    """seconds and tokens of those within the limits"""
    crowded: int
    """requests that came too fast"""
    faults: int
    busiest: int
    """requests at a time"""
    headers: list[list[str]]
    """names of the headers of each request"""


@dataclass
class _Server:
    terms: Terms
    paid: Counter[str] = field(default_factory=Counter)
    arrivals: list[float] = field(default_factory=list)
    accepted: list[tuple[float, int]] = field(default_factory=list)
    recent: deque[tuple[float, int]] = field(default_factory=deque)
    answers: dict[str, asyncio.Future[bytes]] = field(default_factory=dict)
    headers: list[list[str]] = field(default_factory=list)
    crowded: int = 0
    faults: int = 0
    now: int = 0
    busiest: int = 0
    random: Random = field(default_factory=lambda: Random(7))

    async def complete(self, request: web.Request) -> web.StreamResponse:
        self.now += 1
        self.busiest = max(self.busiest, self.now)
        try:
            return await self._complete(request)
        finally:
            self.now -= 1

    async def _complete(self, request: web.Request) -> web.StreamResponse:
        moment, payload = time.monotonic(), await request.json()
        self.arrivals.append(moment)
        self.headers.append(list(request.headers))
        asked = payload["messages"][-1]["content"]
        if self.terms.key and request.headers.get("Authorization") != f"Bearer {self.terms.key}":
            return _error(401, f"Incorrect API key provided: {request.headers.get('Authorization')}", "invalid_api_key")
        if refusal := _refusal(asked):
            return refusal
        tokens = -(-len(asked) // 4) + self.terms.written
        if wait := self._crowded(moment, tokens):
            self.crowded += 1
            return _error(429, "Rate limit reached", "rate_limit_exceeded", {"Retry-After": str(wait)})
        self.accepted.append((moment, tokens))
        fault = self.random.choice(FAULTS) if self.random.random() < self.terms.faults else ""
        self.faults += bool(fault)
        if fault in {"hang_up", "unavailable"}:
            return await _fail(request, fault, b"")
        body = await self._answer(request.headers.get("Idempotency-Key", asked), asked, tokens)
        return await _fail(request, fault, body) if fault else web.Response(body=body, content_type="application/json")

    async def _answer(self, key: str, asked: str, tokens: int) -> bytes:
        if not self.terms.idempotent:
            self.paid[key] += 1
            return await self._written(asked, tokens)
        if key not in self.answers:
            self.paid[key] += 1
            self.answers[key] = asyncio.ensure_future(self._written(asked, tokens))
        return await asyncio.shield(self.answers[key])

    async def _written(self, asked: str, tokens: int) -> bytes:
        await asyncio.sleep(self.random.uniform(*self.terms.seconds))
        message = {"role": "assistant", "content": answer_to(asked)}
        usage = {"prompt_tokens": tokens - self.terms.written, "completion_tokens": self.terms.written}
        choices = [{"index": 0, "message": message, "finish_reason": "stop"}]
        return json.dumps({"choices": choices, "usage": usage if self.terms.tells_usage else None}).encode()

    def _crowded(self, moment: float, tokens: int) -> int:
        """Seconds until there is room again; 0 where there is, which is then taken."""
        terms, recent = self.terms, self.recent
        while recent and recent[0][0] <= moment - terms.minute:
            recent.popleft()
        too_many = terms.requests and len(recent) >= terms.requests
        too_much = terms.tokens and sum(count for _, count in recent) + tokens > terms.tokens
        if too_many or too_much:
            return max(1, round(recent[0][0] + terms.minute - moment + 0.5)) if recent else 1
        recent.append((moment, tokens))
        return 0

    async def stats(self, _: web.Request) -> web.Response:
        told = (self.paid, self.arrivals, self.accepted, self.crowded, self.faults, self.busiest, self.headers)
        return web.json_response(dict(zip(Stats._fields, told, strict=True)))


def answer_to(asked: str) -> str:
    """What the server answers."""
    return f"About {asked[:20]}: {hashlib.sha256(asked.encode()).hexdigest()[:12]}"


def _refusal(asked: str) -> web.Response | None:
    if "TOO LONG" in asked:
        return _error(400, "This model's maximum context length is 16 tokens.", "context_length_exceeded")
    if "BAD" in asked:
        return _error(400, "no such thing", "invalid_request_error")
    if "TOOLS" in asked:
        message = {"role": "assistant", "content": None, "tool_calls": [{"id": "1"}]}
        usage = {"prompt_tokens": 1000, "completion_tokens": 1000}
        return web.json_response({"choices": [{"message": message, "finish_reason": "tool_calls"}], "usage": usage})
    return None


def _error(status: int, said: str, code: str, headers: dict[str, str] | None = None) -> web.Response:
    return web.json_response({"error": {"message": said, "code": code}}, status=status, headers=headers)


async def _fail(request: web.Request, fault: str, body: bytes) -> web.StreamResponse:
    if fault == "unavailable":
        return _error(503, "come again", "unavailable")
    if fault == "error_body":
        return web.json_response({"error": {"message": "the provider is down", "code": 502}})
    if fault == "broken":
        return web.Response(body=body[: len(body) // 2], content_type="application/json")
    assert request.transport is not None
    if fault == "hang_up":
        request.transport.abort()
        return web.Response()
    response = web.StreamResponse(headers={"Content-Type": "application/json", "Content-Length": str(len(body))})
    await response.prepare(request)
    await response.write(body[: len(body) // 2])
    request.transport.abort()
    return response


@dataclass(frozen=True)
class PaidServer:
    """A server that runs."""

    base_url: str

    def stats(self) -> Stats:
        """What it has seen up to now."""
        with urllib.request.urlopen(self.base_url.removesuffix("/v1") + "/stats", timeout=60) as response:  # noqa: S310
            return Stats(**json.load(response))


@contextmanager
def paid_server(**terms: Any) -> Generator[PaidServer, None, None]:
    """A server on those terms, killed at the end."""
    command = [sys.executable, __file__, json.dumps(asdict(Terms(**terms)))]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield PaidServer(f"http://127.0.0.1:{int(process.stdout.readline())}/v1")
        finally:
            process.kill()


async def _serve(terms: Terms) -> None:
    server, app = _Server(terms), web.Application()
    app.router.add_post("/v1/chat/completions", server.complete)
    app.router.add_get("/stats", server.stats)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    print(runner.addresses[0][1], flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(_serve(Terms(**json.loads(sys.argv[1]))))
