"""What a real server says over `/v1/completions`, where it hosts a tiny Aligner with transformers' `generate`."""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from aiohttp import web
from chat_server import body, event, stream
from transformers import AutoModelForCausalLM, AutoTokenizer

from aligner.models.pieces import StopCutter


def text_completion(text: Any, finish_reason: str | None = "stop", **fields: Any) -> dict[str, Any]:
    """A completion, or an event of a stream, as OpenAI writes it."""
    return {
        "object": "text_completion",
        "choices": [{"index": 0, "text": text, "finish_reason": finish_reason}],
    } | fields


class Hosted:
    """Answers as an engine does that reads token ids, greedily and in float64."""

    def __init__(self, folder: Path) -> None:
        self.model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float64).eval()
        self.tokenizer: Any = AutoTokenizer.from_pretrained(folder)

    async def __call__(self, request: web.Request) -> web.StreamResponse:
        """The completion that a request asks for, whole or as a stream."""
        asked = await request.json()
        ids = self._generate(asked["prompt"], asked["max_tokens"])
        cutter = StopCutter(asked.get("stop", ()))
        text = cutter.add(self.tokenizer.decode(ids, skip_special_tokens=True)) + cutter.rest()
        reason = "stop" if cutter.stopped or ids[-1] == self.tokenizer.eos_token_id else "length"
        usage = {"prompt_tokens": len(asked["prompt"]), "completion_tokens": len(ids)}
        if not asked.get("stream"):
            return await body(text_completion(text, reason, usage=usage))(request)
        return await stream(*_events(text, reason, usage if "stream_options" in asked else None))(request)

    def _generate(self, prompt: list[int], limit: int) -> list[int]:
        ids = torch.tensor([prompt])
        with torch.inference_mode():
            out = self.model.generate(
                ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=limit, pad_token_id=0
            )
        return out[0, len(prompt) :].tolist()


def _events(text: str, reason: str, usage: dict[str, int] | None) -> Iterator[bytes]:
    """As vLLM streams: every few letters an event, the reason with the last, then usage where it is asked for."""
    for i in range(0, len(text), 7):
        yield event(text_completion(text[i : i + 7], None, usage=None))
    yield event(text_completion("", reason, usage=None))
    if usage:
        yield event({"object": "text_completion", "choices": [], "usage": usage})
    yield event(b"[DONE]")


class Crowd:
    """Answers only once so many requests are there together, and counts the most that ever were."""

    def __init__(self, size: int) -> None:
        self.most = 0
        self._here = 0
        self._barrier = asyncio.Barrier(size)

    async def __call__(self, request: web.Request) -> web.StreamResponse:
        """An answer that repeats the length of the prompt."""
        self._here += 1
        self.most = max(self.most, self._here)
        await self._barrier.wait()
        await asyncio.sleep(0.01)  # whoever is too many arrives now
        self._here -= 1
        return await body(text_completion(json.dumps(len((await request.json())["prompt"]))))(request)
