"""Laws of the store, on SQLite and on PostgreSQL alike."""

import os
import sqlite3
import stat
import threading
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path
from random import Random
from typing import Any
from uuid import uuid4

import pytest
import sqlalchemy
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from logged_rows import ROW, row

from aligner.errors import MisuseError
from aligner.records import Message
from aligner.serving.database import StoreError, place_of
from aligner.serving.logged import Content, Feedback, Lengths, Logged, hash_of, reduced, reduced_feedback
from aligner.serving.review import reading
from aligner.serving.review.paging import Filters
from aligner.serving.store import Store
from aligner.serving.tables import columns_of, corrections

ANY_TEXT = st.text(
    st.characters(codec=None, categories=None) | st.sampled_from("\x00\x1a\ud800\udfff00d8"), max_size=30
)
"""any Python string, of which some are no Unicode and some look like what stands for those"""
_FIGURES = st.dictionaries(ANY_TEXT, st.floats(allow_nan=False), max_size=3)


@st.composite
def any_rows(draw: st.DrawFn) -> Logged:
    """Any row at all."""
    names = ("conversation", "key_hash", "route", "mode", "upstream", "model", "aligner")
    texts: dict[str, Any] = {name: draw(ANY_TEXT) for name in (*names, "question", "answer", "correction")}
    reasons: dict[str, Any] = {name: draw(st.none() | ANY_TEXT) for name in ("skipped", "bypass", "kept_reason")}
    turns = st.builds(Message, st.sampled_from(["system", "user", "assistant"]), ANY_TEXT)
    return Logged(
        **texts,
        **reasons,
        id=draw(ANY_TEXT),
        created=draw(st.floats(0, 1e10)),
        messages=draw(st.none() | st.lists(turns, max_size=3).map(tuple)),
        changed=draw(st.booleans()),
        edit_share=draw(st.floats(0, 1)),
        confidence=draw(st.none() | st.floats(0, 1)),
        outcome=draw(st.sampled_from(["sent", "cancelled", "failed"])),
        seconds=draw(_FIGURES),
        usage=draw(st.dictionaries(ANY_TEXT, st.integers(), max_size=3)),
    )


SAME_DATABASE = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=25)


def bytes_of(folder: Path) -> bytes:
    """All that lies in a folder; words are searched for in small letters."""
    return b"".join(path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()).upper()


@SAME_DATABASE
@given(made=st.lists(any_rows(), min_size=1, max_size=3))
def test_what_is_written_is_what_is_read(database: str, made: list[Logged]) -> None:
    """Every row comes back as it was, whatever its texts hold."""
    rows = [replace(one, id=one.id + uuid4().hex) for one in made]  # the database is the same for all examples
    with closing(Store(place_of(database))) as store:
        assert store.write(rows) == 0
        assert [store.get(one.id) for one in rows] == rows


@SAME_DATABASE
@given(
    said=st.builds(
        Feedback,
        id=st.just(ROW.id),
        verdict=st.sampled_from(["accept", "reject", "edit", "both_bad"]),
        text=st.none() | ANY_TEXT,
        tags=st.lists(ANY_TEXT, max_size=3).map(tuple),
        comment=st.none() | ANY_TEXT,
        user=st.none() | ANY_TEXT,
        created=st.floats(0, 1e10),
    )
)
def test_feedback_is_what_is_read(database: str, said: Feedback) -> None:
    """Feedback comes back as it was, with its correction."""
    with closing(Store(place_of(database))) as store:
        store.write([ROW])
        before = store.get(ROW.id)
        assert before is not None
        assert store.add_feedback(said)
        after = store.get(ROW.id)
        assert after is not None
        assert sorted(map(repr, after.feedback)) == sorted(map(repr, (*before.feedback, said)))


def test_feedback_stands_in_the_order_of_time(database: str) -> None:
    """The last word is the latest, and of two at one time the one that came later."""
    said = [
        Feedback(id=ROW.id, verdict="accept", created=time, user=user) for time, user in [(5, "a"), (3, "b"), (5, "c")]
    ]
    with closing(Store(place_of(database))) as store:
        store.write([ROW])
        assert all(map(store.add_feedback, said))
        found = store.get(ROW.id)
    assert found is not None
    assert [one.user for one in found.feedback] == ["b", "a", "c"]


def test_feedback_on_nothing_is_not_kept(database: str) -> None:
    """Feedback on a correction that is not there says so, and the store goes on."""
    with closing(Store(place_of(database))) as store:
        assert not store.add_feedback(Feedback(id="none\0", verdict="accept", created=1.0))
        assert store.get("none\0") is None
        assert store.write([ROW]) == 0


def test_rows_come_in_order_of_time_page_after_page(database: str) -> None:
    """All rows come once, in the order of time and then of code points in the id, however they were written."""
    rows = [row(number, conversation=f"c{number % 7}") for number in range(1100)]
    rows += [replace(ROW, id=name, created=ROW.created + 3) for name in ("b", "B", "a", "é", "Z")]
    with closing(Store(place_of(database))) as store:
        store.write(rows[::2])
        store.write(rows[1::2])
        ordered = sorted(rows, key=lambda made: (made.created, made.id))
        assert list(store.rows()) == ordered
        assert list(store.rows(ROW.created + 1050)) == ordered[-50:]


def test_a_row_written_twice_is_there_once(database: str) -> None:
    """A batch may be written again when nobody knows whether it was written: the first stays."""
    with closing(Store(place_of(database))) as store:
        assert store.write([ROW]) == 0
        assert store.write([replace(ROW, answer="another"), row(1)]) == 0
        assert list(store.rows()) == [ROW, row(1)]


def test_a_refused_row_does_not_take_others_with_it(database: str) -> None:
    """Of a batch with rows that the database cannot take, all others are written."""
    bad = [row(1, model=None), row(3, seconds={"read": object()})]
    with closing(Store(place_of(database))) as store:
        assert store.write([row(0), bad[0], row(2), bad[1], row(4)]) == 2
        assert list(store.rows()) == [row(0), row(2), row(4)]


def test_forgetting_takes_a_conversation_and_its_feedback(database: str) -> None:
    """All of one conversation goes, feedback included, and nothing of another."""
    mine, other = [row(n, conversation="mine\0") for n in range(3)], row(9)
    with closing(Store(place_of(database))) as store:
        store.write([*mine, other])
        for one in (mine[0], other):
            store.add_feedback(Feedback(id=one.id, verdict="accept", created=1.0))
        assert store.forget("mine\0") == 3
        assert store.forget("mine\0") == 0
        assert [found.id for found in store.rows()] == [other.id]
    assert count(database, "aligner_feedback") == 1


def count(database: str, table: str) -> int:
    """How many rows a table has."""
    engine = sqlalchemy.create_engine(place_of(database).url)
    with engine.connect() as connection:
        found = connection.scalar(sqlalchemy.text(f"SELECT count(*) FROM {table}"))  # noqa: S608  # names of our own
    engine.dispose()
    return int(found)


def test_purging_takes_the_oldest_in_portions(database: str) -> None:
    """What is older than a time goes with its feedback, at most so many at once; what is not stays."""
    with closing(Store(place_of(database))) as store:
        store.write([row(number) for number in range(10)])
        store.add_feedback(Feedback(id=row(0).id, verdict="accept", created=1.0))
        assert [store.purge(ROW.created + 5, at_most=3) for _ in range(3)] == [3, 2, 0]
        assert list(store.rows()) == [row(number) for number in range(5, 10)]
    assert count(database, "aligner_feedback") == 0


def test_a_newer_schema_is_refused(database: str) -> None:
    """A log that a newer version has written is refused in one line, to write and to read."""
    with closing(Store(place_of(database))) as store:
        store.open()
    engine = sqlalchemy.create_engine(place_of(database).url)
    with engine.begin() as connection:
        connection.execute(sqlalchemy.text("INSERT INTO aligner_schema VALUES (3)"))
    engine.dispose()
    for writable in (True, False):
        with closing(Store(place_of(database), writable=writable)) as store, pytest.raises(MisuseError) as caught:
            store.open()
        assert "was written by a newer aligner (version 3 of the tables, this one knows 2)" in str(caught.value)
        assert "\n" not in str(caught.value)


VERSION_1 = """
CREATE TABLE aligner_schema (version INTEGER PRIMARY KEY);
CREATE TABLE aligner_corrections (
    id {text} PRIMARY KEY, created {double} NOT NULL,
    conversation {text} NOT NULL, key_hash {text} NOT NULL, route {text} NOT NULL, mode {text} NOT NULL,
    upstream {text} NOT NULL, model {text} NOT NULL, aligner {text} NOT NULL, outcome {text} NOT NULL,
    content {text} NOT NULL, messages {text}, question {text} NOT NULL, answer {text} NOT NULL,
    correction {text} NOT NULL, question_length INTEGER NOT NULL, answer_length INTEGER NOT NULL,
    correction_length INTEGER NOT NULL, changed BOOLEAN NOT NULL, edit_share {double} NOT NULL, confidence {double},
    skipped {text}, bypass {text}, kept_reason {text}, seconds {text} NOT NULL, usage {text} NOT NULL
);
CREATE TABLE aligner_feedback (
    number {number}, id {text} NOT NULL REFERENCES aligner_corrections (id) ON DELETE CASCADE,
    created {double} NOT NULL, verdict {text} NOT NULL, tags {text} NOT NULL, text {text}, comment {text}, "user" {text}
);
CREATE INDEX aligner_corrections_by_time ON aligner_corrections (created, id);
CREATE INDEX aligner_feedback_by_correction ON aligner_feedback (id);
INSERT INTO aligner_schema VALUES (1);
"""
"""the tables as version 1 made them"""
_TYPES = {
    "sqlite": {"text": "TEXT", "double": "DOUBLE", "number": "INTEGER PRIMARY KEY"},
    "postgresql": {
        "text": 'TEXT COLLATE "C"',
        "double": "DOUBLE PRECISION",
        "number": "INTEGER GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY",
    },
}


@pytest.mark.parametrize("writable", [True, False])
def test_a_log_of_version_1_is_brought_up_to_date(database: str, writable: bool) -> None:
    """It keeps its rows and what was said of them, which are found in the queue; also by whoever only reads."""
    rows = [row(number, conversation=f"c{number}\0") for number in range(600)]
    engine = sqlalchemy.create_engine(place_of(database).url)
    said = {"id": row(3).id, "created": 5.0, "verdict": "accept", "tags": '["honest"]', "user": "ann"}
    with engine.begin() as connection:
        for statement in VERSION_1.format(**_TYPES[engine.dialect.name]).split(";")[:-1]:
            connection.exec_driver_sql(statement)
        connection.execute(corrections.insert(), [columns_of(one) for one in rows])
        names = sqlalchemy.table("aligner_feedback", *(sqlalchemy.column(name) for name in said))
        connection.execute(names.insert(), said)
    engine.dispose()
    old = Feedback(id=row(3).id, created=5.0, verdict="accept", tags=("honest",), user="ann")
    rows[3] = replace(rows[3], feedback=(old,))
    for _ in range(2):
        with closing(Store(place_of(database), writable=writable)) as store:
            assert list(store.rows()) == rows
            page = store.ask(partial(reading.page, filters=Filters(state="once", search="2."), behind=None, limit=9))
            assert [one.logged for one in page.rows] == [rows[3]]
    with closing(Store(place_of(database))) as store:
        assert store.add_feedback(replace(old, reviewer="bob", batch="b"))
        assert store.write([row(600)]) == 0
        assert (store.undo("b", "bob"), store.forget("c5\0")) == (1, 1)
    assert count(database, "aligner_queue") == 600


def test_many_may_open_an_empty_database_at_once(database: str) -> None:
    """Programs that start together all find the tables, whoever makes them."""
    barrier, wrong = threading.Barrier(4), list[BaseException]()

    def open_store(number: int) -> None:
        with closing(Store(place_of(database))) as store:
            barrier.wait()
            try:
                store.write([row(number)])
            except StoreError as error:
                wrong.append(error)

    threads = [threading.Thread(target=open_store, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with closing(Store(place_of(database), writable=False)) as store:
        assert (wrong, len(list(store.rows()))) == ([], 4)


def test_a_long_name_of_a_conversation_is_found_again(database: str) -> None:
    """A name beyond what PostgreSQL's ordinary index takes is kept and forgotten as any other."""
    name = os.urandom(9000).hex()
    with closing(Store(place_of(database))) as store:
        assert store.write([row(0, conversation=name)]) == 0
        assert store.forget(name) == 1


@pytest.mark.parametrize("content", ["off", "hash", "full"])
def test_content_is_kept_only_as_far_as_allowed(database: str, content: Content) -> None:
    """Texts stand as themselves, as hashes or not at all; lengths and figures always stay."""
    reply = reduced(ROW, content)
    with closing(Store(place_of(database))) as store:
        store.write([reply])
        found = store.get(ROW.id)
    assert found is not None
    assert found == reply
    assert found.lengths == Lengths(14, 8, 8)
    assert (found.usage, found.edit_share, found.content) == (ROW.usage, ROW.edit_share, content)
    texts = {"full": ROW.answer, "hash": hash_of(ROW.answer), "off": ""}
    assert found.answer == texts[content]


@given(any_rows())
def test_reducing_hides_every_text(made: Logged) -> None:
    """Hashes alone stand for texts, equal for equal ones, or nothing; what is no content is unchanged."""
    hashed, off = reduced(made, "hash"), reduced(made, "off")
    assert (hashed.answer == hashed.correction) == (made.answer == made.correction)
    assert all(text.startswith("sha256:") for text in (hashed.question, hashed.answer, hashed.correction))
    assert all(turn.content.startswith("sha256:") for turn in hashed.messages or ())
    assert (off.size, off.messages) == (0, None)
    for less in (hashed, off):
        texts = {name: getattr(made, name) for name in ("messages", "question", "answer", "correction", "content")}
        assert replace(less, **texts) == made


def test_feedback_is_reduced_as_its_correction_is() -> None:
    """What a person wrote is content too; the verdict, the tags and the name are not."""
    said = Feedback(id="1", verdict="edit", text="better", comment="why", tags=("honest",), user="ann", created=1.0)
    assert reduced_feedback(said, "full") == said
    assert reduced_feedback(said, "off") == replace(said, text=None, comment=None)
    assert reduced_feedback(said, "hash") == replace(said, text=hash_of("better"), comment=hash_of("why"))


# ---- SQLite ----------------------------------------------------------------------------------------------------------


def test_files_are_for_their_owner_only(tmp_path: Path) -> None:
    """The database and what SQLite puts beside it can be read by nobody else, and what was there keeps its mode."""
    old = os.umask(0)
    try:
        with closing(Store(place_of(str(tmp_path / "log.db")))) as store:
            store.write([ROW])
            modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
    finally:
        os.umask(old)
    assert modes == {"log.db": 0o600, "log.db-shm": 0o600, "log.db-wal": 0o600}
    (tmp_path / "log.db").chmod(0o640)
    with closing(Store(place_of(str(tmp_path / "log.db")))) as store:
        store.open()
    assert stat.S_IMODE((tmp_path / "log.db").stat().st_mode) == 0o640


@pytest.mark.parametrize("count", [40, 1500])
def test_nothing_of_a_forgotten_conversation_is_left_in_the_file(tmp_path: Path, count: int) -> None:
    """Once forget returns, the files hold not a byte of the conversation, even where rows have moved between pages."""
    random, rows = Random(0), [row(count, conversation="CANARY")]
    for number in range(count):
        word = random.choice(["CANARY", "plain", "plain"])
        texts = {
            name: f"{word} " * random.choice([1, 3, 10, 100, 600]) for name in ("question", "answer", "correction")
        }
        rows.append(row(number, conversation=word, messages=None, **texts))
    random.shuffle(rows)
    with closing(Store(place_of(str(tmp_path / "log.db")))) as store:
        for batch in (rows[start : start + 20] for start in range(0, count, 20)):
            store.write(batch)
            text = batch[0].answer if batch[0].conversation == "CANARY" else None
            store.add_feedback(Feedback(id=batch[0].id, verdict="edit", text=text, created=1.0))
            # Only where rows between others were deleted does secure_delete alone leave copies.
            store.purge(row(count).created, at_most=1)
        assert b"CANARY" in bytes_of(tmp_path)
        assert store.forget("CANARY") > 0
        assert b"CANARY" not in bytes_of(tmp_path)
        assert {found.conversation for found in store.rows()} == {"plain"}


def test_words_of_what_was_purged_go_step_by_step(tmp_path: Path) -> None:
    """What is too old can be found no more at once, and once the index is tidied nothing of its words is left."""
    old = [row(number, conversation="CANARY", answer=f"canary {number % 50}") for number in range(600)]
    with closing(Store(place_of(str(tmp_path / "log.db")))) as store:
        for start in range(0, 600, 30):
            store.write([*old[start : start + 30], row(1000 + start)])
        assert store.purge(row(999).created) == 600
        is_more = store.tidy(begins=True)
        while is_more:
            is_more = store.tidy(begins=False)
        assert b"CANARY" not in bytes_of(tmp_path)
        assert len(list(store.rows())) == 20


def test_a_reader_in_the_way_of_forgetting_is_said_and_made_up_for(tmp_path: Path) -> None:
    """While another program reads what was there, forgetting is not done; once more afterwards, it is."""
    path = tmp_path / "log.db"
    with closing(Store(place_of(str(path)), timeout=0.1)) as store:
        store.write([row(0, conversation="CANARY")])
        with closing(sqlite3.connect(path)) as reader:
            reader.execute("BEGIN")
            reader.execute("SELECT * FROM aligner_corrections").fetchall()
            with pytest.raises(StoreError):
                store.forget("CANARY")
        assert store.forget("CANARY") == 0
        assert b"CANARY" not in bytes_of(tmp_path)


def test_a_locked_file_is_trouble_that_passes(tmp_path: Path) -> None:
    """While another program holds the lock writing fails in time, and afterwards it succeeds."""
    path = tmp_path / "log.db"
    with closing(Store(place_of(str(path)), timeout=0.05)) as store:
        store.open()
        with closing(sqlite3.connect(path)) as other:
            other.execute("BEGIN EXCLUSIVE")
            with pytest.raises(StoreError, match=r"log\.db: database is locked$"):
                store.write([ROW])
        assert store.write([ROW]) == 0
        assert store.get(ROW.id) == ROW


def test_a_deleted_file_is_made_anew(tmp_path: Path) -> None:
    """Rows are not written into a file that nobody can find any more."""
    path = tmp_path / "log.db"
    with closing(Store(place_of(str(path)))) as store:
        store.write([ROW])
        for beside in tmp_path.iterdir():
            beside.unlink()
        store.write([row(1)])
        assert path.is_file()
        assert list(store.rows()) == [row(1)]


def test_reading_makes_no_file(tmp_path: Path) -> None:
    """A store to read from refuses what is not there, or is no log, and leaves no file behind."""
    store = Store(place_of(str(tmp_path / "none.db")), writable=False)
    with pytest.raises(MisuseError, match=r"none\.db: no such file$"):
        store.open()
    assert list(tmp_path.iterdir()) == []
    sqlite3.connect(tmp_path / "other.db").close()
    store = Store(place_of(str(tmp_path / "other.db")), writable=False)
    with pytest.raises(MisuseError, match=r"other\.db: holds no correction log$"):
        store.open()


def test_a_file_of_another_kind_is_refused(tmp_path: Path) -> None:
    """What is no database is left as it is."""
    path = tmp_path / "notes.txt"
    path.write_text("not a database, however long it may be\n" * 100)
    with closing(Store(place_of(str(path)))) as store, pytest.raises(MisuseError, match=r"notes\.txt: file is not a "):
        store.open()
    assert path.read_text().startswith("not a database")


# ---- places ----------------------------------------------------------------------------------------------------------


def test_a_path_is_a_file_whatever_its_name(tmp_path: Path) -> None:
    """A path without a scheme is a SQLite file, and so is one behind sqlite:///; signs of a URL in it mean nothing."""
    for name in ("a b?mode=ro#c%20.db", "plain.db"):
        with closing(Store(place_of(str(tmp_path / name)))) as store:
            store.write([ROW])
        assert (tmp_path / name).is_file()
    with closing(Store(place_of(f"sqlite:///{tmp_path}/plain.db"), writable=False)) as store:
        assert list(store.rows()) == [ROW]


@pytest.mark.parametrize(
    ("database", "words"),
    [
        ("mysql://root:secret@host/name", 'unknown kind of database "mysql"'),
        ("postgresql://user:secret@host:port/name", "neither a path nor a URL"),
        ("sqlite://", "in memory would be lost"),
        (":memory:", "in memory would be lost"),
        ("/", "is a folder"),
        ("/none/at/all/log.db", "there is no folder /none/at/all"),
    ],
)
def test_what_can_be_no_database_is_misuse(database: str, words: str) -> None:
    """A wrong URL is refused in one line that repeats no password."""
    with pytest.raises(MisuseError, match=words) as caught:
        place_of(database)
    assert "secret" not in str(caught.value)


def test_no_message_holds_a_password_or_a_text() -> None:
    """A server that cannot be reached is named without the password."""
    place = place_of("postgres://ann:secret@127.0.0.1:1/log")
    assert place.label == "postgresql+psycopg://ann:***@127.0.0.1:1/log"
    with closing(Store(place)) as store, pytest.raises(StoreError) as caught:
        store.write([ROW])
    assert "secret" not in str(caught.value)
    assert "\n" not in str(caught.value)
    assert ROW.answer not in repr(caught.value)
