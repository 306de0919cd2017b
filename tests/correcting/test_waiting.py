"""Laws of waiting for coroutines in plain code."""

import asyncio
import gc
import os
import signal
import threading
import time
from collections.abc import AsyncGenerator

import pytest

from aligner.correcting.waiting import BackgroundLoop


async def double(number: int) -> int:
    await asyncio.sleep(0)
    return 2 * number


def test_a_wait_is_the_result() -> None:
    """The coroutine's value comes back, and its error is raised, also where the waiting thread runs a loop itself."""

    async def fail() -> None:
        raise ValueError("no")

    def use() -> None:
        with BackgroundLoop() as loop:
            assert [loop.wait(double(number)) for number in range(3)] == [0, 2, 4]
            with pytest.raises(ValueError, match="no"):
                loop.wait(fail())

    async def use_inside_a_loop() -> None:
        use()

    use()
    asyncio.run(use_inside_a_loop())


def test_what_was_begun_goes_on_between_two_waits() -> None:
    """Nobody has to wait for a task to run."""
    done = threading.Event()

    async def begin() -> asyncio.Task[None]:
        async def finish() -> None:
            done.set()

        return asyncio.create_task(finish())

    with BackgroundLoop() as loop:
        task = loop.wait(begin())
        assert done.wait(30)
    assert task.done()


def test_nothing_is_left_behind() -> None:
    """At the end tasks are cancelled, generators are closed, and the thread is gone."""
    ended: list[str] = []
    before = threading.active_count()

    async def count() -> AsyncGenerator[int, None]:
        try:
            yield 1
        finally:
            ended.append("generator")

    async def begin() -> int:
        async def sleep() -> None:
            try:
                await asyncio.sleep(60)
            finally:
                ended.append("task")

        tasks.append(asyncio.create_task(sleep()))
        await asyncio.sleep(0)
        return await anext(numbers)

    numbers, tasks = count(), list[asyncio.Task[None]]()
    with BackgroundLoop() as loop:
        assert loop.wait(begin()) == 1
    assert sorted(ended) == ["generator", "task"]
    assert threading.active_count() == before
    gc.collect()


def test_an_interrupt_cancels_what_is_waited_for() -> None:
    """Ctrl-C ends a long wait at once."""
    cancelled = threading.Event()

    async def interrupted() -> None:
        os.kill(os.getpid(), signal.SIGINT)
        try:
            await asyncio.sleep(60)
        finally:
            cancelled.set()

    start = time.monotonic()
    with pytest.raises(KeyboardInterrupt), BackgroundLoop() as loop:
        loop.wait(interrupted())
    assert cancelled.is_set()
    assert time.monotonic() - start < 30
