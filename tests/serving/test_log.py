"""Laws of the correction log: serving never waits for it, and what it said to be written is there."""

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import AsyncGenerator, Callable, Coroutine, Generator
from contextlib import asynccontextmanager, closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy
from logged_rows import ROW, row
from postgresql import Server
from structlog.testing import capture_logs

from aligner.errors import MisuseError
from aligner.serving.database import StoreError, place_of
from aligner.serving.log import CorrectionLog, LogOptions, open_log
from aligner.serving.logged import Feedback, Logged, hash_of
from aligner.serving.store import Store

FULL = LogOptions(content="full", gather=0.01, pause=0.1, timeout=0.2)
CANNOT, AGAIN = "the correction log cannot be written", "the correction log is written again"


def with_log(
    database: str, use: Callable[[CorrectionLog], Coroutine[Any, Any, None]], options: LogOptions = FULL
) -> CorrectionLog:
    """Use a log and close it; gives the closed log for its counters."""

    async def run() -> CorrectionLog:
        async with open_log(database, options) as log:
            await use(log)
        return log

    return asyncio.run(run())


def rows_in(database: str) -> list[Logged]:
    """All rows of a closed log."""
    with closing(Store(place_of(database), writable=False)) as store:
        return list(store.rows())


@contextmanager
def locked(database: str) -> Generator[None]:
    """Nobody else can write while another program holds the lock."""
    engine = sqlalchemy.create_engine(place_of(database).url)
    with engine.connect() as connection:
        postgresql = engine.dialect.name == "postgresql"
        connection.exec_driver_sql("LOCK TABLE aligner_corrections" if postgresql else "BEGIN EXCLUSIVE")
        yield
    engine.dispose()


@asynccontextmanager
async def never_held_up(seconds: float) -> AsyncGenerator[None]:
    """The event loop goes round all the time."""
    worst = 0.0

    async def turn() -> None:
        nonlocal worst
        while True:
            before = time.monotonic()
            await asyncio.sleep(0.001)
            worst = max(worst, time.monotonic() - before)

    task = asyncio.create_task(turn())
    yield
    task.cancel()
    assert worst < seconds


async def until(condition: Callable[[], bool]) -> None:
    """Wait until something is so."""
    async with asyncio.timeout(30):
        while not condition():  # noqa: ASYNC110  # counters tell nobody when they move
            await asyncio.sleep(0.01)


def test_what_is_put_is_there_for_whoever_asks_next(database: str) -> None:
    """Reading, feedback and deletion come after all rows that were put before them."""

    async def use(log: CorrectionLog) -> None:
        log.put(ROW)
        assert await log.get(ROW.id) == ROW
        log.put(row(1))
        said = Feedback(id=row(1).id, verdict="edit", text="better\0", created=2.0)
        assert await log.feedback(said)
        assert await log.get(row(1).id) == replace(row(1), feedback=(said,))
        log.put(row(2, conversation="other"))
        assert await log.forget("other") == 1
        assert await log.get(row(2).id) is None
        assert not await log.feedback(replace(said, id=row(2).id))

    log = with_log(database, use)
    assert (log.written, log.dropped, log.failed, log.waiting) == (3, 0, 0, 0)
    assert [found.id for found in rows_in(database)] == [ROW.id, row(1).id]


def test_rows_are_written_by_themselves_and_the_last_at_the_end(database: str) -> None:
    """Nobody has to ask for rows to be written, and closing writes what waits, in the order of their coming."""
    rows = [row(number) for number in range(1200)]

    async def use(log: CorrectionLog) -> None:
        for one in rows[:700]:
            log.put(one)
        await until(lambda: log.written == 700)
        for one in rows[700:]:
            log.put(one)

    log = with_log(database, use, replace(FULL, batch=100))
    assert (log.written, log.dropped) == (1200, 0)
    assert rows_in(database) == rows


def test_a_locked_database_delays_and_loses_nothing(database: str) -> None:
    """While another program holds the lock, serving goes on and one line says so; afterwards every row is there."""

    async def use(log: CorrectionLog) -> None:
        async with never_held_up(0.8):
            with locked(database):
                for number in range(50):
                    log.put(row(number))
                    await asyncio.sleep(0.002)
                await until(lambda: log.failed >= 2)
                assert log.written == 0
                with pytest.raises(StoreError):
                    await log.get(ROW.id)
            await until(lambda: log.written == 50)

    with capture_logs() as lines:
        log = with_log(database, use, replace(FULL, timeout=1.0))
    assert [line["event"] for line in lines] == [CANNOT, AGAIN]
    assert (log.dropped, log.waiting) == (0, 0)
    assert rows_in(database) == [row(number) for number in range(50)]


def test_a_full_queue_drops_the_oldest_and_counts(database: str) -> None:
    """Rows put are rows written, dropped or waiting; what was dropped is the oldest."""

    async def use(log: CorrectionLog) -> None:
        with locked(database):
            for number in range(100):
                log.put(row(number))
                await asyncio.sleep(0.005)
                assert log.written + log.dropped + log.waiting == number + 1
        await log.flush()

    log = with_log(database, use, replace(FULL, waiting=30, batch=20))
    assert log.written + log.dropped == 100
    assert log.written <= 50  # what waited, and a batch that was on its way
    assert rows_in(database)[-30:] == [row(number) for number in range(70, 100)]
    assert len(rows_in(database)) == log.written


def test_a_row_that_the_database_refuses_is_counted_and_said(database: str) -> None:
    """One bad row costs no other row and no second attempt, and the line about it holds nothing of it."""

    async def use(log: CorrectionLog) -> None:
        for one in (row(0), row(1, model=None, answer="CANARY"), row(2)):
            log.put(one)

    with capture_logs() as lines:
        log = with_log(database, use)
    assert (log.written, log.dropped, log.failed) == (2, 1, 0)
    assert lines == [{"event": "the database refused rows for what is in them", "rows": 1, "log_level": "warning"}]


def test_a_server_that_vanishes_is_waited_for(postgresql: Server) -> None:
    """Rows put while PostgreSQL is down are there once it is back, and requests fail at once instead of hanging."""
    database = postgresql.new_schema()

    async def use(log: CorrectionLog) -> None:
        log.put(row(0))
        await log.flush()
        await asyncio.to_thread(postgresql.stop)
        try:
            log.put(row(1))
            with pytest.raises(StoreError):
                await log.flush()
            with pytest.raises(StoreError):
                await log.forget("talk")
            await until(lambda: log.failed >= 4)
        finally:
            await asyncio.to_thread(postgresql.start)
        log.put(row(2))
        await until(lambda: log.written == 3)

    with capture_logs() as lines:
        log = with_log(database, use)
    assert [line["event"] for line in lines] == [CANNOT, AGAIN]
    assert log.dropped == 0
    assert rows_in(database) == [row(0), row(1), row(2)]


def test_a_server_that_is_down_from_the_start_is_waited_for(postgresql: Server) -> None:
    """A log opens without its database, and makes the tables when that comes up."""
    database = postgresql.new_schema()
    postgresql.stop()

    async def use(log: CorrectionLog) -> None:
        try:
            log.put(ROW)
            await until(lambda: log.failed >= 2)
        finally:
            await asyncio.to_thread(postgresql.start)
        await until(lambda: log.written == 1)

    with capture_logs() as lines:
        with_log(database, use)
    assert [line["event"] for line in lines] == [CANNOT, AGAIN]
    assert rows_in(database) == [ROW]


def test_dropped_tables_are_made_again(database: str) -> None:
    """What somebody has done to the tables costs what was in them, and nothing that comes later."""

    async def use(log: CorrectionLog) -> None:
        log.put(row(0))
        await log.flush()
        engine = sqlalchemy.create_engine(place_of(database).url)
        with engine.begin() as connection:
            for table in ("words", "queue", "kinds", "feedback", "corrections", "schema"):
                connection.exec_driver_sql(f"DROP TABLE aligner_{table}")
        engine.dispose()
        log.put(row(1))
        await until(lambda: log.written == 2)

    with_log(database, use)
    assert rows_in(database) == [row(1)]


def test_a_folder_that_vanishes_is_waited_for(tmp_path: Path) -> None:
    """Rows put while the folder of a SQLite file is gone are written when it is back."""
    folder = tmp_path / "disk"
    folder.mkdir()

    async def use(log: CorrectionLog) -> None:
        log.put(row(0))
        await log.flush()
        shutil.rmtree(folder)
        log.put(row(1))
        await until(lambda: log.failed >= 3)
        folder.mkdir()
        await until(lambda: log.written == 2)

    log = with_log(str(folder / "log.db"), use)
    assert log.dropped == 0
    assert rows_in(str(folder / "log.db")) == [row(1)]


FULL_DISK = """
import asyncio, json, resource, sys
from logged_rows import row
from aligner.serving.log import LogOptions, open_log

async def main(path):
    options = LogOptions(content="full", gather=0.01, pause=0.1, waiting=100, batch=20)
    async with open_log(path, options) as log:
        _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, hard))
        for number in range(2000):
            log.put(row(number, answer="x" * 1000))
            if number % 10 == 9:
                await asyncio.sleep(0.001)
        while log.failed < 3:
            await asyncio.sleep(0.01)
        before = [log.written, log.dropped, log.waiting]
        resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
        await log.flush()
        log.put(row(2000))
    print(json.dumps([before, [log.written, log.dropped, log.waiting]]))

asyncio.run(main(sys.argv[1]))
"""


def run_program(code: str, *arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run Python code in a process of its own."""
    return subprocess.run([sys.executable, "-c", code, *arguments], **program_options(), timeout=120, **options)


def program_options() -> dict[str, Any]:
    """For programs that use the modules of the tests."""
    return {
        "text": True,
        "stdout": subprocess.PIPE,
        "env": {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])},
    }


def test_a_full_disk_drops_and_counts_and_serving_goes_on(tmp_path: Path) -> None:
    """When the file can grow no more, rows are dropped and counted; when it can, the last ones are written."""
    path = str(tmp_path / "log.db")
    done = run_program(FULL_DISK, path)
    assert done.returncode == 0
    (written, dropped, waiting), after = json.loads(done.stdout.splitlines()[-1])
    assert min(written, dropped, waiting) > 0
    assert written + dropped + waiting == 2000
    assert after == [written + waiting + 1, dropped, 0]
    assert [found.id for found in rows_in(path)][-101:] == [row(number).id for number in range(1900, 2001)]


ACKNOWLEDGE = """
import asyncio, sys
from logged_rows import row
from aligner.serving.log import LogOptions, open_log

async def main(database, start):
    async with open_log(database, LogOptions(content="full", gather=0.01)) as log:
        for number in range(start, start + 100_000):
            log.put(row(number))
            if number % 7 == 6:
                await log.flush()
                print(number, flush=True)

asyncio.run(main(sys.argv[1], int(sys.argv[2])))
"""


def test_nothing_acknowledged_is_lost_by_a_kill(database: str) -> None:
    """After kill -9 in the midst of writing, every row before a flush that returned is there."""
    for start in (0, 1_000_000):
        program = subprocess.Popen([sys.executable, "-c", ACKNOWLEDGE, database, str(start)], **program_options())
        assert program.stdout is not None
        acknowledged = [int(program.stdout.readline()) for _ in range(30)]
        program.send_signal(signal.SIGKILL)
        acknowledged += map(int, program.stdout.read().split())
        program.stdout.close()
        program.wait()
        found = [one for one in rows_in(database) if one.created >= row(start).created]
        assert start + len(found) > acknowledged[-1]
        assert found == [row(start + i) for i in range(len(found))]


HANGS = """
import asyncio, sqlite3, sys
from logged_rows import row
from aligner.serving.log import LogOptions, open_log

async def main(path):
    async with open_log(path, LogOptions(gather=0.01, timeout=600, close=0.2)) as log:
        other = sqlite3.connect(path)
        other.execute("BEGIN EXCLUSIVE")
        log.put(row(0))
        waiting = asyncio.create_task(log.get("1"))
        await asyncio.sleep(0.1)
    print(log.written, log.dropped, log.waiting, type(waiting.exception()).__name__)
    other.close()

asyncio.run(main(sys.argv[1]))
"""


def test_a_database_that_hangs_does_not_keep_the_program_from_ending(tmp_path: Path) -> None:
    """Closing gives up at its time limit: the rows are counted as dropped, requests fail, and the program ends."""
    done = run_program(HANGS, str(tmp_path / "log.db"))
    assert (done.stdout.splitlines()[-1], done.returncode) == ("0 1 0 StoreError", 0)
    assert "the correction log was closed before all was written" in done.stdout


def test_a_closed_log_refuses_without_raising(tmp_path: Path) -> None:
    """What comes after the end is dropped and counted, and whoever asks is told."""

    async def run() -> None:
        async with open_log(str(tmp_path / "log.db"), FULL) as log:
            log.put(row(0))
        log.put(row(1))
        assert (log.written, log.dropped, log.waiting) == (1, 1, 0)
        with pytest.raises(StoreError, match="closed"):
            await log.get(row(0).id)

    asyncio.run(run())


def test_whoever_stops_waiting_does_not_disturb_others(database: str) -> None:
    """A request that is cancelled, before or during its turn, leaves rows and other requests alone."""

    async def use(log: CorrectionLog) -> None:
        for number in range(300):
            log.put(row(number))
            asking = asyncio.create_task(log.get(row(number).id))
            await asyncio.sleep(0.001 * (number % 3))
            asking.cancel()
        assert await log.get(row(299).id) == row(299)

    log = with_log(database, use)
    assert (log.written, log.dropped, log.failed) == (300, 0, 0)
    assert len(rows_in(database)) == 300


def test_what_is_too_old_goes_by_itself(database: str) -> None:
    """Rows beyond the age are deleted with nobody asking, and rows within it stay."""
    now = time.time()
    old = [replace(row(number), created=now - 8 * 86_400) for number in range(1500)]
    young = replace(row(9999), created=now - 6 * 86_400)

    async def use(log: CorrectionLog) -> None:
        for one in (*old, young):
            log.put(one)
        await log.flush()
        await until_async(log, old[-1].id)
        assert await log.get(young.id) == young
        assert await log.purge() == 0

    with_log(database, use, replace(FULL, days=7, purge_every=0.1))
    assert rows_in(database) == [young]


async def until_async(log: CorrectionLog, gone: str) -> None:
    """Wait until a row is gone."""
    async with asyncio.timeout(30):
        while await log.get(gone) is not None:  # noqa: ASYNC110  # nor does a row say when it goes
            await asyncio.sleep(0.01)


def test_without_an_age_everything_stays(database: str) -> None:
    """Nothing is deleted unless the operator says when."""

    async def use(log: CorrectionLog) -> None:
        log.put(replace(ROW, created=0.0))
        assert await log.purge() == 0
        assert await log.get(ROW.id) is not None

    with_log(database, use)


CANARY = "CANARY-7f3a"
CANARY_ROW = replace(
    ROW,
    messages=tuple(replace(turn, content=f"{turn.content} {CANARY}") for turn in ROW.messages or ()),
    question=CANARY,
    answer=f"It is {CANARY}.",
    correction=f"{CANARY} it is",
)


@pytest.mark.parametrize("content", ["off", "hash"])
def test_no_text_is_in_any_file(tmp_path: Path, postgresql: Server, content: Any) -> None:
    """With log_content off or hash no text of a conversation is in any file, while the log is open and after."""

    async def use(log: CorrectionLog) -> None:
        log.put(CANARY_ROW)
        said = Feedback(id=ROW.id, verdict="edit", text=CANARY, comment=f"why {CANARY}", created=1.0)
        assert await log.feedback(said)
        assert not files_with(CANARY, tmp_path, postgresql.folder)
        found = await log.get(ROW.id)
        assert found is not None
        assert found.answer == (hash_of(CANARY_ROW.answer) if content == "hash" else "")
        assert found.lengths == CANARY_ROW.lengths

    for database in (str(tmp_path / "log.db"), postgresql.new_schema()):
        with_log(database, use, replace(FULL, content=content))
        assert not files_with(CANARY, tmp_path, postgresql.folder)


def test_the_search_for_texts_finds_them(tmp_path: Path, postgresql: Server) -> None:
    """With log_content full the same search finds the texts, in the files of both databases."""

    async def use(log: CorrectionLog) -> None:
        log.put(replace(CANARY_ROW, answer="FOUND-51c2"))

    for database in (str(tmp_path / "log.db"), postgresql.new_schema()):
        with_log(database, use)
    for folder in (tmp_path, postgresql.folder):
        assert files_with("FOUND-51c2", folder)


def files_with(text: str, *folders: Path) -> list[Path]:
    """The files that hold a text."""
    files = (path for folder in folders for path in folder.rglob("*") if path.is_file())
    return [path for path in files if text.encode() in path.read_bytes()]


def test_lines_about_trouble_hold_no_text(database: str) -> None:
    """Whatever goes wrong while texts are written, the lines about it hold none of them."""

    async def use(log: CorrectionLog) -> None:
        with locked(database):
            log.put(CANARY_ROW)
            log.put(replace(CANARY_ROW, id=CANARY, edit_share="none of a number"))
            await until(lambda: log.failed >= 1)
        await log.flush()

    with capture_logs() as lines:
        log = with_log(database, use)
    assert len(lines) == 3
    assert log.dropped == 1
    assert CANARY not in repr(lines)


def test_a_newer_schema_keeps_the_log_from_opening(database: str) -> None:
    """A log of a newer version is refused at the start, before anything is served."""

    async def nothing(_: CorrectionLog) -> None:
        pass

    with_log(database, nothing)
    engine = sqlalchemy.create_engine(place_of(database).url)
    with engine.begin() as connection:
        connection.exec_driver_sql("UPDATE aligner_schema SET version = 7")
    engine.dispose()
    with pytest.raises(MisuseError, match="newer aligner"):
        with_log(database, nothing)


def test_a_server_that_takes_no_rows_is_waited_for(postgresql: Server) -> None:
    """A PostgreSQL that is read-only, as a replica is, costs the oldest rows, until it takes rows again."""
    database, admin = postgresql.new_database(), sqlalchemy.create_engine(place_of(postgresql.new_schema()).url)
    name = place_of(database).url.database

    def set_read_only(value: str) -> None:
        with admin.begin() as connection:
            connection.exec_driver_sql(f"ALTER DATABASE {name} SET default_transaction_read_only = {value}")

    async def use(log: CorrectionLog) -> None:
        for number in range(30):
            log.put(row(number))
        await until(lambda: log.failed >= 3)
        set_read_only("off")
        await log.flush()

    set_read_only("on")
    with capture_logs() as lines:
        log = with_log(database, use, replace(FULL, waiting=10))
    admin.dispose()
    assert [line["event"] for line in lines] == [CANNOT, AGAIN]
    assert (log.written, log.dropped) == (10, 20)
    assert rows_in(database) == [row(number) for number in range(20, 30)]
