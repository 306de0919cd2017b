"""The shipped upstream, a real language model, as an OpenAI-compatible server: `python tests/small_upstream.py`."""

import argparse
import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web
from chat_server import chunk, completion, event

from aligner.correcting.writers import shipped
from aligner.models import load_model
from aligner.records import ChatModel, Message, SamplingParams

NAME = "small-upstream"


class SmallUpstream:
    """Answers greedily; `pause` is how many seconds it takes for a piece besides."""

    def __init__(self, model: ChatModel, pause: float = 0.0) -> None:
        self.model, self.pause = model, pause

    @property
    def app(self) -> web.Application:
        """Its routes."""
        app = web.Application()
        app.router.add_get("/v1/models", self.models)
        app.router.add_post("/v1/chat/completions", self.chat)
        return app

    async def models(self, _: web.Request) -> web.Response:
        """The one that is there."""
        return web.json_response({"object": "list", "data": [{"id": NAME, "object": "model"}]})

    async def chat(self, request: web.Request) -> web.StreamResponse:
        """An answer, whole or piece by piece."""
        asked: dict[str, Any] = await request.json()
        # So small a model knows single questions alone.
        messages = [Message("user", asked["messages"][-1]["content"])]
        sampling = SamplingParams(max_tokens=asked.get("max_tokens") or 96)
        if not asked.get("stream"):
            return web.json_response(completion((await self.model.complete(messages, sampling)).text))
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await response.prepare(request)
        async for piece in self.model.stream(messages, sampling):
            await asyncio.sleep(self.pause)
            await response.write(event(chunk(piece)))
        await response.write(event(chunk("", "stop")) + event(b"[DONE]"))
        await response.write_eof()
        return response


@asynccontextmanager
async def small_upstream(pause: float = 0.0) -> AsyncGenerator[str, None]:
    """The server on loopback; gives its URL."""
    runner = web.AppRunner(SmallUpstream(load_model(f"hf:{shipped('upstream')}"), pause).app, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


async def _serve(pause: float) -> None:
    async with small_upstream(pause) as url:
        print(url, flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pause", type=float, default=0.0, help="seconds for each piece")
    asyncio.run(_serve(parser.parse_args().pause))
