"""One request through the proxy: ask the upstream, correct each choice of its answer, and send what became of it."""

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any, cast

import orjson

from aligner.records import Question
from aligner.serving.breaker import Breaker, BreakerOpenError, End
from aligner.serving.client import EVENT_STREAM, Client
from aligner.serving.engine import Cause, Engine, EngineFailure, Finished, Work
from aligner.serving.frames import END, Frame, FrameReader, frame_of
from aligner.serving.replay import Correcting, CutShortError, replay
from aligner.serving.served import Outcome, Policy, Served
from aligner.serving.upstream import Headers, Reply, Upstream
from aligner.serving.wire import (
    Asked,
    Json,
    WireError,
    answer_of,
    choices_of,
    delta_of,
    index_of,
    joined,
    object_in,
    object_of,
    skip_reason,
    split_reasoning,
    with_answer,
    written,
)

PATHS = {"chat": "/chat/completions", "completions": "/completions"}
CUT = WireError(502, "the upstream's answer was cut off", "upstream_cut", "upstream_error")
_PAID = (("x-should-retry", "false"),)
"""a client that tries again would pay the upstream again"""
_SMALL = 2**20
"""bytes of an answer that is passed on in one piece, where its length was told"""
_BROKEN: frozenset[Cause] = frozenset({"timeout", "out_of_memory"})
"""failures after which the Aligner is left alone; one that is down fails at once, and is back as soon as it is up"""


@dataclass(frozen=True, slots=True)
class Proxy:
    """An upstream, and the engine that corrects its answers."""

    upstream: Upstream
    engine: Engine
    policy: Policy
    open_after: float
    heartbeat: float
    breaker: Breaker = field(default_factory=Breaker)
    """before the Aligner"""

    async def relay(
        self,
        client: Client,
        method: str,
        path: str,
        *,
        headers: Headers,
        body: bytes | AsyncIterator[bytes] | None,
        told: Headers,
    ) -> None:
        """Pass a request on, and its answer back, as they are; `told` are headers of our own."""
        async with self.upstream.send(method, path, headers, body) as reply:
            if method == "HEAD":
                lengths = [] if reply.length is None else [("content-length", str(reply.length))]
                await client.start(reply.status, [*reply.headers, *told, *lengths])
                await client.end()
                return
            if reply.length is not None and reply.length <= _SMALL:
                await client.answer(reply.status, [*reply.headers, *told], await whole(reply))
                return
            await client.start(reply.status, [*reply.headers, *told])
            async for chunk in reply.chunks:
                await client.write(chunk)
            await client.end()

    async def off(self, client: Client, served: Served, headers: Headers) -> None:
        """Pass the answer back as it is."""
        asked = served.asked
        path, told = PATHS[asked.route], served.headers
        served.ask()
        await self.relay(client, "POST", path, headers=headers, body=asked.body, told=told)
        served.answer()

    async def shadow(self, client: Client, served: Served, headers: Headers) -> None:
        """Pass the answer back at once, and keep a copy of one that `reflect` can correct."""
        asked = served.asked
        served.ask()
        async with self.upstream.send("POST", PATHS[asked.route], headers, asked.body) as reply:
            await client.start(reply.status, [*reply.headers, *served.headers])
            async for chunk in reply.chunks:
                if reply.status == 200:
                    served.copy.append(chunk)
                await client.write(chunk)
            await client.end()
        served.answer()

    async def reflect(self, served: Served) -> None:
        """Correct an answer that was sent already, for the log alone; one that is no answer is left out."""
        asked, begun, body = served.asked, time.perf_counter(), b"".join(served.copy)
        if asked.streamed:
            reader = FrameReader(largest=len(body))
            choices = gathered([*reader.add(body), *reader.rest()])
        else:
            try:
                choices = choices_of(completion_of(body))
            except WireError:
                return
        served.outcomes = list(await asyncio.gather(*(self._outcome(asked, choice) for choice in choices)))
        served.correct_seconds = time.perf_counter() - begun

    async def correct(self, client: Client, served: Served, headers: Headers) -> None:
        """Send the answer as it was asked for, whole or piece by piece, each of its choices corrected."""
        send = self._correct_stream if served.asked.streamed else self._correct_whole
        await send(client, served, headers)

    async def _correct_whole(self, client: Client, served: Served, headers: Headers) -> None:
        asked = served.asked
        served.ask()
        async with self.upstream.send("POST", PATHS[asked.route], headers, asked.body) as reply:
            body = await whole(reply)
        served.answer()
        if reply.status != 200:
            await client.answer(reply.status, [*reply.headers, *served.headers], body)
            return
        completion = completion_of(body)
        choices, begun = choices_of(completion), time.perf_counter()
        served.outcomes = list(await asyncio.gather(*(self._outcome(asked, choice) for choice in choices)))
        served.correct_seconds = time.perf_counter() - begun
        if any(outcome.changed for outcome in served.outcomes):
            changed = [
                with_answer(asked.route, choice, outcome.thought + outcome.text) if outcome.changed else choice
                for choice, outcome in zip(choices, served.outcomes, strict=True)
            ]
            completion = {**completion, "choices": changed}
            body = written(completion)
        if asked.wants_report:
            body = written({**completion, "aligner": served.report})
        await client.answer(200, [*reply.headers, *served.headers], body)

    async def _correct_stream(self, client: Client, served: Served, headers: Headers) -> None:
        """Comments while the answer is read and corrected, then what became of it."""
        asked = served.asked
        served.ask()
        async with AsyncExitStack() as stack, client.kept_alive(self.heartbeat):
            sending = self.upstream.send("POST", PATHS[asked.route], headers, asked.body)
            entering = asyncio.create_task(stack.enter_async_context(sending))
            try:
                await asyncio.wait([entering], timeout=self.open_after)
                if not entering.done():
                    await client.start(200, [*EVENT_STREAM, *served.headers])
                reply = await entering
            finally:
                entering.cancel()
            if reply.status != 200 and not client.started:
                await client.answer(reply.status, [*reply.headers, *served.headers], await whole(reply))
                return
            if reply.status != 200:
                raise error_in(reply.status, await whole(reply))
            if reply.content_type != "text/event-stream":
                raise WireError(502, "the upstream does not stream", "upstream_garbage", "upstream_error")
            if not client.started:
                kept = [(n, v) for n, v in reply.headers if n not in dict(EVENT_STREAM)]
                await client.start(200, [*kept, *EVENT_STREAM, *served.headers])
            await self._corrected_stream(client, served, reply)

    async def _corrected_stream(self, client: Client, served: Served, reply: Reply) -> None:
        asked, works = served.asked, dict[int, Work]()
        try:
            lost: list[WireError] = []
            frames = [frame async for frame in self._read_ahead(asked, reply, works, lost)]
            served.answer()
            begun = time.perf_counter()
            choices = gathered(frames)
            if not is_whole(frames, choices):
                told = frames if self.policy.broken else [frame for frame in frames if frame.is_error]
                await client.end(_broken_off(told, lost[0] if lost else CUT))
                return
            ends = next((place for place, frame in enumerate(frames) if frame.is_end), len(frames))
            await self._replay(client, served, frames[:ends], choices, works)
            served.correct_seconds = time.perf_counter() - begun
            report = _reporting(frames, served.report) if asked.wants_report else b""
            await client.end(report + b"".join(frame.raw for frame in frames[ends:]))
        finally:
            for work in works.values():
                work.cancel()

    async def _read_ahead(
        self, asked: Asked, reply: Reply, works: dict[int, Work], lost: list[WireError]
    ) -> AsyncIterator[Frame]:
        """The frames as they come; the engine reads their text at once."""
        async for frame in _frames(reply, lost):
            for choice in choices_of(frame.event or {}):
                index, piece = index_of(choice), delta_of(asked.route, choice)
                if piece and index not in works and (question := asked.question(index)) is not None:
                    works[index] = self.engine.open(question, asked.instruction)
                if piece and index in works:
                    works[index].append(piece)
            yield frame

    async def _replay(
        self,
        client: Client,
        served: Served,
        frames: Sequence[Frame],
        choices: Sequence[Json],
        works: Mapping[int, Work],
    ) -> None:
        asked = served.asked
        served.outcomes = [self._begun(asked, choice) for choice in choices]
        states = {o.index: Correcting(o.thought + o.answer, o.thought) for o in served.outcomes if o.skipped is None}
        async with asyncio.TaskGroup() as group:
            for outcome in served.outcomes:
                if (state := states.get(outcome.index)) is not None:
                    group.create_task(self._follow(asked, outcome, state, works[outcome.index]))
            try:
                async for chunk in replay(asked.route, frames, states):
                    await client.write(chunk)
            except CutShortError:
                raise WireError(
                    503, "the correction was taken back", "corrector_unavailable", "server_error", headers=_PAID
                ) from None

    async def _follow(self, asked: Asked, outcome: Outcome, state: Correcting, work: Work) -> None:
        """Take over what the engine writes for one choice."""
        await self._finish(asked, outcome, work, state.add)
        state.end(outcome.thought + outcome.text)

    async def _outcome(self, asked: Asked, choice: Json) -> Outcome:
        """One choice, corrected if it can be."""
        outcome = self._begun(asked, choice)
        if outcome.skipped is None and outcome.question is not None:
            work = self.engine.open(outcome.question, asked.instruction)
            try:
                await self._finish(asked, outcome, work, lambda _: None)
            finally:
                work.cancel()
        return outcome

    def _begun(self, asked: Asked, choice: Json) -> Outcome:
        policy, index = self.policy, index_of(choice)
        reason = skip_reason(asked, choice, truncated=policy.truncated, json=policy.json)
        thought, answer = split_reasoning(answer_of(asked.route, choice) or "")
        return Outcome(index, asked.question(index), answer, answer, thought, skipped=reason)

    async def _finish(self, asked: Asked, outcome: Outcome, work: Work, show: Callable[[str], None]) -> None:
        """The correction of one choice; after a failure the original, or WireError, as the policy says."""
        try:
            async for item in self._pieces(
                work.finish(
                    outcome.answer,
                    stop=asked.stop,
                    # It was fitted to what the operator tells, and says nothing of what anybody else does.
                    gate=None if asked.instruction else self.policy.gate,
                    doubt=self.policy.doubt,
                    max_tokens=asked.limit,
                )
            ):
                if isinstance(item, str):
                    show(item)
                else:
                    outcome.finished, outcome.text = item, item.text
        except EngineFailure as failure:
            if not self.policy.fails_open(failure.cause):
                raise WireError(
                    503,
                    f"the answer could not be corrected: {failure.cause}",
                    "corrector_unavailable",
                    "server_error",
                    headers=(*_PAID, ("x-aligner-bypass", failure.cause)),
                ) from None
            if failure.cause == "too_long":  # no failure of the Aligner, but nothing that it could read
                outcome.skipped = "too_long"
            else:
                outcome.bypass = failure.cause
            outcome.text = outcome.answer
        if outcome.changed and asked.wants_json and not _is_json(outcome.text):
            outcome.text, outcome.skipped = outcome.answer, "json"

    async def _pieces(self, pieces: AsyncGenerator[str | Finished, None]) -> AsyncIterator[str | Finished]:
        """What the engine writes; raises EngineFailure also while it is left alone after failures in a row."""
        try:
            attempt = self.breaker.admit()
        except BreakerOpenError as error:
            raise EngineFailure("engine_down", f"the Aligner is {error}") from None
        end: End = "neutral"
        try:
            async for item in pieces:
                yield item
            end = "good"
        except EngineFailure as failure:
            end = "bad" if failure.cause in _BROKEN else "neutral"
            raise
        finally:
            attempt.settle(end)


def question_of(value: object) -> Question:
    """A question in the body of a request: a text, or messages; raises WireError."""
    messages = [{"role": "user", "content": value}] if isinstance(value, str) else value
    asked = Asked("chat", {"messages": messages}, {}, b"")
    question = asked.question(0)
    if question is None:
        raise WireError(400, '"question" is neither a text nor messages with a user\'s turn', "wrong_type")
    return question


def error_of(problem: BaseException) -> WireError | None:
    """The WireError in what was raised, alone or in a group."""
    if isinstance(problem, BaseExceptionGroup):
        return next((found for e in cast("Any", problem).exceptions if (found := error_of(e)) is not None), None)
    return problem if isinstance(problem, WireError) else None


async def whole(reply: Reply) -> bytes:
    """The body of an answer."""
    return b"".join([chunk async for chunk in reply.chunks])


async def _frames(reply: Reply, lost: list[WireError]) -> AsyncIterator[Frame]:
    """The frames of a stream; one that breaks off, which `lost` is told, gets the end that it lacks."""
    reader, ended = FrameReader(), False
    try:
        async for chunk in reply.chunks:
            for frame in reader.add(chunk):
                ended = ended or frame.is_end
                yield frame
    except (WireError, ValueError) as problem:
        garbage = WireError(502, str(problem), "upstream_garbage", "upstream_error")
        lost.append(problem if isinstance(problem, WireError) else garbage)
        if not ended:
            yield END
        return
    for frame in reader.rest():
        yield frame


def error_in(status: int, body: bytes) -> WireError:
    """The upstream's own error, for a stream whose status was sent before."""
    said: object = object_in(body).get("error")
    told = object_of(said) or {"message": said}
    if not isinstance(message := told.get("message"), str):
        return WireError(502, f"the upstream answered with status {status}", "upstream_failed", "upstream_error")
    return WireError(status, message, told.get("code"), told.get("type") or "upstream_error")


def completion_of(body: bytes) -> Json:
    """The object in an answer with status 200; raises WireError where it is none, or an error."""
    found = object_in(body)
    if not isinstance(found.get("choices"), list):
        raise WireError(502, "the upstream's answer is no completion", "upstream_garbage", "upstream_error")
    return found


def _is_json(text: str) -> bool:
    try:
        orjson.loads(text)
    except orjson.JSONDecodeError:
        return False
    return True


def gathered(frames: Iterable[Frame]) -> list[Json]:
    """The choices that a stream brought."""
    return joined(choice for frame in frames for choice in choices_of(frame.event or {}))


def is_whole(frames: Sequence[Frame], choices: Sequence[Json]) -> bool:
    """Whether the upstream brought every choice to its end."""
    return bool(choices) and all(choice["finish_reason"] for choice in choices) and not any(f.is_error for f in frames)


def _reporting(frames: Sequence[Frame], report: Json) -> bytes:
    """A chunk without choices, like those before it, that says what became of them."""
    like = next(frame.event for frame in reversed(frames) if frame.event is not None)
    named = {name: like[name] for name in ("id", "object", "created", "model") if name in like}
    return frame_of({**named, "choices": list[Json](), "usage": None, "aligner": report})


def _broken_off(frames: Sequence[Frame], lost: WireError) -> bytes:
    """A stream that its upstream did not end well: what came of it, and an error that every client understands."""
    sent, error = list[bytes](), lost.frame
    for frame in frames:
        # A client stops reading at an event that it does not understand, and would not see the error.
        is_garbage = frame.data is not None and frame.event is None
        if not is_garbage and not frame.is_error:
            sent.append(frame.raw)
        elif frame.is_error:
            said = (frame.event or {})["error"]
            problem = WireError(502, str(said), "upstream_failed", "upstream_error")
            error = frame.raw + b"data: [DONE]\n\n" if isinstance(said, dict) else problem.frame
    return b"".join([*sent, error])
