"""Any OpenAI-compatible server as a model."""

import os
import re
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, Self
from urllib.parse import urlsplit

from aligner.errors import MisuseError
from aligner.models.reading import (
    body_of,
    events_of,
    first_of,
    is_one_piece,
    json_of,
    number_of,
    object_of,
    objects_of,
    text_of,
)
from aligner.models.server import Retries, Server
from aligner.records import Completion, Message, SamplingParams, Usage

_OPENAI = "https://api.openai.com/v1"
_NAME = re.compile(r"(?P<model>.+?)(?:@(?P<url>https?://.*))?")
_CALL = re.compile(r"(/chat)?/completions$")
_LOGPROBS: dict[str, Any] = {"logprobs": True, "top_logprobs": 5}  # some servers give no more


class Told(NamedTuple):
    """An answer, and what else its first visible token could have been, each with its log-probability."""

    completion: Completion
    first: Mapping[str, float]


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

    def once(self, key: str) -> Self:
        """The same model that asks a single time, under an `Idempotency-Key`: asked twice, a server may answer once."""
        server = replace(self.server, retries=Retries(attempts=1), headers={"Idempotency-Key": key})
        return replace(self, server=server)

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
            return _completion(self.server, await body_of(answer))

    async def complete_with_logprobs(
        self, messages: Sequence[Message], sampling: SamplingParams = SamplingParams()
    ) -> Told:
        """The answer, and how likely its first visible token was: nothing where the server does not say.

        Raises RefusedError where it refuses the question, and what `complete` raises.
        """
        payload = self._payload(messages, sampling, prediction=None) | _LOGPROBS
        async with self.server.post(payload) as answer:
            body = await body_of(answer)
            return Told(_completion(self.server, body), _first_logprobs(json_of(self.server, body)))

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
            if is_one_piece(answer):
                yield _completion(self.server, await body_of(answer)).text
                return
            async with aclosing(_pieces(self.server, answer.chunks)) as pieces:
                async for piece in pieces:
                    yield piece

    def _payload(
        self, messages: Sequence[Message], sampling: SamplingParams, *, prediction: str | None
    ) -> dict[str, Any]:
        turns = [{"role": message.role, "content": message.content} for message in messages]
        draft = prediction_field(prediction) if self.predicts and prediction else {}
        return {"model": self.model, "messages": turns} | sampling_fields(sampling) | draft


class Hosted(NamedTuple):
    """A model's name, and the server that knows it."""

    model: str
    server: Server


def load(name: str, environ: Mapping[str, str] = os.environ) -> OpenAIModel:
    """The model `openai:MODEL@BASE_URL`, or `openai:MODEL` at OPENAI_BASE_URL or else at OpenAI.

    The key comes from OPENAI_API_KEY alone. Raises MisuseError for a name or an address of another form.
    """
    return OpenAIModel(*hosted(name, environ, path="/chat/completions"))


def hosted(name: str, environ: Mapping[str, str], *, path: str) -> Hosted:
    """The model of that name at that path under its server's base URL; raises what `load` raises."""
    match = _NAME.fullmatch(name)
    if not match:
        raise MisuseError('"openai:" needs a model: openai:MODEL or openai:MODEL@BASE_URL')
    base_url = _checked(match["url"] or environ.get("OPENAI_BASE_URL") or _OPENAI)
    return Hosted(match["model"], Server(url=base_url + path, key=environ.get("OPENAI_API_KEY", "").strip()))


def _checked(base_url: str) -> str:
    """The base URL without the path of a call; what it holds is not repeated, since it may be a password."""
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
    return _CALL.sub("", base_url.rstrip("/"))


def prediction_field(text: str) -> dict[str, Any]:
    """A draft in OpenAI's words."""
    return {"prediction": {"type": "content", "content": text}}


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
    answer = object_of(json_of(server, body))
    choice = first_of(answer.get("choices"))
    message, usage = object_of(choice.get("message")), object_of(answer.get("usage"))
    used = Usage(number_of(usage.get("prompt_tokens")), number_of(usage.get("completion_tokens")))
    text = message.get("content")
    if not isinstance(text, str) or (not text and message.get("tool_calls")):
        line = f"status 200, but {_problem(answer, message)}"
        raise server.broken(line, body) if answer.get("error") else server.unusable(line, body, used)
    return Completion(text, text_of(choice.get("finish_reason")) or "stop", used)


def _first_logprobs(answer: object) -> Mapping[str, float]:
    """What the first token could have been that is not white space alone; nothing where that is not said."""
    tokens = object_of(first_of(object_of(answer).get("choices")).get("logprobs")).get("content")
    visible = [token for token in objects_of(tokens) if text_of(token.get("token")).strip()]
    others = objects_of(first_of(visible).get("top_logprobs"))
    found = {text_of(other.get("token")): other.get("logprob") for other in others}
    return {token: float(value) for token, value in found.items() if isinstance(value, int | float)}


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
    async for data in events_of(chunks):
        if data == "[DONE]":
            ended = True
            break
        event = object_of(json_of(server, data.encode()))
        if event.get("error"):
            raise server.error("status 200, but an error in the stream", data.encode())
        choice = first_of(event.get("choices"))  # none in a report of usage
        delta = object_of(choice.get("delta"))
        ended = ended or bool(choice.get("finish_reason"))
        has_tools = has_tools or bool(delta.get("tool_calls"))
        has_content = has_content or isinstance(delta.get("content"), str)
        if piece := text_of(delta.get("content")):
            has_text = True
            yield piece
    if not ended:
        raise server.error("status 200, but the stream ended before the answer did")
    if not has_content or (has_tools and not has_text):
        raise server.error(f"status 200, but {'tool calls instead of text' if has_tools else 'no text in the answer'}")
