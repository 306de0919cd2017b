"""What an engine is asked for, and the threads that do it with any writer."""

import re
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from typing import Protocol, runtime_checkable

from aligner.correcting.writers import Writer
from aligner.errors import MisuseError, ModelError
from aligner.records import Completion, Exchange, Question, SamplingParams
from aligner.serving.engine_process import Cause

_ANSWERED = re.compile(r"(: status \d+)\b.*", re.DOTALL)


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """All that has to be known to correct an answer."""

    exchange: Exchange
    sampling: SamplingParams
    gate: float | None = None
    """a probability that no change is needed, from which the answer is kept"""
    doubt: bool = False


class Listener(Protocol):
    """Is told what becomes of a work, by whatever thread does it."""

    def piece(self, text: str) -> None:
        """Some more of the correction."""
        ...

    def done(self, completion: Completion, seconds: Mapping[str, float]) -> None:
        """All of it."""
        ...

    def failed(self, cause: Cause, message: str) -> None:
        """There will be none."""
        ...


class Work:
    """One correction, from its question to its end; whoever does it tells the listener through it."""

    def __init__(self, question: Question, listener: Listener, instruction: str = "") -> None:
        self.question = question
        self.instruction = instruction
        self.order: Order | None = None
        """none before the whole answer is known"""
        self.cancelled = False
        self._listener = listener
        self._times: dict[str, float] = {}
        self._reading = 1.0

    def ask(self, order: Order) -> None:
        """The whole answer is known; from now on the time counts."""
        self.order = order
        self._times["asked"] = time.perf_counter()

    def begin(self) -> Order:
        """It leaves the queue."""
        if self.order is None:
            raise ValueError("a work cannot begin before its answer is known")
        self._times.setdefault("begun", time.perf_counter())
        return self.order

    def look(self, reading: float = 1.0) -> None:
        """The first pass is over, or the first piece is there; that share of it was the prompt's, and not a draft's."""
        if "looked" not in self._times:
            self._times["looked"], self._reading = time.perf_counter(), reading

    def give(self, piece: str) -> None:
        """Hand on some more of the correction."""
        self._listener.piece(piece)

    def end(self, completion: Completion) -> None:
        """Hand on all of it."""
        self._listener.done(completion, self._seconds())

    def fail(self, cause: Cause, message: str) -> None:
        """Say that there will be none."""
        self._listener.failed(cause, message)

    def _seconds(self) -> Mapping[str, float]:
        """In the queue; reading the prompt; judging the draft; and from there to the end."""
        now = time.perf_counter()
        asked, begun, looked = (self._times.get(name, now) for name in ("asked", "begun", "looked"))
        read = self._reading * (looked - begun)
        return {"queue": begun - asked, "read": read, "verify": looked - begun - read, "edit": now - looked}


class BackEnd(Protocol):
    """Does works in threads of its own; its methods return at once."""

    def open(self, work: Work) -> None:
        """An answer to this question is being written."""
        ...

    def append(self, work: Work, text: str) -> None:
        """So much more of the answer has come."""
        ...

    def finish(self, work: Work) -> None:
        """The work has its order."""
        ...

    def drop(self, work: Work) -> None:
        """The work was cancelled."""
        ...

    def close(self) -> None:
        """End what is going on, without a word to anybody."""
        ...


@runtime_checkable
class HasBackEnd(Protocol):
    """A writer that does many works better than by writing them one by one."""

    def back_end(self, rows: int, broken: Callable[[str], None]) -> BackEnd:
        """`rows` works at a time; `broken` is told why when the back end can do no more."""
        ...


def start_back_end(writer: Writer, rows: int, broken: Callable[[str], None]) -> BackEnd:
    """The writer's own back end, or so many threads."""
    return writer.back_end(rows, broken) if isinstance(writer, HasBackEnd) else WriterThreads(writer, rows)


class WriterThreads:
    """Lets a writer stream in some threads, so that a slow one holds up no other."""

    def __init__(self, writer: Writer, threads: int) -> None:
        self._writer = writer
        self._waiting = SimpleQueue[Work | None]()
        self._threads = [threading.Thread(target=self._run, daemon=True) for _ in range(threads)]
        for thread in self._threads:
            thread.start()

    def open(self, work: Work) -> None:
        """Nothing can be done yet."""

    def append(self, work: Work, text: str) -> None:
        """Nor now."""

    def finish(self, work: Work) -> None:
        """Whichever thread is free takes it."""
        self._waiting.put(work)

    def drop(self, work: Work) -> None:
        """Its thread sees it before the next piece."""

    def close(self) -> None:
        """Threads that wait end; one that waits for a server does not hold up the end of the process."""
        for _ in self._threads:
            self._waiting.put(None)

    def _run(self) -> None:
        while (work := self._waiting.get()) is not None:
            if not work.cancelled:
                self._write(work)

    def _write(self, work: Work) -> None:
        order = work.begin()
        try:
            with closing(self._writer.stream(order.exchange, order.sampling)) as pieces:
                while not work.cancelled:
                    piece = next(pieces)
                    work.look()
                    work.give(piece)
        except StopIteration as end:
            work.end(end.value)
        # Whatever goes wrong with one work is said of that work, and the thread goes on.
        except Exception as error:  # noqa: BLE001
            work.fail(*why(error))


def why(error: Exception) -> tuple[Cause, str]:
    """The cause of a failure, and one line that says what happened, without a word of question or answer."""
    if isinstance(error, ModelError):
        cause: Cause = "timeout" if isinstance(error.__cause__, TimeoutError) else "engine_down"
        # A server may repeat what it was asked in the body of a refusal.
        return cause, _ANSWERED.sub(r"\1", str(error))
    if isinstance(error, MisuseError):
        return "engine_down", str(error)
    if isinstance(error, MemoryError) or "out of memory" in str(error) or "can't allocate memory" in str(error):
        return "out_of_memory", "the memory does not suffice for this correction"
    # The texts of other errors may quote their data.
    frames = traceback.extract_tb(error.__traceback__)
    place = "".join(f" at {Path(frame.filename).name}:{frame.lineno}" for frame in frames[-1:])
    return "engine_down", f"the correction failed: {type(error).__name__}{place}"
