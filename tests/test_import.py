"""Laws of the import: what was exported of a log comes into another, row for row, and nothing comes in twice."""

import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any, Literal

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from logged_rows import ROW, row
from postgresql import running_server
from sqlalchemy import delete, insert, select

from aligner.cli import main
from aligner.config import ExportConfig, ImportConfig
from aligner.export import export
from aligner.import_log import import_log
from aligner.records import Message
from aligner.serving.database import engine_for, place_of
from aligner.serving.exporting.intake import Intake, Taken
from aligner.serving.exporting.portable import rows_of_log
from aligner.serving.logged import Feedback, Logged, reduced
from aligner.serving.review.queue import queue, restate
from aligner.serving.review.reading import reviewed as reviewed_in
from aligner.serving.store import Store
from aligner.serving.tables import columns_of_feedback, corrections, feedback

Kind = Literal["log", "feedback"]

TEXT = st.text(st.characters(codec=None, categories=None) | st.sampled_from("\x00\x1a\ud800\udfff00d8\n"), max_size=20)
"""any Python string, of which some are no Unicode and some look like what stands for those"""
SAID = st.builds(
    Feedback,
    id=st.just(""),
    verdict=st.sampled_from(["accept", "reject", "edit", "both_bad"]),
    text=st.none() | TEXT,
    tags=st.lists(TEXT, max_size=2).map(tuple),
    comment=st.none() | TEXT,
    user=st.none() | TEXT,
    reviewer=st.none() | TEXT,
    batch=TEXT,
    created=st.floats(0, 1e10),
)
TURNS = st.lists(st.builds(Message, st.sampled_from(["system", "user", "assistant"]), TEXT), max_size=3).map(tuple)


@st.composite
def any_rows(draw: st.DrawFn) -> list[Logged]:
    """Some corrections, of which the same may have been said twice."""
    rows: list[Logged] = []
    for number in range(draw(st.integers(0, 3))):
        texts: dict[str, Any] = {name: draw(TEXT) for name in ("conversation", "model", "question", "answer")}
        reasons: dict[str, Any] = {name: draw(st.none() | TEXT) for name in ("skipped", "bypass", "kept_reason")}
        made = row(
            number,
            **texts,
            **reasons,
            messages=draw(st.none() | TURNS),
            confidence=draw(st.none() | st.floats(0, 1)),
            seconds=draw(st.dictionaries(TEXT, st.floats(0, 1e6), max_size=2)),
            usage=draw(st.dictionaries(TEXT, st.integers(0, 2**53), max_size=2)),
        )
        said = [replace(one, id=made.id) for one in draw(st.lists(SAID, max_size=3))]
        rows.append(replace(reduced(made, draw(st.sampled_from(["full", "hash", "off"]))), feedback=(*said, *said[:1])))
    return rows


def logged(database: str, rows: Iterable[Logged]) -> str:
    """A log with these rows and their feedback; gives the database."""
    with closing(Store(place_of(database))) as store:
        for one in rows:
            assert store.write([one]) == 0
            assert all(map(store.add_feedback, one.feedback))
        store.open()
    return database


def corrections_of(rows: Iterable[Logged]) -> list[Logged]:
    """The rows without what was said of them."""
    return [replace(one, feedback=()) for one in rows]


def exported(database: str, kind: Kind, out: Path) -> bytes:
    """The rows of that kind."""
    export(ExportConfig(database=database, out=out, kind=kind))
    return out.read_bytes()


def brought(file: Path, database: str) -> str:
    """Import a file; gives the database."""
    import_log(ImportConfig(file=file, database=database))
    return database


def test_a_log_comes_through_row_for_row(tmp_path: Path) -> None:
    """Export, import elsewhere, export again gives the same bytes, whatever the texts, and a second import nothing."""
    numbers = count()

    @settings(max_examples=15)
    @given(any_rows())
    def law(rows: list[Logged]) -> None:
        folder = tmp_path / str(next(numbers))
        folder.mkdir()
        out = folder / "log.jsonl"
        first = exported(logged(str(folder / "1.db"), rows), "log", out)
        assert exported(brought(out, str(folder / "2.db")), "log", folder / "2.jsonl") == first
        assert exported(brought(out, str(folder / "2.db")), "log", folder / "3.jsonl") == first

    law()


def test_feedback_comes_through_row_for_row(tmp_path: Path) -> None:
    """Into a log that has the corrections, feedback comes with the same bytes; a second import brings nothing."""
    numbers = count()

    @settings(max_examples=15)
    @given(any_rows())
    def law(rows: list[Logged]) -> None:
        folder = tmp_path / str(next(numbers))
        folder.mkdir()
        out = folder / "feedback.jsonl"
        first = exported(logged(str(folder / "1.db"), rows), "feedback", out)
        other = logged(str(folder / "2.db"), corrections_of(rows))
        assert exported(brought(out, other), "feedback", folder / "2.jsonl") == first
        assert exported(brought(out, other), "feedback", folder / "3.jsonl") == first

    law()


def reviewed(number: int, **given: Any) -> Logged:
    """A row on which two said something."""
    one = row(number, **given)
    words = [Feedback(id=one.id, verdict="edit", text="Two.\x00", tags=("honest",), user="ann", created=1.5)]
    words.append(Feedback(id=one.id, verdict="accept", reviewer="bob", batch="b1", comment="\ud800", created=2.5))
    return replace(one, feedback=tuple(words))


ROWS = [reviewed(0), reviewed(1, answer="half \ud800 and \x1a", confidence=None), row(2), reviewed(3, messages=None)]


@pytest.mark.parametrize("ending", ["jsonl.gz", "parquet"])
@pytest.mark.parametrize("kind", ["log", "feedback"])
def test_every_kind_of_file_comes_through(tmp_path: Path, kind: Kind, ending: str) -> None:
    """Gzipped and in Parquet, where every row has every field, rows are the same as well."""
    one = logged(str(tmp_path / "1.db"), ROWS)
    other = logged(str(tmp_path / "2.db"), corrections_of(ROWS))
    exported(one, kind, tmp_path / f"rows.{ending}")
    brought(tmp_path / f"rows.{ending}", other)
    assert exported(other, "log", tmp_path / "2.jsonl") == exported(one, "log", tmp_path / "1.jsonl")


def test_a_log_moves_to_postgresql_and_back(tmp_path: Path) -> None:
    """From SQLite to PostgreSQL to SQLite, whole or feedback alone, the rows stay the same."""
    first = exported(logged(str(tmp_path / "1.db"), ROWS), "log", tmp_path / "1.jsonl")
    said = exported(str(tmp_path / "1.db"), "feedback", tmp_path / "said.jsonl")
    with running_server() as server:
        moved = brought(tmp_path / "1.jsonl", server.new_schema())
        assert exported(brought(tmp_path / "1.jsonl", moved), "log", tmp_path / "2.jsonl") == first
        bare = logged(server.new_schema(), corrections_of(ROWS))
        assert exported(brought(tmp_path / "said.jsonl", bare), "feedback", tmp_path / "3.jsonl") == said
        assert exported(brought(tmp_path / "2.jsonl", str(tmp_path / "4.db")), "log", tmp_path / "4.jsonl") == first


def test_an_import_into_a_live_log_waits_for_whoever_judges_or_deletes() -> None:
    """On PostgreSQL a verdict that is just being given counts with those brought in; what is being deleted is gone."""
    said = [Feedback(id=row(number).id, verdict="accept", user="ann", created=1.0) for number in (0, 1)]
    with running_server() as server:
        database = logged(server.new_schema(), [row(0), row(1, conversation="other")])
        with closing(Intake(place_of(database))) as intake, ThreadPoolExecutor() as pool:
            intake.open()
            engine = engine_for(place_of(database), writable=True, timeout=5)
            with engine.begin() as other:
                other.execute(select(queue.c.id).where(queue.c.id == row(0).id).with_for_update())
                other.execute(insert(feedback), columns_of_feedback(replace(said[0], verdict="reject", user="bob")))
                restate(other, [row(0).id])
                other.execute(delete(corrections).where(corrections.c.conversation == "other"))
                taking = pool.submit(intake.take, said)
                with pytest.raises(TimeoutError):
                    taking.result(0.5)
            assert taking.result(5) == Taken(feedback=1, orphans=1)
            engine.dispose()
            found = intake.ask(partial(reviewed_in, id=row(0).id))
            assert found is not None
            assert (found.state, len(found.logged.feedback)) == ("disputed", 2)


def test_feedback_on_what_is_not_there_is_counted_and_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What has no correction to be about is left out, and said with the cure; the rest comes in."""
    exported(logged(str(tmp_path / "1.db"), ROWS), "feedback", tmp_path / "said.jsonl")
    other = logged(str(tmp_path / "2.db"), corrections_of(ROWS[:1]))
    assert main(["import", str(tmp_path / "said.jsonl"), other]) == 0
    assert capsys.readouterr().err.endswith(
        "0 corrections and 2 feedback brought in, 0 there already; 4 feedback left out: the log has not the "
        "corrections that they are about (`aligner export --kind log` writes both, to be imported together)\n"
    )


GOOD = orjson.dumps({"id": ROW.id, "verdict": "accept", "created": 1.0}).decode()


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ('{"id": "x"}', "neither a correction nor feedback: `aligner export` writes those"),
        (GOOD.replace("accept", "maybe"), '"verdict" is none of accept, reject, edit, both_bad'),
        (GOOD.replace("1.0", '"now"'), '"created" is text, not a number'),
        (GOOD.replace('"created":1.0', '"text":null'), 'no "created"'),
        (GOOD.replace("{", '{"mood": 1, '), 'unknown field "mood": a newer aligner wrote it; update aligner-llm'),
        (GOOD.replace("{", '{"tags": ["a", 3], '), '"tags.1" is a number, not text'),
        (GOOD[:-2], "invalid JSON"),
    ],
)
def test_a_bad_line_is_named_and_nothing_comes_in(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], line: str, problem: str
) -> None:
    """One bad row is said with file and line and its cure, and none of the good rows before it is in the log."""
    database = logged(str(tmp_path / "log.db"), [ROW])
    file = tmp_path / "said.jsonl"
    file.write_text("\n".join([*[GOOD] * 600, line]) + "\n", encoding="utf-8")
    assert main(["import", str(file), database]) == 1
    (told,) = capsys.readouterr().err.splitlines()
    assert told.startswith(f"aligner: {file}:601: {problem}")
    assert exported(database, "feedback", tmp_path / "out.jsonl") == b""


def test_a_pipe_brings_a_log_in(tmp_path: Path) -> None:
    """What one command exports to standard output another imports from standard input."""
    first = exported(logged(str(tmp_path / "1.db"), ROWS), "log", tmp_path / "1.jsonl")
    command = [sys.executable, "-m", "aligner", "import", "-", str(tmp_path / "2.db")]
    subprocess.run(command, input=first, check=True, stderr=subprocess.DEVNULL)
    assert exported(str(tmp_path / "2.db"), "log", tmp_path / "2.jsonl") == first


def test_a_killed_import_is_taken_up_again(tmp_path: Path) -> None:
    """Killed in the middle, the same command brings in the rest, and no row is there twice or in part."""
    rows = [reviewed(number) for number in range(3000)]
    database, file = str(tmp_path / "2.db"), tmp_path / "1.jsonl"
    file.write_bytes(b"".join(map(_line, rows)))
    command = [sys.executable, "-m", "aligner", "import", str(file), database]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as killed:
        _wait(lambda: Path(database).exists() and _count(database) > 0, killed)
        killed.send_signal(signal.SIGKILL)
    assert killed.returncode == -signal.SIGKILL
    assert 0 < _count(database) < len(rows)
    assert exported(brought(file, database), "log", tmp_path / "2.jsonl") == file.read_bytes()


def _line(one: Logged) -> bytes:
    return b"".join(orjson.dumps(made, option=orjson.OPT_APPEND_NEWLINE) for made in rows_of_log(one))


def _count(database: str) -> int:
    with closing(sqlite3.connect(database, timeout=5)) as connection:
        try:
            return connection.execute("SELECT count(*) FROM aligner_corrections").fetchone()[0]
        except sqlite3.OperationalError:
            return 0


def _wait(is_there: Callable[[], bool], process: "subprocess.Popen[bytes]") -> None:
    while process.poll() is None and not is_there():
        time.sleep(0.01)
