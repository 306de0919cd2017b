"""Parts in processes of this machine."""

import os
import socket
import subprocess
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from multiprocessing.connection import Connection
from pathlib import Path
from queue import Empty, LifoQueue
from threading import Lock
from types import TracebackType
from typing import Self

from aligner.errors import AlignerError
from aligner.sharding.calling import Call, Deaths, Outcome, Part, value_of


def run_local(parts: Sequence[Part], work: str, *, workers: int, on_done: Callable[[Part, object], None]) -> None:
    """Do parts in so many processes at a time, which keep what they loaded from one part to the next."""
    most = min(workers or os.cpu_count() or 1, len(parts))
    with ThreadPoolExecutor(most) as threads, _Processes(work, threads=max((os.cpu_count() or 1) // most, 1)) as them:
        doing = {threads.submit(them.do, part): part for part in parts}
        try:
            for done in as_completed(doing):
                on_done(doing[done], done.result())
        finally:
            # Without this, the parts that wait would begin while the first error is on its way.
            threads.shutdown(wait=False, cancel_futures=True)


class _Process:
    """A process that waits for calls."""

    def __init__(self, threads: int) -> None:
        ours, theirs = socket.socketpair()
        # Several processes that each took all CPUs would stand in each other's way.
        environ = {"OMP_NUM_THREADS": str(threads), **os.environ}
        with theirs:
            arguments = [sys.executable, "-m", "aligner.sharding.worker", str(theirs.fileno())]
            self._process = subprocess.Popen(  # noqa: S603  # a program of our own
                arguments,
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                env=environ,
                start_new_session=True,  # Ctrl-C is for us, and we end them
            )
        self._line = Connection(ours.detach())

    def ask(self, asked: Call) -> Outcome:
        """What becomes of a call; raises EOFError or OSError when the process ends before."""
        self._line.send(asked)
        return self._line.recv()

    def how_it_ended(self) -> str:
        """In words, once it has ended."""
        code = self._process.wait()
        return f"signal {-code}" if code < 0 else f"exit code {code}"

    def kill(self) -> None:
        """End it, which ends a call that waits."""
        self._process.kill()

    def close(self) -> None:
        """End it and leave nothing of it."""
        self._process.kill()
        self._process.wait()
        self._line.close()


class _Processes:
    """Processes that wait for parts; new ones are started where none is free."""

    def __init__(self, work: str, *, threads: int) -> None:
        self._work = work
        self._threads = threads
        self._free = LifoQueue[_Process]()
        self._all: set[_Process] = set()
        self._lock = Lock()
        self._closed = False

    def do(self, part: Part) -> object:
        """What the work gives for a part; raises its AlignerError."""
        deaths = Deaths(part)
        while True:
            process = self._take()
            try:
                outcome = process.ask(Call(str(Path.cwd()), self._work, part.task, deaths.count))
            except (EOFError, OSError):
                how = process.how_it_ended()
                self._drop(process)
                deaths.add(how)
                continue
            self._free.put(process)
            return value_of(part, outcome)

    def _take(self) -> _Process:
        try:
            return self._free.get_nowait()
        except Empty:
            with self._lock:
                if self._closed:
                    raise AlignerError("the run has ended") from None
                self._all.add(process := _Process(self._threads))
            return process

    def _drop(self, process: _Process) -> None:
        with self._lock:
            self._all.discard(process)
        process.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End all of them; a thread whose call ends with that closes its own."""
        with self._lock:
            self._closed = True
            for process in self._all:
                process.kill()
        while not self._free.empty():
            self._free.get_nowait().close()
