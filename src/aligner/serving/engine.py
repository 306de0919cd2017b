"""The client of an engine: the Aligner works in a process of its own, which is watched and started again."""

import asyncio
import logging
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal, NamedTuple, Self

from aligner.errors import AlignerError, MisuseError
from aligner.records import Edit, Question, Usage
from aligner.serving.engine_process import Answers, Cause, Connection, EngineFailure, EngineOptions, start

__all__ = ["Cause", "Engine", "EngineFailure", "EngineOptions", "Finished", "Gate", "Work"]

_HEALTHY = 60.0
"""seconds alive after which an engine that ends is started again without a longer pause"""
_LONGEST_PAUSE = 30.0
_WORTH_TELLING = 64
"""characters of an answer that are told at a time"""
_CANCELLED: Mapping[str, Any] = {"op": "error", "cause": "engine_down", "message": "the correction was cancelled"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """What became of an answer."""

    text: str
    changed: bool
    kept_reason: str | None
    """why the answer was kept, also where pieces of another text have come before"""
    edits: tuple[Edit, ...]
    confidence: float | None
    doubt: tuple[float, ...] | None
    spans: tuple[tuple[int, int], ...] | None
    """for each figure of the doubt, the characters of the answer that it is about"""
    usage: Usage
    seconds: Mapping[str, float]
    """`queue`; `read`, the prompt, but for what was read ahead; `verify`, the answer as a draft; `edit`, the rest"""


Gate = float | Literal["own"]
"""A probability from which an answer is kept, or that of the checkpoint."""


class Engine:
    """An Aligner in a process of its own, for as long as `async with Engine(options) as engine:` lasts.

    Entering waits until it is ready; raises MisuseError where no such Aligner can be loaded, and EngineFailure where
    it ends as it starts. An engine that ends later fails what is pending, and is started again.
    """

    def __init__(self, options: EngineOptions) -> None:
        self.options = options
        self._bare = ""
        self.context: int | None = None
        """tokens of prompt and correction together, where there is a limit"""
        self.takes_instructions = True
        self.threshold: float | None = None
        """the gate that the Aligner itself has, if any: a probability that no change is needed"""
        self.waiting = 0
        """whole answers whose corrections have not come to their ends"""
        self.connection: Connection | None = None
        self.socket = Path()
        """where the process listens"""

    async def __aenter__(self) -> Self:
        self._folder = TemporaryDirectory(prefix="aligner-engine-")  # nobody else can enter it
        self.socket = Path(self._folder.name) / "socket"
        try:
            await self._start()
        except BaseException:
            self._folder.cleanup()
            raise
        self._keeper = asyncio.create_task(self._keep())
        return self

    async def __aexit__(self, *_: object) -> None:
        self.connection = None
        self._keeper.cancel()
        with suppress(asyncio.CancelledError):
            await self._keeper
        await self._newest.end()
        self._folder.cleanup()

    @property
    def alive(self) -> bool:
        """Whether there is a process that is ready."""
        return self.connection is not None

    @property
    def fingerprint(self) -> str:
        """Two engines with the same fingerprint write the same."""
        return self.told()

    def told(self, instruction: str = "") -> str:
        """The fingerprint of what it writes where it is told this, if not the usual."""
        return _told(self._bare, instruction or self.options.instruction)

    def open(self, question: Question, instruction: str = "") -> "Work":
        """Say that an answer to this question is being written, and what the Aligner is told, if not the usual."""
        return Work(self, question, instruction or self.options.instruction)

    async def _start(self) -> None:
        self._newest = await start(self.options, self.socket)
        if self.options.instruction and not self._newest.takes_instructions:
            await self._newest.end()
            raise MisuseError(f"{self.options.aligner} takes no instruction: train an Aligner on rows that have some")
        self.connection = self._newest
        self._bare = self._newest.fingerprint
        self.context, self.threshold = self._newest.context, self._newest.threshold
        self.takes_instructions = self._newest.takes_instructions

    async def _keep(self) -> None:
        """Whenever the engine has ended, start it again."""
        clock, pause = asyncio.get_running_loop().time, self.options.restart_after
        while True:
            began = clock()
            await self._newest.listen()
            self.connection = None
            code = await self._newest.end()
            pause = self.options.restart_after if clock() - began > _HEALTHY else pause
            _log(f"the engine ended with exit code {code}, and is started again in {pause:g} s")
            while self.connection is None:
                await asyncio.sleep(pause)
                pause = min(2 * pause, _LONGEST_PAUSE)
                try:
                    await self._start()
                except (AlignerError, OSError) as error:
                    _log(f"{error}; the next try is in {pause:g} s")


class _Opened(NamedTuple):
    """A work that an engine knows of."""

    connection: Connection
    name: str
    answers: Answers


class Work:
    """One correction, from its question to its end; whoever lets go of it before that cancels it."""

    def __init__(self, engine: Engine, question: Question, instruction: str = "") -> None:
        self._opened: _Opened | None = None
        self._engine = engine
        self._question = question
        self._instruction = instruction
        self._loop = asyncio.get_running_loop()
        self._untold: list[str] = []
        self._tells = self._finished = self._ended = False
        if engine.connection is not None:
            with suppress(EngineFailure):  # which is raised when it is finished
                self._open(engine.connection)
                self._tells = True

    def __del__(self) -> None:
        if self._opened is not None and not self._ended:
            with suppress(RuntimeError):  # the loop was closed
                self._loop.call_soon_threadsafe(self._opened.connection.forget, self._opened.name)

    def append(self, text: str) -> None:
        """Tell what has come of the answer, so that it is read ahead; never blocks, and never raises."""
        if not self._tells or self._opened is None:
            return
        self._untold.append(text)
        if sum(map(len, self._untold)) >= _WORTH_TELLING:
            message = {"op": "append", "id": self._opened.name, "text": "".join(self._untold)}
            # What comes behind a gap would be of no use.
            self._tells = self._opened.connection.hint(message)
            self._untold.clear()

    async def finish(
        self,
        answer: str,
        *,
        stop: Sequence[str] = (),
        gate: Gate | None = None,
        doubt: bool = False,
        max_tokens: int | None = None,
    ) -> AsyncGenerator[str | Finished, None]:
        """The pieces of the correction of the whole answer as they are decoded, and last what became of it.

        With a `gate`, a probability from which the answer is kept, nothing comes before that is known; "own" is that
        of the checkpoint which corrects this answer, without which the answer is corrected. Where the answer is kept
        for another reason, pieces of another text may have come. Raises EngineFailure.
        """
        if self._finished:
            raise ValueError("a work is finished once")
        self._finished, self._tells = True, False
        order = {"answer": answer, "stop": list(stop), "gate": gate, "doubt": doubt, "max_tokens": max_tokens}
        deadline = self._loop.time() + self._engine.options.seconds
        self._engine.waiting += 1
        try:
            answers = self._order(order)
            while (message := await self._next(answers, deadline))["op"] == "token":
                yield message["text"]
            self._ended = True
            if message["op"] == "error":
                raise EngineFailure(message["cause"], message["message"])
            yield _finished(message)
        finally:
            self._engine.waiting -= 1
            self.cancel()

    def cancel(self) -> None:
        """Let go of it; whoever waits for the correction gets an EngineFailure."""
        if self._ended:
            return
        self._ended, self._tells = True, False
        if self._opened is not None:
            self._opened.connection.forget(self._opened.name)
            self._opened.answers.put_nowait(_CANCELLED)

    def _open(self, connection: Connection) -> _Opened:
        self._opened = _Opened(connection, *connection.open(self._question, self._instruction))
        return self._opened

    def _order(self, order: Mapping[str, Any]) -> Answers:
        """Ask the engine that there is now; the question may have been told to one that has ended since."""
        opened, connection = self._opened, self._engine.connection
        if self._ended:
            raise EngineFailure("engine_down", _CANCELLED["message"])
        if connection is None:
            raise EngineFailure("engine_down", "the engine is not running")
        if opened is None or opened.connection is not connection:
            opened = self._open(connection)
        # An engine that was started again may have read another curve, which no older threshold belongs to.
        gate = connection.threshold if order["gate"] == "own" else order["gate"]
        connection.send({"op": "finish", "id": opened.name, **order, "gate": gate})
        return opened.answers

    async def _next(self, answers: Answers, deadline: float) -> Mapping[str, Any]:
        """What the engine says next; what it has said already is never too late."""
        if not answers.empty():
            return answers.get_nowait()
        try:
            async with asyncio.timeout_at(deadline):
                return await answers.get()
        except TimeoutError:
            seconds = self._engine.options.seconds
            raise EngineFailure("timeout", f"no correction within {seconds:g} s") from None


def _told(fingerprint: str, instruction: str) -> str:
    """The fingerprint of what else is told."""
    return f"{fingerprint}+{sha256(instruction.encode()).hexdigest()[:8]}" if instruction else fingerprint


def _finished(message: Mapping[str, Any]) -> Finished:
    return Finished(
        text=message["text"],
        changed=message["changed"],
        kept_reason=message["kept_reason"],
        edits=tuple(Edit(*edit) for edit in message["edits"]),
        confidence=message["confidence"],
        doubt=None if message["doubt"] is None else tuple(message["doubt"]),
        spans=None if message["spans"] is None else tuple((start, end) for start, end in message["spans"]),
        usage=Usage(**message["usage"]),
        seconds=message["seconds"],
    )


def _log(line: str) -> None:
    logging.getLogger("aligner").warning("%s", line)
