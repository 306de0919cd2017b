"""Laws of the thread for calls that block."""

import asyncio
import subprocess
import sys
import threading

import pytest

from aligner.serving.blocking import BlockingThread


def test_calls_come_one_after_another_in_one_thread() -> None:
    """Calls are made in their order and never two at a time, and give what they give or raise what they raise."""

    async def run() -> None:
        thread = BlockingThread("test")
        calls = [thread.call(lambda i=i: (i, threading.current_thread().name)) for i in range(20)]
        assert await asyncio.gather(*calls) == [(i, "test") for i in range(20)]
        with pytest.raises(ZeroDivisionError):
            await thread.call(lambda: 1 // 0)
        assert await thread.call(lambda: "still there") == "still there"
        thread.end()

    asyncio.run(run())


def test_a_cancelled_call_is_not_made() -> None:
    """What is cancelled before its turn never happens, and what has begun is not waited for."""

    async def run() -> None:
        thread, release, made = BlockingThread("test"), threading.Event(), list[int]()
        running = asyncio.create_task(thread.call(release.wait))
        behind = asyncio.create_task(thread.call(lambda: made.append(1)))
        await asyncio.sleep(0.05)
        for task in (behind, running):
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        release.set()
        await thread.call(lambda: made.append(2))
        assert made == [2]
        thread.end()

    asyncio.run(run())


def test_a_call_that_hangs_does_not_keep_the_program_from_ending() -> None:
    """A program ends although a call has not come back."""
    code = """
import asyncio, threading
from aligner.serving.blocking import BlockingThread

async def main():
    call = asyncio.create_task(BlockingThread("test").call(threading.Event().wait))
    await asyncio.sleep(0.1)
    call.cancel()

asyncio.run(main())
print("ended")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.returncode) == ("ended\n", 0)
