"""An Aligner as a process: `python -m aligner.engine --aligner NAME --socket PATH`.

It speaks over a Unix socket, one JSON object a line: open, append, finish and cancel come in; ready, token, done and
error go out. A connection that closes cancels its works; SIGTERM, or the end of the parent, ends the process.
"""

import argparse
import asyncio
import os
import signal
import socket
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast, get_args

import orjson

from aligner.config import Device
from aligner.correct import Aligner
from aligner.correcting.guards import sure_from
from aligner.correcting.messages import fields_of, instruction_of, order_of, question_of, text_of
from aligner.correcting.work import BackEnd, Order, Work, start_back_end
from aligner.correcting.writers import HasGate
from aligner.errors import AlignerError, MisuseError
from aligner.records import Completion, Correction
from aligner.serving.engine_process import LONGEST_LINE, Cause
from aligner.serving.wire import object_of

_MOST_UNREAD = 64 * 2**20
"""bytes that a client may leave unread"""
_SECONDS_BETWEEN_LOOKS = 0.5

Send = Callable[[Mapping[str, object]], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineConfig:
    """aligner.engine: what to load, where to listen, and how much to take on."""

    aligner: str
    """demo, a checkpoint folder or hub id, openai:MODEL[@BASE_URL], echo: or rules:FILE"""
    socket: Path
    """the Unix socket"""
    device: Device = "auto"
    """where to decode"""
    rows: int = 16
    """answers corrected at a time"""
    waiting: int = 256
    """answers that may wait besides"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until SIGTERM; returns the exit code, 1 also when decoding can no longer go on."""
    parent = os.getppid()
    config = _config(arguments)
    try:
        aligner = Aligner.from_pretrained(config.aligner, device=config.device)
        listener = _listening(config.socket)
    except AlignerError as error:
        return _say(" ".join(str(error).split()), error.exit_code)
    try:
        return asyncio.run(_serve(aligner, listener, config, parent=parent))
    finally:
        config.socket.unlink(missing_ok=True)


async def _serve(aligner: Aligner, listener: socket.socket, config: EngineConfig, *, parent: int) -> int:
    loop, ended = asyncio.get_running_loop(), asyncio.Event()
    problems: list[str] = []

    def broken(reason: str) -> None:
        problems.append(reason)
        with suppress(RuntimeError):  # it has ended anyway
            loop.call_soon_threadsafe(ended.set)

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ended.set)
    back_end = start_back_end(aligner.writer, config.rows, broken)
    desk = Desk(aligner, back_end, most=config.rows + config.waiting)
    server = await asyncio.start_unix_server(desk.talk, sock=listener, limit=LONGEST_LINE)
    watch = asyncio.create_task(_watch(parent, ended))
    await ended.wait()
    watch.cancel()
    server.close()
    await desk.close()
    back_end.close()
    return _say(f"decoding broke down: {problems[0]}", 1) if problems else 0


async def _watch(parent: int, ended: asyncio.Event) -> None:
    """A process that lost its parent has another one."""
    while os.getppid() == parent:  # noqa: ASYNC110  # nothing tells of it
        await asyncio.sleep(_SECONDS_BETWEEN_LOOKS)
    ended.set()


class Desk:
    """Takes in works from all connections, no more than can be held."""

    def __init__(self, aligner: Aligner, back_end: BackEnd, *, most: int) -> None:
        self.aligner = aligner
        self.back_end = back_end
        self.ordered: set[Work] = set()
        """works whose answers are whole"""
        self._most = most
        self._talks: set[asyncio.Task[Any]] = set()

    @property
    def is_full(self) -> bool:
        """Whether no more works can be ordered."""
        return len(self.ordered) >= self._most

    async def talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, from its first line to its last."""
        task = cast("asyncio.Task[None]", asyncio.current_task())
        self._talks.add(task)
        talk = _Talk(self, asyncio.get_running_loop(), _sender(writer))
        try:
            # Also a line that is too long, and a connection that breaks, are ends of it.
            with suppress(ValueError, OSError, asyncio.CancelledError):
                while line := await reader.readline():
                    talk.take(orjson.loads(line))
        finally:
            talk.end()
            writer.close()
            self._talks.discard(task)

    async def close(self) -> None:
        """End all connections."""
        talks = list(self._talks)
        for talk in talks:
            talk.cancel()
        await asyncio.gather(*talks, return_exceptions=True)


class _Talk:
    """What one connection has asked for."""

    def __init__(self, desk: Desk, loop: asyncio.AbstractEventLoop, send: Send) -> None:
        self._desk = desk
        self._loop = loop
        self._send = send
        self._works: dict[str, Work] = {}
        writer = desk.aligner.writer
        self._context: int | None = getattr(writer, "context", None)
        threshold = writer.threshold if isinstance(writer, HasGate) else None
        ready = {"op": "ready", "fingerprint": writer.fingerprint, "context": self._context}
        send({**ready, "threshold": threshold, "takes_instructions": writer.takes_instructions})

    def take(self, message: object) -> None:
        """Do what a message asks for; raises ValueError for one that belongs to no work."""
        fields = object_of(message)
        name = text_of(fields, "id")
        steps = {"open": self._open, "append": self._append, "finish": self._finish, "cancel": self._cancel}
        try:
            steps.get(text_of(fields, "op"), self._refuse)(name, fields)
        except ValueError as error:
            self._cancel(name, fields)
            self._fail(name, "engine_down", f"the engine does not understand: {error}")

    def end(self) -> None:
        """Nobody listens any more."""
        for name in list(self._works):
            self._cancel(name, {})

    def _open(self, name: str, fields: Mapping[str, object]) -> None:
        if name in self._works:
            raise ValueError("opened twice")
        question, instruction = question_of(fields.get("question")), instruction_of(fields)
        self._works[name] = work = Work(question, _Posted(self, name, self._loop), instruction)
        self._desk.back_end.open(work)

    def _append(self, name: str, fields: Mapping[str, object]) -> None:
        # A work may have failed while more of its answer was on the way.
        if (work := self._works.get(name)) is not None and work.order is None:
            self._desk.back_end.append(work, text_of(fields, "text"))

    def _finish(self, name: str, fields: Mapping[str, object]) -> None:
        if (work := self._works.get(name)) is None or work.order is not None:
            raise ValueError("finished twice, or before it was opened")
        order = _within_reason(order_of(work.question, fields, work.instruction), self._desk.aligner)
        if self._desk.is_full:
            self._cancel(name, fields)
            self._fail(name, "queue_full", "as many answers are waiting for their correction as may wait")
        else:
            work.ask(order)
            self._desk.ordered.add(work)
            self._desk.back_end.finish(work)

    def _refuse(self, _: str, __: Mapping[str, object]) -> None:
        raise ValueError("no such op")

    def _cancel(self, name: str, _: Mapping[str, object]) -> None:
        if (work := self._leave(name)) is not None:
            work.cancelled = True
            self._desk.back_end.drop(work)

    def _leave(self, name: str) -> Work | None:
        """The work is no longer one of those that are known here."""
        work = self._works.pop(name, None)
        if work is not None:
            self._desk.ordered.discard(work)
        return work

    def _fail(self, name: str, cause: Cause, message: str) -> None:
        self._send({"op": "error", "id": name, "cause": cause, "message": message})

    def piece(self, name: str, text: str) -> None:
        """Some more of a correction."""
        if name in self._works:
            self._send({"op": "token", "id": name, "text": text})

    def done(self, name: str, completion: Completion, seconds: Mapping[str, float]) -> None:
        """The whole of one."""
        if (work := self._leave(name)) is None or work.order is None:
            return
        if completion.finish_reason == "context":
            asked, context = completion.usage.prompt_tokens, self._context or 0
            line = f"question and answer have {asked:,} tokens, and the Aligner's context holds {context:,}"
            self._fail(name, "too_long", line)
        else:
            correction = _judged(self._desk.aligner, work.order, completion)
            self._send({"op": "done", "id": name, **fields_of(correction), "seconds": seconds})

    def failed(self, name: str, cause: Cause, message: str) -> None:
        """There will be none."""
        if self._leave(name) is not None:
            self._fail(name, cause, message)


class _Posted:
    """Hands on to a talk's own thread what another thread tells of a work."""

    def __init__(self, talk: _Talk, name: str, loop: asyncio.AbstractEventLoop) -> None:
        self._talk = talk
        self._name = name
        self._loop = loop

    def piece(self, text: str) -> None:
        """Some more of the correction."""
        self._post(self._talk.piece, text)

    def done(self, completion: Completion, seconds: Mapping[str, float]) -> None:
        """All of it."""
        self._post(self._talk.done, completion, seconds)

    def failed(self, cause: Cause, message: str) -> None:
        """There will be none."""
        self._post(self._talk.failed, cause, message)

    def _post(self, call: Callable[..., None], *values: object) -> None:
        # At the end of the process there may be nobody left to be told.
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(call, self._name, *values)


def _within_reason(order: Order, aligner: Aligner) -> Order:
    """No limit is below the length of the answer itself, whose upstream counted in tokens of its own."""
    encoder, most = getattr(aligner.writer, "encoder", None), order.sampling.max_tokens
    if encoder is None or most is None:
        return order
    least = len(encoder.text_ids(order.exchange.answer)) + 1  # and its end
    return replace(order, sampling=replace(order.sampling, max_tokens=max(most, least)))


def _judged(aligner: Aligner, order: Order, completion: Completion) -> Correction:
    guards = aligner.guards if order.gate is None else (sure_from(order.gate), *aligner.guards)
    return replace(aligner, guards=guards).judge(order.exchange, completion)


def _sender(writer: asyncio.StreamWriter) -> Send:
    """A function that sends messages for as long as the other side reads them."""

    def send(message: Mapping[str, object]) -> None:
        if writer.transport.get_write_buffer_size() > _MOST_UNREAD:
            writer.transport.abort()
        if not writer.is_closing():
            writer.write(orjson.dumps(message) + b"\n")

    return send


def _listening(path: Path) -> socket.socket:
    """A socket there, which nobody but its owner can reach; raises MisuseError."""
    listener = socket.socket(socket.AF_UNIX)
    try:
        if path.is_socket():
            path.unlink()
        listener.bind(str(path))
        path.chmod(0o600)  # until somebody listens, nobody can connect
    except OSError as error:
        listener.close()
        raise MisuseError(f"{path}: no socket can be made there: {error.strerror or error}") from error
    return listener


def _config(arguments: Sequence[str] | None) -> EngineConfig:
    parser = argparse.ArgumentParser(prog="python -m aligner.engine", argument_default=argparse.SUPPRESS)
    parser.add_argument("--aligner", required=True)
    parser.add_argument("--socket", required=True, type=Path)
    parser.add_argument("--device", choices=get_args(Device))
    parser.add_argument("--rows", type=int)
    parser.add_argument("--waiting", type=int)
    config = EngineConfig(**vars(parser.parse_args(arguments)))
    if config.rows < 1 or config.waiting < 0:
        parser.error("--rows begins at 1, and --waiting at 0")
    return config


def _say(line: str, code: int) -> int:
    sys.stderr.write(f"aligner: {line}\n")
    return code


if __name__ == "__main__":
    sys.exit(main())
