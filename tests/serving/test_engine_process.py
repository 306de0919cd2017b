"""Laws of the process of an engine: it is there while it is needed, whatever happens to it, and not after."""

import asyncio
import os
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest
from engines import ECHO, corrected, failure, pid_of, quick, stopped, until, until_alive, whole

from aligner.errors import MisuseError
from aligner.serving.engine import Engine, EngineFailure


def test_a_killed_engine_fails_what_is_pending_and_is_started_again() -> None:
    """Pending corrections fail at once as `engine_down`; later ones succeed, also of answers that had begun before."""

    async def run() -> None:
        async with Engine(ECHO) as engine:
            begun = engine.open("q")
            begun.append("can" * 50)
            async with stopped(engine):
                pending = [asyncio.create_task(failure(engine.open("q").finish("a"))) for _ in range(20)]
                await asyncio.sleep(0.05)
                assert engine.waiting == 20
                os.kill(pid_of(engine), signal.SIGKILL)
                async with asyncio.timeout(10):
                    assert {(await each).cause for each in pending} == {"engine_down"}
            assert engine.waiting == 0
            assert (await failure(engine.open("q").finish("a"))).message == "the engine is not running"
            assert not engine.alive
            await until_alive(engine)
            assert await corrected(engine, "canary") == "canary"
            assert (await whole(begun.finish("canary")))[0] == "canary"

    asyncio.run(run())


def test_an_engine_that_dies_again_and_again_is_started_again() -> None:
    """Every time."""

    async def run() -> None:
        async with Engine(ECHO) as engine:
            for _ in range(3):
                os.kill(pid_of(engine), signal.SIGKILL)
                await until(lambda: not engine.alive)
                await until_alive(engine)
                assert await corrected(engine, "canary") == "canary"

    asyncio.run(run())


@pytest.mark.parametrize("error", [MisuseError, EngineFailure])
def test_an_engine_that_cannot_start_says_why(tmp_path: Path, error: type[Exception]) -> None:
    """In the engine's own words: what is misused is said so, and everything else is a failure."""
    (tmp_path / "rules.json").write_text("[]" if error is MisuseError else '[{"pattern": "("}]')
    name = "foo:" if error is MisuseError else f"rules:{tmp_path / 'rules.json'}"
    line = "^unknown kind of Aligner" if error is MisuseError else r"rules\.json: rule 1: needs the texts"

    engine = Engine(quick(aligner=name))

    async def run() -> None:
        async with engine:
            raise AssertionError("it started")

    with pytest.raises(error, match=line):
        asyncio.run(run())
    assert not engine.socket.parent.exists()


def test_nothing_is_left_over() -> None:
    """While it runs, its socket is in a folder that nobody else can enter; afterwards process and folder are gone."""
    engine = Engine(ECHO)

    async def run() -> tuple[int, list[int]]:
        async with engine:
            engine.open("q").append("so " * 100)
            modes = [path.stat().st_mode for path in (engine.socket.parent, engine.socket)]
            return pid_of(engine), modes

    pid, modes = asyncio.run(run())
    assert [stat.S_IMODE(mode) for mode in modes] == [0o700, 0o600]
    assert not engine.socket.parent.exists()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_an_engine_that_does_not_end_is_killed() -> None:
    """Leaving waits no longer than some seconds, whatever the engine has not read."""

    async def run() -> float:
        async with Engine(ECHO) as engine:
            os.kill(pid_of(engine), signal.SIGSTOP)
            pending = asyncio.create_task(failure(engine.open("q").finish("a" * 2**24)))
            await asyncio.sleep(0.05)
            began = time.monotonic()
        assert (await pending).cause == "engine_down"
        return time.monotonic() - began

    assert 4 < asyncio.run(run()) < 20


def test_ctrl_c_does_not_reach_the_engine() -> None:
    """It is in a session of its own: whoever started it decides what is finished first."""

    async def run() -> None:
        async with Engine(ECHO) as engine:
            assert os.getpgid(pid_of(engine)) != os.getpgid(0)

    asyncio.run(run())


def test_the_client_loads_nothing_heavy() -> None:
    """A proxy that corrects elsewhere needs no torch."""
    show = "import aligner.serving.engine, sys; print('torch' in sys.modules, 'aligner.correct' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", show], capture_output=True, text=True, check=True)
    assert done.stdout == "False False\n"
