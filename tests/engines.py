"""Engines for tests, and what is waited for of them."""

import asyncio
import os
import signal
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest

from aligner.serving.engine import Engine, EngineFailure, EngineOptions, Finished


def quick(**options: Any) -> EngineOptions:
    """An engine that copies, with these options."""
    usual: dict[str, Any] = {"aligner": "echo:", "restart_after": 0.05}
    return EngineOptions(**(usual | options))


ECHO = quick()


async def whole(pieces: AsyncGenerator[str | Finished, None]) -> tuple[str, Finished]:
    """The pieces of a correction, added up, and what became of the answer, which comes last and once."""
    text, ends = "", list[Finished]()
    async for piece in pieces:
        assert not ends
        if isinstance(piece, Finished):
            ends.append(piece)
        else:
            text += piece
    (end,) = ends
    return text, end


async def corrected(engine: Engine, answer: str, **order: Any) -> str:
    """The correction of one answer."""
    text, end = await whole(engine.open("q").finish(answer, **order))
    assert text == end.text
    return end.text


def pid_of(engine: Engine) -> int:
    """The process of an engine that is alive."""
    assert engine.connection is not None
    return engine.connection.pid


async def until_alive(engine: Engine) -> None:
    """Wait until the engine has been started again."""
    await until(lambda: engine.alive)


async def until(holds: Callable[[], bool]) -> None:
    """Wait until something holds."""
    async with asyncio.timeout(60):
        while not holds():  # noqa: ASYNC110  # nothing tells of it
            await asyncio.sleep(0.01)


async def failure(pieces: AsyncGenerator[str | Finished, None]) -> EngineFailure:
    """How a correction fails."""
    with pytest.raises(EngineFailure) as raised:
        await whole(pieces)
    return raised.value


@asynccontextmanager
async def stopped(engine: Engine) -> AsyncIterator[None]:
    """The process does nothing, and is not gone either."""
    pid = pid_of(engine)
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)
