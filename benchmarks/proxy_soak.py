"""Whether the proxy stays the same over many requests: no answer lost or crossed, every row logged, and memory flat.

    python benchmarks/proxy_soak.py           100,000 requests
    python benchmarks/proxy_soak.py --quick   5,000 requests

`aligner serve` runs as a process of its own, with an Aligner that changes nothing and a log that keeps all texts,
before a scripted upstream that answers with the question. Chats and completions, whole and streamed, take turns on all
connections; every question holds a word of its own, which must come back in its own answer and in no other. At the end
the rows of the log are compared with the answers, by their ids. Memory is what the processes hold (resident), sampled
as the requests go on: the last quarter's median against the second quarter's.
"""

import argparse
import asyncio
import re
import resource
import secrets
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncGenerator, Generator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import aiohttp
import orjson
from record import record

from aligner.serving.database import place_of
from aligner.serving.store import Store

REQUESTS = 100_000
QUICK = 5_000
CONNECTIONS = 48
SAMPLES = 400
MOST_GROWTH = 0.05
"""of memory, from the second quarter's median to the last's"""
_SECONDS_FOR_ONE = 60.0
_CANARY = re.compile(r"canary-\d+-[0-9a-f]{12}")
_ROUTES = ("/chat/completions", "/completions")


class Program(NamedTuple):
    """A program of ours, and the base URL at which it answers."""

    pid: int
    url: str


class Memory(NamedTuple):
    """MiB that the processes hold after so many requests."""

    done: int
    proxy: float
    engine: float


@dataclass(slots=True)
class Seen:
    """What came of the requests."""

    answers: dict[str, str] = field(default_factory=dict[str, str])
    """texts by the ids under which they are logged"""
    counts: Counter[str] = field(default_factory=Counter[str])
    problems: list[str] = field(default_factory=list[str])
    memory: list[Memory] = field(default_factory=list[Memory])

    def note(self, kind: str, problem: str = "") -> None:
        """Count an end: right, lost, crossed or failed."""
        self.counts[kind] += 1
        if problem and len(self.problems) < 10:
            self.problems.append(f"{kind}: {problem[:300]}")


def main() -> None:
    """Ask, compare and measure; one line of JSON last, and exit code 1 where anything is not as it has to be."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=REQUESTS, help="how many")
    parser.add_argument("--connections", type=int, default=CONNECTIONS, help="how many at a time")
    parser.add_argument("--quick", action="store_true", help=f"{QUICK:,} requests")
    given = parser.parse_args()
    requests = QUICK if given.quick else given.requests
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    with tempfile.TemporaryDirectory() as folder:
        log, began = Path(folder) / "log.db", time.perf_counter()
        seen = asyncio.run(soak(log, requests, given.connections))
        figures = {
            "requests": requests,
            "connections": given.connections,
            "seconds": round(time.perf_counter() - began, 1),
            **{kind: seen.counts[kind] for kind in ("right", "lost", "crossed", "failed")},
            **rows_figures(log, seen.answers),
            **memory_figures(seen.memory, requests),
        }
    record("proxy_soak", figures)
    if problems := [*seen.problems, *unmet(figures)]:
        sys.exit("\n".join(problems))


def unmet(figures: Mapping[str, Any]) -> Iterator[str]:
    """What is not as it has to be."""
    for name in ("right", "rows", "rows_equal"):
        if figures[name] != figures["requests"]:
            yield f"{name} is {figures[name]:,}, not {figures['requests']:,}"
    for name in ("proxy", "engine"):
        if figures[f"{name}_growth"] > MOST_GROWTH:
            yield f"the {name} holds {figures[f'{name}_growth']:.1%} more at the end than at first"


async def soak(log: Path, requests: int, connections: int) -> Seen:
    """So many requests, so many at a time; ends the proxy in the end, as an operator would, so that all is logged."""
    seen = Seen()
    with upstream() as behind:
        async with proxy(behind.url, log) as front:
            limits = aiohttp.ClientTimeout(total=_SECONDS_FOR_ONE)
            async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), timeout=limits) as session:
                left = iter(range(requests))
                await asyncio.gather(
                    *(worker(session, front, left, seen, every=max(requests // SAMPLES, 1)) for _ in range(connections))
                )
    return seen


async def worker(
    session: aiohttp.ClientSession, front: Program, left: Iterator[int], seen: Seen, *, every: int
) -> None:
    """One request after the other, for as long as some are left."""
    for number in left:
        await one(session, front.url, number, seen)
        if number % every == 0:
            seen.memory.append(Memory(number, megabytes(front.pid), megabytes(engine_of(front.pid))))


async def one(session: aiohttp.ClientSession, url: str, number: int, seen: Seen) -> None:
    """One request, and whether its own answer came back."""
    canary = f"canary-{number}-{secrets.token_hex(6)}"
    question = f"What is it that {canary} says, in a few words, to whoever asks for it?"
    route, streamed = _ROUTES[number % 2], number // 2 % 2 == 1
    asked: Mapping[str, Any] = {"messages": [{"role": "user", "content": question}]}
    body = {"model": "echo", "stream": streamed, **({"prompt": question} if number % 2 else asked)}
    try:
        async with session.post(url + route, data=orjson.dumps(body)) as response:
            status, headers, got = response.status, response.headers, await response.read()
    except (aiohttp.ClientError, TimeoutError) as error:
        seen.note("lost", f"{number}: {error!r}")
        return
    text = answer_in(got, streamed=streamed) if status == 200 else None
    if text == question:
        seen.note("right")
        seen.answers[headers["x-aligner-id"]] = question
    else:
        others = set(_CANARY.findall(got.decode(errors="replace"))) - {canary}
        seen.note("crossed" if others else "failed", f"{number}: status {status}, {got!r}")


def answer_in(body: bytes, *, streamed: bool) -> str | None:
    """The text of an answer; None where it is none, or not whole."""
    if not streamed:
        choice = orjson.loads(body)["choices"][0]
        return choice["message"]["content"] if "message" in choice else choice["text"]
    if not body.endswith(b"data: [DONE]\n\n"):
        return None
    choices = [orjson.loads(data)["choices"][0] for data in re.findall(rb"data: (\{.*\})\n\n", body)]
    return "".join(choice["delta"].get("content") or "" if "delta" in choice else choice["text"] for choice in choices)


def rows_figures(log: Path, answers: Mapping[str, str]) -> Mapping[str, int]:
    """How many rows the log has, and how many of them are the answers that were sent."""
    with closing(Store(place_of(str(log)), writable=False)) as store:
        equal = [{row.question, row.answer, row.correction} == {answers.get(row.id)} for row in store.rows()]
    return {"rows": len(equal), "rows_equal": sum(equal)}


def memory_figures(samples: Sequence[Memory], requests: int) -> Mapping[str, float]:
    """Medians of quarters, in MiB, and growth as a share."""
    figures: dict[str, float] = {}
    for name, column in (("proxy", 1), ("engine", 2)):
        second, last = (
            median(sample[column] for sample in samples if low <= sample.done / requests < low + 0.25)
            for low in (0.25, 0.75)
        )
        figures |= {
            f"{name}_mib_second_quarter": round(second, 1),
            f"{name}_mib_last_quarter": round(last, 1),
            f"{name}_growth": round(last / second - 1, 4),
        }
    return figures


@contextmanager
def upstream() -> Generator[Program, None, None]:
    """A scripted upstream."""
    command = [sys.executable, "-m", "aligner.testing", "--port", "0", "--keep", "10"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            if process.stdout is None or not (line := process.stdout.readline()):
                raise OSError("the upstream has not started")
            yield Program(process.pid, line.strip())
        finally:
            process.kill()


@asynccontextmanager
async def proxy(behind: str, log: Path) -> AsyncGenerator[Program, None]:
    """`aligner serve` before an upstream; at the end it is told to end, and waited for."""
    options = {"upstream": f"{behind}/v1", "port": "0", "aligner": "echo:", "log": str(log), "log-content": "full"}
    flags = [part for name, value in options.items() for part in (f"--{name}", value)]
    said = log.with_suffix(".txt")
    with said.open("wb") as out:
        process = await asyncio.create_subprocess_exec(sys.executable, "-m", "aligner", "serve", *flags, stderr=out)
    try:
        async with asyncio.timeout(_SECONDS_FOR_ONE):
            while not (found := re.search(r"(http://[\d.:]+/v1) answers for", said.read_text(encoding="utf-8"))):
                if process.returncode is not None:
                    raise OSError(f"the proxy has not started: {said.read_text(encoding='utf-8')}")
                await asyncio.sleep(0.05)
        yield Program(process.pid, found[1])
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


def engine_of(pid: int) -> int:
    """The engine that a proxy has started."""
    children = [path.read_text(encoding="ascii").split() for path in Path(f"/proc/{pid}/task").glob("*/children")]
    return int(next(child for found in children for child in found))


def megabytes(pid: int) -> float:
    """The memory that a process holds, in MiB."""
    pages = int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1])
    return pages * resource.getpagesize() / 2**20


if __name__ == "__main__":
    main()
