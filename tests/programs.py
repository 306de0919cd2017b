"""`aligner serve` as a program of its own, and what can be seen of it, and of its engine, from outside."""

import asyncio
import os
import re
import resource
import sys
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Program:
    """A proxy that is running."""

    process: asyncio.subprocess.Process = field(repr=False)
    url: str
    words: Path
    """the file that takes all that it says"""

    @property
    def pid(self) -> int:
        """Of the process."""
        return self.process.pid

    @property
    def said(self) -> str:
        """What it has said up to now."""
        return self.words.read_text(encoding="utf-8", errors="replace")

    async def ended(self) -> int:
        """The exit code, once there is one."""
        async with asyncio.timeout(_SECONDS):
            return await self.process.wait()


@asynccontextmanager
async def started(
    upstream_url: str, folder: Path, environ: Mapping[str, str] | None = None, **options: Any
) -> AsyncGenerator[tuple[asyncio.subprocess.Process, Path], None]:
    """`aligner serve` before an upstream, and the file that takes what it says; told to end at the end.

    Options are those of its configuration; its Aligner copies unless another is named.
    """
    given: dict[str, Any] = {"upstream": f"{upstream_url}/v1", "port": 0, "aligner": "echo:", **options}
    flags = [part for name, value in given.items() for part in (f"--{name.replace('_', '-')}", str(value))]
    kept = {name: value for name, value in os.environ.items() if not name.startswith("ALIGNER_")}
    words = folder / "words.txt"
    with words.open("wb") as out:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "aligner", "serve", *flags, stdout=out, stderr=out, env={**kept, **(environ or {})}
        )
    try:
        yield process, words
    finally:
        await _end(process)


@asynccontextmanager
async def running(
    upstream_url: str, folder: Path, environ: Mapping[str, str] | None = None, **options: Any
) -> AsyncGenerator[Program, None]:
    """The same, once it listens."""
    async with started(upstream_url, folder, environ, **options) as (process, words):
        await until(lambda: process.returncode is not None or re.search(_LISTENS, words.read_text()) is not None)
        found = re.search(_LISTENS, words.read_text())
        assert found is not None, words.read_text()
        yield Program(process, found[1], words)


_LISTENS = r"(http://[\d.]+:\d+)/v1 answers for"


async def _end(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        process.terminate()
    try:
        async with asyncio.timeout(_SECONDS):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()
        raise


async def until(holds: Callable[[], bool]) -> None:
    """Wait until something holds."""
    async with asyncio.timeout(_SECONDS):
        while not holds():  # noqa: ASYNC110  # nothing tells of it
            await asyncio.sleep(0.02)


def engines_of(pid: int) -> list[int]:
    """The engines that a process has started and that have not ended."""
    paths = Path(f"/proc/{pid}/task").glob("*/children")
    children = [int(child) for path in paths for child in path.read_text(encoding="ascii").split()]
    return [child for child in children if b"aligner.engine" in Path(f"/proc/{child}/cmdline").read_bytes()]


async def engine_of(pid: int, *, but: int = 0) -> int:
    """The engine of a process, as soon as there is another than one that was."""
    found: list[int] = []

    def there() -> bool:
        found[:] = [engine for engine in engines_of(pid) if engine != but]
        return bool(found)

    await until(there)
    return found[0]


def megabytes(pid: int) -> float:
    """The memory that a process holds, in MiB."""
    pages = int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1])
    return pages * resource.getpagesize() / 2**20
