"""The correction log: rows wait in a bounded queue, and one task writes them in batches, and serving never waits."""

import asyncio
import random
import time
from collections import deque
from collections.abc import AsyncGenerator, Callable, Collection, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple, TypeVar

import structlog
from sqlalchemy import Connection

from aligner.errors import AlignerError
from aligner.serving.blocking import BlockingThread
from aligner.serving.database import StoreError, place_of
from aligner.serving.logged import Content, Feedback, Logged, reduced, reduced_feedback
from aligner.serving.review.reading import Reviewed, reviewed
from aligner.serving.store import Store
from aligner.serving.waiting import Waiting

__all__ = ["CorrectionLog", "Feedback", "LogOptions", "Logged", "StoreError", "open_log"]

T = TypeVar("T")

_DAY = 86_400.0
_FIRST_PAUSE = 0.1
_CLOSED = "the correction log is closed"


@dataclass(frozen=True, slots=True, kw_only=True)
class LogOptions:
    """What is kept, and how much waits for how long; times are in seconds."""

    content: Content = "off"
    """full: the texts; hash: their sha256; off: no content at all"""
    days: float | None = None
    """rows older than this are deleted; none are when it is None"""
    waiting: int = 10_000
    """rows that may wait; beyond that the oldest are dropped"""
    waiting_characters: int = 50_000_000
    """characters of theirs that may wait"""
    batch: int = 500
    """rows written at a time"""
    gather: float = 0.2
    """how long more rows are waited for before some are written"""
    pause: float = 5.0
    """longest pause between two attempts to write"""
    timeout: float = 5.0
    """how long an attempt waits for a connection, or for what another program has locked"""
    close: float = 10.0
    """how long the last rows may take when the log is closed"""
    purge_every: float = 3600.0
    """between two deletions of what is too old"""


_DEFAULTS = LogOptions()


@asynccontextmanager
async def open_log(url: str, options: LogOptions = _DEFAULTS) -> AsyncGenerator["CorrectionLog"]:
    """A log in a SQLite file or a PostgreSQL database, to use within one event loop; what waits at the end is written.

    Raises MisuseError for a URL that cannot be right and for tables of a newer version; a database that is only out of
    reach is waited for.
    """
    place = place_of(url)
    writer, reader = (Store(place, writable=writes, timeout=options.timeout) for writes in (True, False))
    log = CorrectionLog(writer, reader, options)
    await log.open()
    try:
        yield log
    finally:
        await log.close()


class _Request(NamedTuple):
    """Something to ask of the database, and where the result goes."""

    function: Callable[[], Any]
    result: asyncio.Future[Any]


class CorrectionLog:
    """Rows in, without ever waiting; rows out, feedback and deletion, each after all rows that were put before it.

    What waits for the database raises StoreError while it is out of reach. Every row that was put is written, dropped
    or waiting: the three counters add up.
    """

    def __init__(self, store: Store, reader: Store, options: LogOptions) -> None:
        self._store = store
        self._options = options
        self._thread = BlockingThread("correction log")
        self._reader = reader
        self._reading_thread = BlockingThread("review queue")
        self._waiting = Waiting(options.waiting, options.waiting_characters)
        self._being_written = 0
        self._requests: deque[_Request] = deque()
        self._anything = asyncio.Event()  # rows or requests are there, or the log is closing
        self._at_once = asyncio.Event()  # no more rows are to be waited for
        self._closing = False
        self._failures = 0  # since rows were last written
        self._refused = 0
        self._tasks: tuple[asyncio.Task[None], ...] = ()
        self.written = 0
        """rows that the database has"""
        self.failed = 0
        """attempts to write that failed; their rows are tried again"""

    @property
    def dropped(self) -> int:
        """Rows that will never be written: too many, too late, or refused by the database for what is in them."""
        return self._waiting.dropped + self._refused

    @property
    def waiting(self) -> int:
        """Rows that are not yet written."""
        return len(self._waiting) + self._being_written

    def put(self, row: Logged) -> None:
        """Log a row: never waits, never raises."""
        self._waiting.add(reduced(row, self._options.content))
        if not self._tasks:
            self._waiting.drop_all()  # the log is closed
        self._anything.set()
        # While the database fails, the pauses between attempts are kept.
        if len(self._waiting) >= self._options.batch and not self._failures:
            self._at_once.set()

    async def flush(self) -> None:
        """Return once every row that was put is in the database."""
        await self._request(lambda: None)

    async def get(self, id: str) -> Logged | None:  # noqa: A002  # the name of the field
        """The correction of that id with its feedback."""
        return await self._request(partial(self._store.get, id))

    async def feedback(self, said: Feedback) -> bool:
        """Keep feedback; gives whether there is such a correction."""
        return await self._request(partial(self._store.add_feedback, reduced_feedback(said, self._options.content)))

    async def note(self, said: Sequence[Feedback], owner: str | None = None) -> Collection[str]:
        """Keep feedback, all or none, and give the ids of the corrections that are there; see `Store.note`."""
        kept = [reduced_feedback(one, self._options.content) for one in said]
        return await self._request(partial(self._store.note, kept, owner))

    async def undo(self, batch: str, reviewer: str | None) -> int:
        """Delete the feedback of one action of a reviewer's, and give how much it was."""
        return await self._request(partial(self._store.undo, batch, reviewer))

    async def reviewed(self, id: str) -> Reviewed | None:  # noqa: A002  # the name of the field
        """The correction of that id, and how far its review has come."""
        return await self._request(partial(self._store.ask, partial(reviewed, id=id)))

    async def ask(self, question: Callable[[Connection], T]) -> T:
        """What somebody finds out who only reads, beside the writing; the last rows may still be on their way."""
        if not self._tasks:
            raise StoreError(_CLOSED)
        return await self._reading_thread.call(partial(self._reader.ask, question))

    async def forget(self, conversation: str) -> int:
        """Delete a conversation with its feedback, and give the number of its corrections; see `Store.forget`."""
        return await self._request(partial(self._store.forget, conversation))

    async def purge(self) -> int:
        """Delete what is too old, and give its number; happens by itself every `purge_every` seconds."""
        if self._options.days is None:
            return 0
        before, count = time.time() - self._options.days * _DAY, 0
        # In portions, so that new rows are written in between.
        while deleted := await self._request(partial(self._store.purge, before)):
            count += deleted
        is_more = count > 0 and await self._request(partial(self._store.tidy, begins=True))
        while is_more:
            is_more = await self._request(partial(self._store.tidy, begins=False))
        return count

    async def open(self) -> None:
        """Begin to write; raises MisuseError, whereas a database out of reach is only reported."""
        try:
            await self._thread.call(self._store.open)
        except StoreError as error:
            self._note_failure(error)
        except BaseException:
            self._thread.end()
            self._reading_thread.end()
            raise
        self._tasks = (asyncio.create_task(self._write()), asyncio.create_task(self._purge_for_ever()))

    async def close(self) -> None:
        """Write what waits, for as long as the options allow, and let go of the database."""
        self._closing = True
        self._anything.set()
        self._at_once.set()
        await asyncio.wait(self._tasks[:1], timeout=self._options.close)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks = ()
        self._refuse_requests(StoreError(_CLOSED))
        if lost := self._waiting.drop_all():
            _warn("the correction log was closed before all was written", lost=lost)
        # The writer last: whoever closes last puts all of SQLite's files in order, and a reader may not.
        for thread, store in ((self._reading_thread, self._reader), (self._thread, self._store)):
            with suppress(TimeoutError):
                async with asyncio.timeout(1.0):
                    await thread.call(store.close)
            thread.end()

    async def _request(self, function: Callable[[], T]) -> T:
        if not self._tasks:
            raise StoreError(_CLOSED)
        result: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._requests.append(_Request(function, result))
        self._anything.set()
        self._at_once.set()
        return await result

    async def _write(self) -> None:
        """The one task that uses the database: all rows that wait, then all requests, and again."""
        while not self._closing or self._waiting or self._requests:
            await self._until_due()
            asked = len(self._requests)  # those that come later have to wait for the rows before them
            try:
                await self._write_waiting()
            except Exception as error:  # noqa: BLE001  # whatever it is, later rows are tried
                self._note_failure(error)
                self._refuse_requests(error)
            else:
                await self._answer_requests(asked)
            if not (self._waiting or self._requests or self._closing):
                self._anything.clear()

    async def _until_due(self) -> None:
        await self._anything.wait()
        pause = self._options.gather
        if self._failures:
            pause = min(_FIRST_PAUSE * 2 ** min(self._failures, 16), self._options.pause) * random.uniform(0.5, 1.0)
        with suppress(TimeoutError):
            async with asyncio.timeout(pause):
                await self._at_once.wait()
        self._at_once.clear()

    async def _write_waiting(self) -> None:
        left = len(self._waiting)
        while left > 0 and (batch := self._waiting.take(self._options.batch)):
            left -= len(batch)
            self._being_written = len(batch)
            try:
                refused = await self._thread.call(partial(self._store.write, batch))
            except BaseException:
                self._waiting.put_back(batch)
                raise
            finally:
                self._being_written = 0
            self._note_success(len(batch) - refused, refused)

    async def _answer_requests(self, count: int) -> None:
        for _ in range(count):
            function, result = self._requests.popleft()
            if result.done():
                continue  # nobody waits for it any more
            try:
                value = await self._thread.call(function)
            except asyncio.CancelledError:
                _fail(result, StoreError(_CLOSED))
                raise
            except Exception as error:  # noqa: BLE001  # it belongs to whoever asked
                _fail(result, error)
            else:
                _succeed(result, value)

    def _refuse_requests(self, error: Exception) -> None:
        while self._requests:
            _fail(self._requests.popleft().result, error)

    def _note_failure(self, error: Exception) -> None:
        """Say it once, when it begins."""
        self.failed += 1
        self._failures += 1
        if self._failures == 1:
            # Of what is not ours nothing but the kind is said: the words may hold content.
            words = str(error) if isinstance(error, AlignerError) else type(error).__name__
            _warn("the correction log cannot be written", error=words)

    def _note_success(self, written: int, refused: int) -> None:
        if self._failures:
            _warn("the correction log is written again", dropped=self.dropped)
        if refused:
            _warn("the database refused rows for what is in them", rows=refused)
        self._failures = 0
        self.written += written
        self._refused += refused

    async def _purge_for_ever(self) -> None:
        while self._options.days is not None:
            with suppress(AlignerError):
                await self.purge()
            await asyncio.sleep(self._options.purge_every)


def _fail(result: asyncio.Future[Any], error: Exception) -> None:
    if not result.done():
        result.set_exception(error)


def _succeed(result: asyncio.Future[Any], value: object) -> None:
    if not result.done():
        result.set_result(value)


def _warn(event: str, **figures: object) -> None:
    structlog.get_logger("aligner.log").warning(event, **figures)
