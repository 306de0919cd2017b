"""Any OpenAI-compatible server as a model."""

import os
import re
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, Self, cast
from urllib.parse import urlsplit

import orjson

from aligner.errors import MisuseError
from aligner.models.events import EventReader
from aligner.models.server import Server
from aligner.records import Completion, Message, SamplingParams, Usage

_OPENAI = "https://api.openai.com/v1"
_NAME = re.compile(r"(?P<model>.+?)(?:@(?P<url>https?://.*))?")


@dataclass(frozen=True, slots=True)
class OpenAIModel:
    """A model behind a server that speaks OpenAI's chat completions.

    Calls that overlap share their connections; `async with model:` keeps these for calls that follow one another too.
    """

    model: str
    server: Server
    predicts: bool = False
    """whether the server takes a `prediction`; many refuse one"""

    async def __aenter__(self) -> Self:
        self.server.sessions.acquire()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.server.sessions.release()

    async def complete(
        self,
        messages: Sequence[Message],
        sampling: SamplingParams = SamplingParams(),
        *,
        prediction: str | None = None,
    ) -> Completion:
        """The server's answer; ModelError when it gives none that can be used."""
        payload = self._payload(messages, sampling, prediction=prediction)
        async with self.server.post(payload) as answer:
            return _completion(self.server, b"".join([chunk async for chunk in answer.chunks]))

    async def stream(
        self,
        messages: Sequence[Message],
        sampling: SamplingParams = SamplingParams(),
        *,
        prediction: str | None = None,
    ) -> AsyncIterator[str]:
        """The same as the server sends it; a server that cannot stream gives one piece."""
        payload = self._payload(messages, sampling, prediction=prediction) | {"stream": True}
        async with self.server.post(payload, streamed=True) as answer:
            if "json" in answer.content_type or "html" in answer.content_type:
                yield _completion(self.server, b"".join([chunk async for chunk in answer.chunks])).text
                return
            async with aclosing(_pieces(self.server, answer.chunks)) as pieces:
                async for piece in pieces:
                    yield piece

    def _payload(
        self, messages: Sequence[Message], sampling: SamplingParams, *, prediction: str | None
    ) -> dict[str, Any]:
        turns = [{"role": message.role, "content": message.content} for message in messages]
        draft = {"prediction": {"type": "content", "content": prediction}} if self.predicts and prediction else {}
        return {"model": self.model, "messages": turns} | sampling_fields(sampling) | draft


def load(name: str, environ: Mapping[str, str] = os.environ) -> OpenAIModel:
    """The model `openai:MODEL@BASE_URL`, or `openai:MODEL` at OPENAI_BASE_URL or else at OpenAI.

    The key comes from OPENAI_API_KEY alone. Raises MisuseError for a name or an address of another form.
    """
    match = _NAME.fullmatch(name)
    if not match:
        raise MisuseError('"openai:" needs a model: openai:MODEL or openai:MODEL@BASE_URL')
    url = _checked(match["url"] or environ.get("OPENAI_BASE_URL") or _OPENAI)
    return OpenAIModel(match["model"], Server(url=url, key=environ.get("OPENAI_API_KEY", "").strip()))


def _checked(base_url: str) -> str:
    """The address of chat completions; what the base URL holds is not repeated, since it may be a password."""
    try:
        parts = urlsplit(base_url)
        sound = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # a port that is no number, or a broken IPv6 address
        parts, sound = urlsplit(""), False
    if not sound:
        raise MisuseError("the base URL of the server is not like http://host:port/v1")
    if parts.username or parts.password or parts.query or parts.fragment:
        raise MisuseError(
            "the base URL of the server holds a user, a query or a fragment; a key goes in OPENAI_API_KEY"
        )
    return base_url.rstrip("/").removesuffix("/chat/completions") + "/chat/completions"


def sampling_fields(sampling: SamplingParams) -> dict[str, Any]:
    """Sampling in OpenAI's words; what has no effect is left out, since some servers refuse what they do not know."""
    fields: dict[str, Any] = {
        "top_p": sampling.top_p if sampling.top_p < 1 else None,
        "top_k": sampling.top_k if sampling.top_k > 0 else None,
        "max_tokens": sampling.max_tokens,
        "stop": list(sampling.stop) or None,
        "seed": sampling.seed,
    }
    return {"temperature": sampling.temperature} | {name: value for name, value in fields.items() if value is not None}


def _completion(server: Server, body: bytes) -> Completion:
    answer = _object(_json(server, body))
    choice = _first(answer.get("choices"))
    message, usage = _object(choice.get("message")), _object(answer.get("usage"))
    text = message.get("content")
    if not isinstance(text, str) or (not text and message.get("tool_calls")):
        raise server.error(f"status 200, but {_problem(answer, message)}", body)
    read, written = _number(usage.get("prompt_tokens")), _number(usage.get("completion_tokens"))
    return Completion(text, _text(choice.get("finish_reason")) or "stop", Usage(read, written))


def _problem(answer: Mapping[str, object], message: Mapping[str, object]) -> str:
    if answer.get("error"):
        return "an error instead of an answer"
    if not answer.get("choices"):
        return "no choices in the answer"
    if message.get("tool_calls"):
        return "tool calls instead of text"
    return "a refusal instead of text" if message.get("refusal") else "no text in the answer"


async def _pieces(server: Server, chunks: AsyncIterator[bytes]) -> AsyncGenerator[str, None]:
    """The text of a stream; it ends with a finish reason or with `[DONE]`, and some servers send only one of them."""
    has_text = has_content = has_tools = ended = False
    async for data in _events(chunks):
        if data == "[DONE]":
            ended = True
            break
        event = _object(_json(server, data.encode()))
        if event.get("error"):
            raise server.error("status 200, but an error in the stream", data.encode())
        choice = _first(event.get("choices"))  # none in a report of usage
        delta = _object(choice.get("delta"))
        ended = ended or bool(choice.get("finish_reason"))
        has_tools = has_tools or bool(delta.get("tool_calls"))
        has_content = has_content or isinstance(delta.get("content"), str)
        if piece := _text(delta.get("content")):
            has_text = True
            yield piece
    if not ended:
        raise server.error("status 200, but the stream ended before the answer did")
    if not has_content or (has_tools and not has_text):
        raise server.error(f"status 200, but {'tool calls instead of text' if has_tools else 'no text in the answer'}")


async def _events(chunks: AsyncIterator[bytes]) -> AsyncIterator[str]:
    reader = EventReader()
    async for chunk in chunks:
        for data in reader.add(chunk):
            yield data
    for data in reader.rest():
        yield data


def _json(server: Server, body: bytes) -> Any:
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise server.error("status 200, but no valid JSON", body) from error


def _object(value: object) -> Mapping[str, object]:
    return cast("Mapping[str, object]", value) if isinstance(value, dict) else {}


def _first(value: object) -> Mapping[str, object]:
    items = cast("list[object]", value) if isinstance(value, list) else []
    return _object(items[0]) if items else {}


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _number(value: object) -> int:
    return value if isinstance(value, int) else 0
