"""Laws of the proxy while its log is out of reach, and when it is told to end or killed: what is lost is counted."""

import asyncio
import re
import resource
import signal
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import aiohttp
import orjson
import pytest
from faults import asked, chat, code_of, figure, raw, rows_of, until_figure, within
from fuzzing import parsed, request
from postgresql import Server, running_server
from programs import Program, engine_of, running, started, until
from proxies import ask, proxied

from aligner.testing import Upstream, serving
from aligner.testing.texts import PLAIN

# The log


def test_serving_goes_on_while_the_log_is_locked(tmp_path: Path) -> None:
    """Another program's lock delays rows and no answer; what asks the log itself is told so, and later finds them."""
    log = str(tmp_path / "log.db")

    async def law() -> None:
        async with proxied(log=log, log_content="full") as proxy:
            with closing(sqlite3.connect(log)) as other:
                other.execute("BEGIN IMMEDIATE")
                began = time.monotonic()
                found = await asyncio.gather(*(asked(proxy.url, chat(stream=i % 2 == 0)) for i in range(20)))
                assert time.monotonic() - began < 10
                ids = {got.headers["x-aligner-id"] for got in found}
                async with aiohttp.ClientSession() as session:
                    url = f"{proxy.url}/v1/aligner/corrections/{min(ids)}"
                    got = await ask(session, url, b"", method="GET")
                assert (got.status, code_of(got)) == (503, "log_unavailable")
            await until(lambda: {row.id for row in rows_of(log)} == ids)
            assert await figure(proxy.url, "aligner_log_dropped") == 0

    within(law)


@pytest.mark.slow
def test_serving_goes_on_while_the_disk_is_full(tmp_path: Path) -> None:
    """What can neither be written nor wait is counted as lost, and once there is room, rows are written again."""
    log, room = tmp_path / "log.db", 4 * 2**20
    content = "x" * 200_000

    async def law() -> None:
        async with (
            serving(Upstream()) as url,
            running(url, tmp_path, log=log, log_content="full", mode="shadow") as program,
        ):
            resource.prlimit(program.pid, resource.RLIMIT_FSIZE, (room, resource.RLIM_INFINITY))
            gate, ids = asyncio.Semaphore(8), list[str]()

            async def one() -> None:
                async with gate:
                    got = await asked(program.url, chat("echo", content))
                assert got.status == 200
                ids.append(got.headers["x-aligner-id"])

            await asyncio.gather(*(one() for _ in range(120)))
            lost = await until_figure(program.url, "aligner_log_dropped", lambda value: value > 0)
            assert "cannot be written" in program.said
            unlimited = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
            resource.prlimit(program.pid, resource.RLIMIT_FSIZE, unlimited)
            await one()
            await until(lambda: ids[-1] in {row.id for row in rows_of(str(log))})
            lost = await figure(program.url, "aligner_log_dropped")
            rows = rows_of(str(log))
            assert len(rows) + lost == len(ids)
            assert {row.id for row in rows} < set(ids)

    within(law)


@pytest.fixture(scope="module")
def postgresql() -> Iterator[Server]:
    """A PostgreSQL server."""
    with running_server() as server:
        yield server


def test_serving_goes_on_while_postgresql_is_down(postgresql: Server) -> None:
    """Answers do not wait for it, nothing is dropped, and every row is there once it is back."""
    log = postgresql.new_database()

    async def law() -> None:
        async with proxied(log=log, log_content="full") as proxy:
            found = [await asked(proxy.url, chat())]
            await until(lambda: len(rows_of(log)) == 1)
            await asyncio.to_thread(postgresql.stop)
            try:
                began = time.monotonic()
                found += await asyncio.gather(*(asked(proxy.url, chat(stream=i % 2 == 0)) for i in range(20)))
                assert time.monotonic() - began < 10
                assert {got.status for got in found} == {200}
            finally:
                await asyncio.to_thread(postgresql.start)
            ids = {got.headers["x-aligner-id"] for got in found}
            await until(lambda: {row.id for row in rows_of(log)} == ids)
            assert await figure(proxy.url, "aligner_log_dropped") == 0

    within(law)


# The proxy itself


def test_told_to_end_it_finishes_and_logs_everything_that_was_begun(tmp_path: Path) -> None:
    """SIGTERM with many answers on their way: each is whole and has its row, nobody new is let in, exit code 0."""
    log = str(tmp_path / "log.db")

    async def law() -> None:
        async with serving(Upstream()) as url, running(url, tmp_path, log=log, log_content="full") as program:
            bodies = [chat("unchanged@10", stream=number % 2 == 0) for number in range(24)]
            begun = [asyncio.create_task(asked(program.url, body)) for body in bodies]
            await until_figure(program.url, "aligner_in_flight", lambda count: count == len(bodies))
            program.process.send_signal(signal.SIGTERM)
            await asyncio.sleep(0.3)
            assert not await is_ready(program)
            found = await asyncio.gather(*begun)
            assert await program.ended() == 0
            for body, got in zip(bodies, found, strict=True):
                direct = await asked(url, body.replace(b"@10", b""))
                assert (got.status, answer_in(got.body)) == (200, answer_in(direct.body))
            rows = {row.id: row for row in rows_of(log)}
            assert {got.headers["x-aligner-id"] for got in found} == set(rows)
            assert {(row.answer, row.outcome) for row in rows.values()} == {(PLAIN, "sent")}

    within(law)


def answer_in(body: bytes) -> str:
    """The text of an answer, whole or streamed."""
    if body.startswith(b"{"):
        return orjson.loads(body)["choices"][0]["message"]["content"]
    assert body.endswith(b"data: [DONE]\n\n")
    events = [orjson.loads(data) for data in re.findall(rb"data: (\{.*\})\n\n", body)]
    return "".join(event["choices"][0]["delta"].get("content") or "" for event in events)


async def is_ready(program: Program) -> bool:
    """Whether a new connection is told that it is ready."""
    try:
        async with asyncio.timeout(5), aiohttp.ClientSession() as session:
            return (await ask(session, f"{program.url}/readyz", b"", method="GET")).status == 200
    except (OSError, aiohttp.ClientError):
        return False


def test_told_to_end_while_it_starts_it_ends(tmp_path: Path) -> None:
    """SIGTERM before it listens is not forgotten: the process ends, and its engine with it."""

    async def law() -> None:
        async with serving(Upstream()) as url, started(url, tmp_path) as (process, _):
            engine = await engine_of(process.pid)
            process.terminate()
            async with asyncio.timeout(30):
                assert await process.wait() == 0
            await until(lambda: not Path(f"/proc/{engine}").exists())

    within(law)


def test_killed_it_breaks_connections_and_loses_no_row_but_the_last_ones(tmp_path: Path) -> None:
    """After kill -9 in mid-stream its client sees a cut, acknowledged rows are there, and no engine stays."""
    log = str(tmp_path / "log.db")

    async def law() -> None:
        async with serving(Upstream()) as url, running(url, tmp_path, log=log, log_content="full") as program:
            engine = await engine_of(program.pid)
            ids = [(await asked(program.url, chat())).headers["x-aligner-id"] for _ in range(30)]
            async with aiohttp.ClientSession() as session:
                row = await ask(session, f"{program.url}/v1/aligner/corrections/{ids[-1]}", b"", method="GET")
            assert row.status == 200
            cut = asyncio.create_task(raw(program.url, request(chat("unchanged@10", stream=True))))
            later = [(await asked(program.url, chat())).headers["x-aligner-id"] for _ in range(30)]
            program.process.kill()
            assert not parsed(await cut).complete
            await program.ended()
            # What is missing is the end of what was put, in its order, and nothing from the middle.
            kept = [row.id for row in rows_of(log)]
            assert kept == [*ids, *later][: len(kept)]
            assert kept[: len(ids)] == ids
            await until(lambda: not Path(f"/proc/{engine}").exists())

    within(law)


@pytest.mark.slow
def test_after_a_kill_the_same_log_goes_on(tmp_path: Path) -> None:
    """A proxy that is started after kill -9 writes into the same file, beside what was there."""
    log = str(tmp_path / "log.db")

    async def one(*, kill: bool) -> str:
        async with serving(Upstream()) as url, running(url, tmp_path, log=log) as program:
            number = (await asked(program.url, chat())).headers["x-aligner-id"]
            await until(lambda: number in {row.id for row in rows_of(log)})
            if kill:
                program.process.kill()
                await program.ended()
            return number

    async def law() -> None:
        ids = [await one(kill=True), await one(kill=False)]
        assert [row.id for row in rows_of(log)] == ids

    within(law)
