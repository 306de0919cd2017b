"""A profile of the closed world as an OpenAI-compatible server that bills: `python tests/profile_server.py NAME`."""

import argparse
import asyncio
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import orjson
from aiohttp import web

from aligner.errors import ModelError
from aligner.models import load_model
from aligner.records import Message, SamplingParams

Say = Callable[[list[Message], SamplingParams], Awaitable[str]]
"""what it answers; raises ModelError for what it knows nothing of"""


@dataclass
class BillingServer:
    """Answers, and counts what it was asked for, as one that honours `Idempotency-Key` does."""

    say: Say
    pause: float = 0.0
    """seconds that an answer takes"""
    billed: dict[str, dict[str, Any]] = field(default_factory=dict)
    """the answer to each call that was paid for"""
    repeated: int = 0
    """calls that came again and were not billed"""
    under_way: int = 0
    most_at_a_time: int = 0

    @property
    def app(self) -> web.Application:
        """Its routes."""
        app = web.Application()
        app.router.add_get("/v1/models", self.models)
        app.router.add_post("/v1/chat/completions", self.chat)
        app.router.add_get("/bill", self.bill)
        return app

    async def models(self, _: web.Request) -> web.Response:
        """The one that is there."""
        return web.json_response({"object": "list", "data": [{"id": "model", "object": "model"}]})

    async def bill(self, _: web.Request) -> web.Response:
        """How much was asked for, and what it would cost at a price of 1 a token."""
        usages = [answer["usage"] for answer in self.billed.values()]
        read, written = (sum(usage[f"{kind}_tokens"] for usage in usages) for kind in ("prompt", "completion"))
        return web.json_response(
            {
                "billed": len(self.billed),
                "repeated": self.repeated,
                "prompt_tokens": read,
                "completion_tokens": written,
                "most_at_a_time": self.most_at_a_time,
            }
        )

    async def chat(self, request: web.Request) -> web.Response:
        """An answer, or a refusal of what it knows nothing of."""
        asked: dict[str, Any] = await request.json()
        key = request.headers.get("Idempotency-Key") or orjson.dumps(asked, option=orjson.OPT_SORT_KEYS).decode()
        if key in self.billed:
            self.repeated += 1
            return web.json_response(self.billed[key])
        self.under_way += 1
        self.most_at_a_time = max(self.most_at_a_time, self.under_way)
        try:
            await asyncio.sleep(self.pause)
            return await self._answered(asked, key)
        finally:
            self.under_way -= 1

    async def _answered(self, asked: dict[str, Any], key: str) -> web.Response:
        messages = [Message(turn["role"], turn["content"]) for turn in asked["messages"]]
        sampling = SamplingParams(temperature=asked.get("temperature", 1.0), seed=asked.get("seed"))
        try:
            text = await self.say(messages, sampling)
        except ModelError as error:
            return web.json_response({"error": {"message": str(error), "type": "invalid_request_error"}}, status=400)
        self.billed.setdefault(key, completion(messages, text))
        return web.json_response(self.billed[key])


def completion(messages: Sequence[Message], text: str) -> dict[str, Any]:
    """A chat completion that counts words as tokens."""
    read, written = sum(len(message.content.split()) for message in messages), len(text.split())
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
    usage = {"prompt_tokens": read, "completion_tokens": written, "total_tokens": read + written}
    return {"id": "chatcmpl-1", "object": "chat.completion", "choices": [choice], "usage": usage}


def serve(server: BillingServer, port: int = 0) -> None:
    """Listen on loopback, and print the base URL, until the process is ended."""
    asyncio.run(_serve(server, port))


async def _serve(server: BillingServer, port: int) -> None:
    runner = web.AppRunner(server.app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    print(f"http://127.0.0.1:{runner.addresses[0][1]}/v1", flush=True)
    await asyncio.Event().wait()


@contextmanager
def started(script: str, *arguments: str) -> Generator[str]:
    """A server of this folder as a process of its own; gives its base URL."""
    command = [sys.executable, str(Path(__file__).with_name(script)), *arguments]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        yield process.stdout.readline().strip()
    finally:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


def bill_of(base_url: str) -> dict[str, int]:
    """What a server has billed so far."""

    async def get() -> dict[str, int]:
        async with aiohttp.ClientSession() as session, session.get(base_url.removesuffix("/v1") + "/bill") as response:
            return await response.json()

    return asyncio.run(get())


def wait_until(holds: Callable[[], bool], seconds: float = 60.0) -> None:
    """Wait for something to hold."""
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def profile_server(profile: str, pause: float = 0.0) -> BillingServer:
    """A profile's server: the same question and seed give the same answer."""
    model = load_model(f"world:{profile}")

    async def say(messages: list[Message], sampling: SamplingParams) -> str:
        return (await model.complete(messages, sampling)).text

    return BillingServer(say, pause)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("profile")
    parser.add_argument("--pause", type=float, default=0.0, help="seconds for each answer")
    given = parser.parse_args()
    serve(profile_server(given.profile, given.pause))
