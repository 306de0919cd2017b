"""Bounded concurrency over many calls, in order, and the progress of long work."""

import asyncio
import sys
import time
from collections import deque
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    Awaitable,
    Callable,
    Generator,
    Iterable,
)
from contextlib import contextmanager
from functools import partial
from itertools import islice
from typing import Any, Protocol, TextIO, TypeVar

T = TypeVar("T")
R = TypeVar("R")

_AHEAD = 4
"""Items begun and not yet handed on, as a multiple of the limit: one slow call does not hold up the others."""
_SECONDS_BETWEEN_LINES = 10.0
_SECONDS_BETWEEN_FRAMES = 0.1


def _ignore(_: object) -> None:
    return None


async def map_ordered(
    function: Callable[[T], Awaitable[R]],
    items: Iterable[T] | AsyncIterable[T],
    *,
    limit: int,
    on_done: Callable[[R], object] = _ignore,
) -> AsyncGenerator[R, None]:
    """The results of `function` in the order of the items, with at most `limit` calls at a time.

    Items are read only as results are taken, so an endless input needs no more memory than a short one. `on_done`
    sees each result as soon as it is there, out of order. An error, of a call or of the items, is raised after the
    results of the items before it, and cancels the calls after it; all are cancelled when the reader stops.
    """
    if limit < 1:
        raise ValueError(f"limit must be at least 1, not {limit}")
    gate, broken = asyncio.Semaphore(limit), asyncio.Event()
    source = _each(items)
    calls: deque[asyncio.Task[R]] = deque()

    async def call(item: T) -> R:
        async with gate:
            if broken.is_set():
                raise asyncio.CancelledError
            try:
                result = await function(item)
                on_done(result)
            except BaseException:
                broken.set()
                raise
            return result

    async def begin_next() -> bool:
        async for item in source:
            calls.append(asyncio.create_task(call(item)))
            calls[-1].add_done_callback(partial(_cancel_after, calls))
            return True
        return False

    feed = asyncio.create_task(begin_next())
    try:
        while True:
            if _has_more(feed) and len(calls) < _AHEAD * limit and not broken.is_set():
                feed = asyncio.create_task(begin_next())
            if calls and calls[0].done():
                yield calls.popleft().result()
                continue
            waiting = [task for task in (feed, *islice(calls, 1)) if not task.done()]
            if not waiting:
                break
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        feed.result()
    finally:
        await _cancel([feed, *calls])
        await source.aclose()


async def _each(items: Iterable[T] | AsyncIterable[T]) -> AsyncGenerator[T, None]:
    if isinstance(items, AsyncIterable):
        async for item in items:
            yield item
    else:
        for item in items:
            yield item


def _has_more(feed: asyncio.Task[bool]) -> bool:
    return feed.done() and feed.exception() is None and feed.result()


def _cancel_after(calls: deque[asyncio.Task[R]], ended: asyncio.Task[R]) -> None:
    """When a call has failed, nobody will take the results of those that follow."""
    if (ended.cancelled() or ended.exception()) and ended in calls:
        for later in islice(calls, calls.index(ended) + 1, None):
            later.cancel()


async def _cancel(tasks: Iterable[asyncio.Task[Any]]) -> None:
    tasks = list(tasks)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


class Tick(Protocol):
    """Tells the progress that some more is done, and, where given, what else to show."""

    def __call__(self, count: int = 1, note: str = "") -> None:
        """Add to what is done."""
        ...


@contextmanager
def progress(
    what: str,
    total: int | None = None,
    *,
    done: int = 0,
    unit: str = "rows",
    stream: TextIO | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> Generator[Tick, None, None]:
    """Show how far work has come, on standard error unless a stream is given: `with progress("correct") as tick:`.

    A bar on a terminal; elsewhere one plain line every ten seconds and one at the end. `done` counts what an earlier
    run did, which says nothing about the rate.
    """
    out: TextIO = stream or sys.stderr
    work = _Work(what, total=total, done=done, unit=unit, start=clock())
    show, pause = (_bar, _SECONDS_BETWEEN_FRAMES) if out.isatty() else (_lines, _SECONDS_BETWEEN_LINES)
    with show(work, out) as say:
        due = clock() + pause

        def tick(count: int = 1, note: str = "") -> None:
            nonlocal due
            work.done, work.note = work.done + count, note or work.note
            if (now := clock()) >= due:
                due = now + pause
                say(work.line(now))

        try:
            yield tick
        finally:
            say(work.line(clock()))


class _Work:
    """What is done so far, and how to say it."""

    def __init__(self, what: str, *, total: int | None, done: int, unit: str, start: float) -> None:
        self.what, self.total, self.unit = what, total, unit
        self.before = self.done = done
        self.start = start
        self.note = ""

    def line(self, now: float) -> str:
        seconds = max(now - self.start, 1e-9)
        rate = (self.done - self.before) / seconds
        parts = [f"{self.what}: {self.done:,}{f' of {self.total:,}' if self.total is not None else ''} {self.unit}"]
        parts.append(f"{rate:,.0f} {self.unit}/s" if rate >= 10 else f"{rate:.2g} {self.unit}/s")
        if self.total is not None and self.done < self.total and rate:
            parts.append(f"{_duration((self.total - self.done) / rate)} left")
        else:
            parts.append(_duration(seconds))
        return ", ".join([*parts, self.note] if self.note else parts)


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


@contextmanager
def _lines(_: _Work, stream: TextIO) -> Generator[Callable[[str], None], None, None]:
    yield lambda line: print(line, file=stream, flush=True)


@contextmanager
def _bar(work: _Work, stream: TextIO) -> Generator[Callable[[str], None], None, None]:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn

    columns = TextColumn("{task.description}", markup=False), BarColumn()
    # Rich would otherwise carry what is printed on standard output over to the stream of the bar.
    with Progress(*columns, console=Console(file=stream), redirect_stdout=False) as bar:
        task = bar.add_task(work.what, total=work.total, completed=work.done)
        yield lambda line: bar.update(task, completed=work.done, description=line)
