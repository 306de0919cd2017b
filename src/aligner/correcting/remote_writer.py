"""An Aligner on any OpenAI-compatible server as the writer of corrections, over `/v1/completions`."""

import hashlib
import os
from collections.abc import AsyncGenerator, AsyncIterator, Generator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from aligner.correcting.waiting import BackgroundLoop
from aligner.jobs import map_ordered
from aligner.models.generating import CONTEXT_WHERE_NONE_IS_NAMED, context_of
from aligner.models.hf import WITHOUT_WEIGHTS, load_without_weights, local_folder
from aligner.models.openai import hosted, prediction_field, sampling_fields
from aligner.models.reading import body_of, events_of, first_of, is_one_piece, json_of, number_of, object_of, text_of
from aligner.models.server import Server
from aligner.records import Completion, Exchange, SamplingParams, Usage
from aligner.templates import PromptEncoder
from aligner.training.card import Card


class _Part(NamedTuple):
    """An event of a stream, or a whole answer."""

    text: str | None
    finish_reason: str
    usage: Mapping[str, object]


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteWriter:
    """Asks a server for corrections; prompts are made here, as token ids, so that no text becomes a control token.

    The server ends a text where its model ends it. An answer that cannot be used is a ModelError.
    """

    model: str
    """the name that the server knows"""
    server: Server
    encoder: PromptEncoder = field(repr=False)
    fingerprint: str
    context: int
    """tokens of prompt and correction together"""
    predicts: bool = False
    """whether the server takes the answer as a `prediction`; many refuse one"""

    @property
    def takes_instructions(self) -> bool:
        """Whether its template has a form for them."""
        return self.encoder.takes_instructions

    def write(
        self, exchanges: Sequence[Exchange], sampling: SamplingParams, *, batch: int = 64, doubt: bool = False
    ) -> list[Completion]:
        """One request for each exchange that fits, at most `batch` of them at a time."""
        with BackgroundLoop() as loop:
            return loop.wait(self._write_all(exchanges, sampling, batch=batch))

    def stream(self, exchange: Exchange, sampling: SamplingParams) -> Generator[str, None, Completion]:
        """The pieces as the server sends them; a server that cannot stream gives one."""
        prompt = self._prompt(exchange)
        if self._room(prompt, sampling) <= 0:
            return _unwritten(prompt)
        parts = list[_Part]()
        with BackgroundLoop() as loop:
            coming = self._stream(self._payload(exchange, prompt, sampling))
            while (part := loop.wait(_next(coming))) is not None:
                parts.append(part)
                if part.text:
                    yield part.text
        return _completion(parts, prompt)

    async def _write_all(
        self, exchanges: Sequence[Exchange], sampling: SamplingParams, *, batch: int
    ) -> list[Completion]:
        async def write(exchange: Exchange) -> Completion:
            return await self._write_one(exchange, sampling)

        self.server.sessions.acquire()  # so that all requests share their connections
        try:
            async with aclosing(map_ordered(write, exchanges, limit=batch)) as completions:
                return [completion async for completion in completions]
        finally:
            await self.server.sessions.release()

    async def _write_one(self, exchange: Exchange, sampling: SamplingParams) -> Completion:
        prompt = self._prompt(exchange)
        if self._room(prompt, sampling) <= 0:
            return _unwritten(prompt)
        async with self.server.post(self._payload(exchange, prompt, sampling)) as answer:
            return _completion([_whole(self.server, await body_of(answer))], prompt)

    async def _stream(self, payload: Mapping[str, Any]) -> AsyncGenerator[_Part, None]:
        streamed = {"stream": True, "stream_options": {"include_usage": True}}
        async with self.server.post({**payload, **streamed}, streamed=True) as answer:
            if is_one_piece(answer):
                yield _whole(self.server, await body_of(answer))
                return
            async with aclosing(_events(self.server, answer.chunks)) as parts:
                async for part in parts:
                    yield part

    def _prompt(self, exchange: Exchange) -> list[int]:
        return self.encoder.prompt_ids(exchange.question, exchange.answer, exchange.instruction)

    def _room(self, prompt: Sequence[int], sampling: SamplingParams) -> int:
        room = self.context - len(prompt)
        return room if sampling.max_tokens is None else min(room, sampling.max_tokens)

    def _payload(self, exchange: Exchange, prompt: list[int], sampling: SamplingParams) -> dict[str, Any]:
        draft = prediction_field(exchange.answer) if self.predicts and exchange.answer else {}
        fields = sampling_fields(replace(sampling, max_tokens=self._room(prompt, sampling)))
        return {"model": self.model, "prompt": prompt} | fields | draft


def load_remote(name: str, environ: Mapping[str, str] = os.environ) -> RemoteWriter:
    """The writer `openai:MODEL@BASE_URL`, or `openai:MODEL` at OPENAI_BASE_URL or else at OpenAI.

    MODEL is both the server's name for the Aligner and the checkpoint folder or hub id where its tokenizer and its
    `aligner.json` are read; its weights are not. Raises MisuseError for a name or an address of another form, and
    CheckpointError where there is no Aligner.
    """
    model, server = hosted(name, environ, path="/completions")
    folder = local_folder(model, WITHOUT_WEIGHTS)
    card, unweighted = Card.load(folder), load_without_weights(folder)
    made = hashlib.sha256(repr((card.weights, card.template)).encode()).hexdigest()[:16]
    return RemoteWriter(
        model=model,
        server=server,
        encoder=PromptEncoder(card.template, unweighted.tokenizer),
        # The same weights write other texts on an engine that rounds otherwise.
        fingerprint=f"openai:{model}@{server.url}:{made}",
        context=context_of(unweighted, unweighted.tokenizer) or CONTEXT_WHERE_NONE_IS_NAMED,
    )


async def _next(parts: AsyncIterator[_Part]) -> _Part | None:
    return await anext(parts, None)


async def _events(server: Server, chunks: AsyncIterator[bytes]) -> AsyncGenerator[_Part, None]:
    """The parts of a stream; a text may be cut off wherever its end is not told."""
    has_text = ended = False
    async with aclosing(events_of(chunks)) as events:
        async for data in events:
            if data == "[DONE]":
                break
            part = _part(server, data.encode())
            has_text, ended = has_text or part.text is not None, ended or bool(part.finish_reason)
            yield part
    if not ended:
        raise server.error("status 200, but the stream ended before the answer did")
    if not has_text:
        raise server.error("status 200, but no text in the answer")


def _whole(server: Server, body: bytes) -> _Part:
    part = _part(server, body)
    if part.text is None or not part.finish_reason:
        raise server.error(f"status 200, but no {'text' if part.text is None else 'finish reason'} in the answer", body)
    return part


def _part(server: Server, body: bytes) -> _Part:
    answer = object_of(json_of(server, body))
    if answer.get("error"):
        raise server.error("status 200, but an error instead of an answer", body)
    choice = first_of(answer.get("choices"))  # none in a report of usage
    text = choice.get("text")
    usage = object_of(answer.get("usage"))
    return _Part(text if isinstance(text, str) else None, text_of(choice.get("finish_reason")), usage)


def _completion(parts: Sequence[_Part], prompt: Sequence[int]) -> Completion:
    """What the parts add up to; the last of them that tells of the end or of usage counts."""
    text = "".join(part.text or "" for part in parts)
    reason = [part.finish_reason for part in parts if part.finish_reason][-1]
    usage = next((part.usage for part in reversed(parts) if part.usage), object_of(None))
    details = object_of(usage.get("completion_tokens_details"))
    counts = Usage(
        number_of(usage.get("prompt_tokens")) or len(prompt),
        number_of(usage.get("completion_tokens")),
        accepted_prediction_tokens=number_of(details.get("accepted_prediction_tokens")),
        rejected_prediction_tokens=number_of(details.get("rejected_prediction_tokens")),
    )
    return Completion(text, reason, counts)


def _unwritten(prompt: Sequence[int]) -> Completion:
    return Completion("", "context", Usage(len(prompt)))
