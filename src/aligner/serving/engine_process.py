"""The process of an engine, and the connection to it."""

import asyncio
import logging
import os
import signal
import sys
from collections import deque
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any, Literal

import orjson

from aligner.errors import MisuseError, ModelError
from aligner.records import Question

LONGEST_LINE = 64 * 2**20
"""bytes of one message"""
_MOST_UNSENT = 2**20
"""bytes that may wait for the engine before it is no longer told what it can do without"""
_SECONDS_BETWEEN_TRIES = 0.02
_SECONDS_TO_END = 5.0
_SECONDS_FOR_LAST_WORDS = 1.0
_LINES_KEPT = 20

Cause = Literal["timeout", "out_of_memory", "engine_down", "queue_full", "insane_output", "too_long"]
Message = Mapping[str, Any]
Answers = asyncio.Queue[Message]


class EngineFailure(ModelError):  # noqa: N818  # a policy decides whether it is an error
    """There is no correction; the cause decides what becomes of the answer."""

    def __init__(self, cause: Cause, message: str) -> None:
        super().__init__(message)
        self.cause: Cause = cause
        self.message = message


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineOptions:
    """Which Aligner, and how much it takes on."""

    aligner: str
    """demo, a checkpoint folder or hub id, openai:MODEL[@BASE_URL], echo: or rules:FILE"""
    instruction: str = ""
    """what it is told where a work does not say so"""
    device: str = "auto"
    """where it decodes"""
    rows: int = 16
    """answers corrected at a time"""
    waiting: int = 256
    """answers that may wait besides"""
    seconds: float = 60.0
    """for one correction, from the end of its answer"""
    restart_after: float = 1.0
    """seconds before an engine that has ended is started again; they double while it does not stay alive"""


class Connection:
    """An engine that has said that it is ready, and the works that it was given."""

    def __init__(
        self, process: asyncio.subprocess.Process, streams: tuple[asyncio.StreamReader, asyncio.StreamWriter]
    ) -> None:
        self.fingerprint = ""
        self.context: int | None = None
        self.threshold: float | None = None
        self.takes_instructions = True
        self._process = process
        self._reader, self._writer = streams
        self._answers: dict[str, Answers] = {}
        self._names = count()

    @property
    def pid(self) -> int:
        """Of the process."""
        return self._process.pid

    @property
    def pending(self) -> int:
        """Works that have neither ended nor been cancelled."""
        return len(self._answers)

    async def greet(self) -> None:
        """Wait until the engine says who it is; raises EngineFailure where it says anything else."""
        line = await self._reader.readline()
        ready: dict[str, Any] = orjson.loads(line) if line else {}
        if ready.get("op") != "ready":
            raise EngineFailure("engine_down", "the engine ended as it began")
        self.fingerprint, self.context, self.threshold = (ready[key] for key in ("fingerprint", "context", "threshold"))
        self.takes_instructions = bool(ready["takes_instructions"])

    def open(self, question: Question, instruction: str = "") -> tuple[str, Answers]:
        """The name of a new work, and the queue of what is said of it; raises EngineFailure as `send` does."""
        name = str(next(self._names))
        told = {"instruction": instruction} if instruction else {}
        self.send({"op": "open", "id": name, "question": question, **told})
        self._answers[name] = answers = Answers()
        return name, answers

    def send(self, message: Message) -> None:
        """Tell the engine something; raises EngineFailure for what cannot be told."""
        try:
            line = orjson.dumps(message)
        except TypeError as error:
            raise EngineFailure("insane_output", f"a text that is no Unicode: {error}") from None
        if len(line) >= LONGEST_LINE:
            raise EngineFailure("too_long", f"a message of {len(line):,} bytes, and the engine takes {LONGEST_LINE:,}")
        if not self._writer.is_closing():
            self._writer.write(line + b"\n")

    def hint(self, message: Message) -> bool:
        """Tell the engine what it can do without; returns whether it was told."""
        if self._writer.transport.get_write_buffer_size() > _MOST_UNSENT:
            return False
        try:
            self.send(message)
        except EngineFailure:
            return False
        return True

    def forget(self, name: str) -> None:
        """Cancel a work; nothing more is said of it."""
        if self._answers.pop(name, None) is not None:
            self.send({"op": "cancel", "id": name})

    async def listen(self) -> None:
        """Hand on what the engine says, until it says no more."""
        with suppress(ValueError, OSError):
            while line := await self._reader.readline():
                self._hand_on(orjson.loads(line))

    async def end(self) -> int:
        """Fail every work that is left, and end the process, if need be by force; returns its exit code."""
        down = {"op": "error", "cause": "engine_down", "message": "the engine ended before the correction did"}
        for answers in self._answers.values():
            answers.put_nowait(down)
        self._answers.clear()
        self._writer.transport.abort()  # what a process that hangs has not read would never be sent
        with suppress(OSError):
            await self._writer.wait_closed()
        return await ended(self._process)

    def _hand_on(self, message: dict[str, Any]) -> None:
        name = message["id"]
        last = message["op"] != "token"
        answers = self._answers.pop(name, None) if last else self._answers.get(name)
        if answers is not None:  # it may have been cancelled while this was on the way
            answers.put_nowait(message)


async def start(options: EngineOptions, path: Path) -> Connection:
    """Start an engine that listens there, and wait until it is ready.

    Raises MisuseError where no such Aligner can be loaded, and EngineFailure where the engine ends as it starts.
    """
    arguments = {"aligner": options.aligner, "socket": path, "device": options.device, "rows": options.rows}
    flags = [text for name, value in arguments.items() for text in (f"--{name}", str(value))]
    command = [sys.executable, "-m", "aligner.engine", *flags, "--waiting", str(options.waiting)]
    process = await asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
        # Ctrl-C is for whoever started it, who may have something to finish first.
        start_new_session=True,
    )
    words = _Words(process)
    try:
        connection = Connection(process, await _connected(process, path))
        await connection.greet()
    except (EngineFailure, OSError, ValueError) as error:
        raise await _failure(process, words, error) from error
    except BaseException:
        await ended(process)
        raise
    words.log()
    return connection


async def ended(process: asyncio.subprocess.Process) -> int:
    """End a process with SIGTERM, and soon with SIGKILL; returns its exit code."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        if process.returncode is None:
            # Its own `terminate` may take the exit code away from whoever waits for it.
            with suppress(ProcessLookupError):
                os.kill(process.pid, number)
        with suppress(TimeoutError):
            async with asyncio.timeout(_SECONDS_TO_END):
                return await process.wait()
    return await process.wait()


class _Words:
    """What a process says on standard error: kept while it starts, and logged from then on."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._kept = deque[str](maxlen=_LINES_KEPT)
        self._logged = False
        self._all_heard = asyncio.create_task(self._listen(process.stderr))

    def log(self) -> None:
        """It is ready: what it said is no reason for an error."""
        self._logged = True
        for line in self._kept:
            _log(line)

    async def last(self) -> str:
        """The last line of a process that has ended."""
        with suppress(TimeoutError):
            async with asyncio.timeout(_SECONDS_FOR_LAST_WORDS):
                await asyncio.shield(self._all_heard)
        return self._kept[-1].removeprefix("aligner: ") if self._kept else ""

    async def _listen(self, stream: asyncio.StreamReader | None) -> None:
        rest = b""
        while stream is not None and (chunk := await stream.read(2**16)):
            *lines, rest = (rest + chunk).split(b"\n")
            for line in lines:
                self._take(line.decode(errors="replace"))
            rest = rest[-(2**16) :]
        if rest:
            self._take(rest.decode(errors="replace"))

    def _take(self, line: str) -> None:
        self._kept.append(line)
        if self._logged:
            _log(line)


def _log(line: str) -> None:
    logging.getLogger("aligner").warning("engine: %s", line)


async def _connected(
    process: asyncio.subprocess.Process, path: Path
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """The streams of a connection, as soon as somebody listens."""
    while process.returncode is None:
        try:
            return await asyncio.open_unix_connection(str(path), limit=LONGEST_LINE)
        except (FileNotFoundError, ConnectionRefusedError):
            await asyncio.sleep(_SECONDS_BETWEEN_TRIES)
    raise EngineFailure("engine_down", "it ended")


async def _failure(process: asyncio.subprocess.Process, words: _Words, error: Exception) -> Exception:
    """Why an engine did not start, in its own words where it has some."""
    code = await ended(process)
    line = await words.last() or f"exit code {code}: {error}"
    return MisuseError(line) if code == 2 else EngineFailure("engine_down", f"the engine did not start: {line}")
