"""The playground's question: the original as it comes, its correction as it is decoded, and what became of both."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, cast

import orjson

from aligner.records import Edit
from aligner.serving.client import EVENT_STREAM, Client
from aligner.serving.engine import Finished, Work
from aligner.serving.journal import usage_of
from aligner.serving.proxy import CUT, PATHS, Proxy, completion_of, error_in, gathered, is_whole, whole
from aligner.serving.served import Outcome, Served
from aligner.serving.upstream import Headers, Reply
from aligner.serving.wire import (
    Asked,
    Json,
    WireError,
    answer_of,
    choices_of,
    delta_of,
    index_of,
    read_object,
    read_request,
    written,
)

_FORWARDED = ("model", "messages", "temperature", "max_tokens")
_CHOICES = ("upstream", "aligner", "mode", "conversation", "instruction", "objective")
_STAGES = ("queue", "read", "verify", "edit")
_NONE: Json = {}


class Wanted(NamedTuple):
    """What a page asks for."""

    asked: Asked
    upstream: str | None = None
    aligner: str | None = None
    mode: str | None = None
    conversation: str | None = None
    instruction: str | None = None
    objective: str | None = None


class Events(Client):
    """A client that is told named events; an error is one of them, and the last."""

    async def tell(self, name: str, fields: Mapping[str, Any]) -> None:
        """Send one event."""
        await self.write(event_of(name, fields))

    async def refuse(self, error: WireError, headers: Iterable[tuple[str, str]] = ()) -> None:
        """Send an error: as a status, or as the last event."""
        if not self.started:
            await super().refuse(error, headers)
        elif not self.ended:
            await self.end(event_of("error", {"message": error.message, "code": error.code}))


@dataclass(frozen=True, slots=True)
class Asking(Proxy):
    """A proxy that shows all that it does."""

    names: tuple[str, str] = ("default", "default")
    """of the upstream and of the Aligner"""
    logs: bool = False

    async def uncorrected(self, client: Client, served: Served, headers: Headers) -> None:
        """The original alone."""
        work = self.engine.open("")
        work.cancel()  # so that it takes nothing in
        await self._ask(client, served, headers, {0: work}, corrects=False)

    async def both(self, client: Client, served: Served, headers: Headers) -> None:
        """The original, and its correction."""
        await self._ask(client, served, headers, {}, corrects=True)

    async def _ask(
        self, client: Client, served: Served, headers: Headers, works: dict[int, Work], *, corrects: bool
    ) -> None:
        asked, events = served.asked, cast("Events", client)
        upstream, aligner = self.names
        model = str(asked.payload.get("model"))
        started = {"id": served.id, "upstream": upstream, "aligner": aligner, "model": model, "mode": served.mode}
        await client.start(200, [*EVENT_STREAM, *served.headers])
        await events.tell("start", started)
        try:
            async with client.kept_alive(self.heartbeat):
                served.ask()
                async with self.upstream.send("POST", PATHS["chat"], headers, asked.body) as reply:
                    choice = await self._original(events, asked, reply, works)
                served.answer()
                told = {"seconds": served.upstream_seconds, "finish_reason": choice.get("finish_reason")}
                await events.tell("upstream", told)
                served.outcomes = [outcome := self._begun(asked, choice)]
                if corrects and outcome.skipped is None:
                    begun = time.perf_counter()
                    await self._correction(events, asked, outcome, works.get(0))
                    served.correct_seconds = time.perf_counter() - begun
                await client.end(event_of("done", {**done_of(served, outcome), "logged": self.logs}))
        finally:
            for work in works.values():
                work.cancel()

    async def _original(self, events: Events, asked: Asked, reply: Reply, works: dict[int, Work]) -> Json:
        """The first choice, shown as it comes, while the engine reads it; raises WireError where it has no end."""
        if reply.status != 200:
            raise error_in(reply.status, await whole(reply))
        if reply.content_type != "text/event-stream":
            choices = choices_of(completion_of(await whole(reply)))
            if not choices:
                raise WireError(502, "the upstream's answer has no choice", "upstream_garbage", "upstream_error")
            await _show(events, "original", answer_of(asked.route, choices[0]) or "")
            return choices[0]
        lost: list[WireError] = []
        frames = [frame async for frame in self._shown(events, asked, reply, works, lost)]
        choices = gathered(frames)
        if not is_whole(frames, choices):
            said = next((frame.event for frame in frames if frame.is_error), None)
            raise error_in(502, orjson.dumps(said)) if said else lost[0] if lost else CUT
        return choices[0]

    async def _shown(
        self, events: Events, asked: Asked, reply: Reply, works: dict[int, Work], lost: list[WireError]
    ) -> AsyncIterator[Any]:
        """The frames of a stream, whose text was shown."""
        async for frame in self._read_ahead(asked, reply, works, lost):
            for choice in choices_of(frame.event or _NONE):
                if index_of(choice) == 0:
                    await _show(events, "original", delta_of(asked.route, choice))
            yield frame

    async def _correction(self, events: Events, asked: Asked, outcome: Outcome, work: Work | None) -> None:
        """Correct the answer, and show the pieces."""
        pieces = asyncio.Queue[str | None]()
        async with asyncio.TaskGroup() as group:
            group.create_task(self._finished(asked, outcome, work, pieces))
            while (piece := await pieces.get()) is not None:
                await _show(events, "correction", piece)

    async def _finished(
        self, asked: Asked, outcome: Outcome, work: Work | None, pieces: asyncio.Queue[str | None]
    ) -> None:
        work = work or self.engine.open(outcome.question or "", asked.instruction)
        try:
            await self._finish(asked, outcome, work, pieces.put_nowait)
        finally:
            work.cancel()
            pieces.put_nowait(None)


def read_ask(body: bytes) -> Wanted:
    """What a page asks for; raises WireError, 400, where it makes no sense."""
    given = read_object(body)
    for name in ("model", *_CHOICES):
        if not isinstance(given.get(name), str | None):
            raise WireError(400, f'"{name}" is no text', "wrong_type", param=name)
    payload = {name: given[name] for name in _FORWARDED if given.get(name) is not None}
    asked = read_request("chat", orjson.dumps({**payload, "stream": True}))
    return Wanted(asked, *(cast("str | None", given.get(name)) for name in _CHOICES))


def event_of(name: str, fields: Mapping[str, Any]) -> bytes:
    """A named event; raises WireError, 502, for what an upstream nested more deeply than can be written."""
    return b"event: %b\ndata: %b\n\n" % (name.encode(), written(fields))


def done_of(served: Served, outcome: Outcome) -> Json:
    """What became of a question."""
    finished = outcome.finished
    seconds = dict.fromkeys(_STAGES, 0.0) | dict(finished.seconds if finished else _NONE)
    total = time.perf_counter() - served.started
    overhead = total - served.upstream_seconds - sum(seconds.values())
    return {
        "id": served.id,
        "answer": outcome.answer,
        "thought": outcome.thought,
        "correction": outcome.text,
        "changed": outcome.changed,
        "skipped": outcome.skipped,
        "bypass": outcome.bypass,
        "kept_reason": finished.kept_reason if finished else None,
        "confidence": finished.confidence if finished else None,
        "edits": [list(edit) for edit in _edits(outcome)],
        "edit_share": outcome.edit_share,
        "doubt": doubted(finished) if finished else None,
        "seconds": {"upstream": served.upstream_seconds, **seconds, "overhead": max(overhead, 0.0)},
        "usage": usage_of(outcome),
    }


def doubted(finished: Finished) -> list[tuple[int, int, float]] | None:
    """Start and end, in characters of the answer, and how much is doubted there, in order; a letter is whole."""
    if finished.doubt is None or finished.spans is None:
        return None
    most: dict[tuple[int, int], float] = {}
    for span, doubt in zip(finished.spans, finished.doubt, strict=False):
        most[span] = max(most.get(span, 0.0), doubt)
    return [(start, end, doubt) for (start, end), doubt in most.items() if end > start]


def _edits(outcome: Outcome) -> Sequence[Edit]:
    return outcome.finished.edits if outcome.finished is not None and outcome.changed else ()


async def _show(events: Events, name: str, text: str) -> None:
    if text:
        await events.tell(name, {"text": text})
