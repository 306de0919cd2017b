"""The store of a build: one SQLite file that holds all its rows, for any number of processes at once."""

import sqlite3
from collections.abc import Callable, Collection, Generator, Iterable, Iterator, Mapping
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Self, TypeVar

from aligner.building.merging import merge
from aligner.building.nouns import Annotated, Answered, Asked, Checked, Dropped, Stage
from aligner.building.rows import (
    ANNOTATED,
    ANSWERED,
    ASKED,
    CHECKED,
    DROPPED,
    Row,
    annotated_of,
    annotated_row,
    answered_of,
    answered_row,
    asked_of,
    asked_row,
    checked_of,
    checked_row,
)
from aligner.building.schema import opened
from aligner.errors import OutputFileError

T = TypeVar("T")

_AT_A_TIME = 500
"""rows of one transaction, or of one look"""
_STAGES: Mapping[str, Stage] = {"questions": "questions", "answers": "answers", "annotated": "corrections"}
_TABLES = ("questions", "answers", "annotated", "checked", "dropped")


class Store:
    """The file; each process and each thread opens its own.

    What is added again changes nothing. A look never spans a pause of the reader, so rows may be written while they
    are read, by the reader too.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.connection: sqlite3.Connection = opened(path)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file; what was written stays."""
        self.connection.close()

    @contextmanager
    def writing(self) -> Generator[sqlite3.Connection, None, None]:
        """One transaction, alone among all processes: all of it is written, or nothing.

        Within another one it is a part of that. Raises OutputFileError where the file cannot be written.
        """
        if self.connection.in_transaction:
            yield self.connection
            return
        try:
            self.connection.execute("BEGIN IMMEDIATE")
            try:
                yield self.connection
                self.connection.execute("COMMIT")
            except BaseException:
                if self.connection.in_transaction:
                    self.connection.execute("ROLLBACK")
                raise
        except sqlite3.OperationalError as error:
            raise OutputFileError(f"{self.path}: cannot be written: {error}") from error

    def once(self, name: str, value: str) -> str:
        """Keep a value under a name, unless one is kept; gives what is kept."""
        with self.writing() as db:
            db.execute("INSERT INTO meta VALUES (?, ?) ON CONFLICT DO NOTHING", (name, value))
            return db.execute("SELECT value FROM meta WHERE name = ?", (name,)).fetchone()[0]

    def value(self, name: str) -> str | None:
        """What is kept under a name."""
        row = self.connection.execute("SELECT value FROM meta WHERE name = ?", (name,)).fetchone()
        return row[0] if row else None

    def add_questions(self, asked: Iterable[Asked]) -> None:
        """Keep questions."""
        self.insert(f"INSERT INTO questions ({ASKED}) VALUES (?, ?, ?, ?, ?, ?, ?, ?)", map(asked_row, asked))

    def questions(self) -> Iterator[Asked]:
        """Those that were not dropped, by id."""
        yield from map(asked_of, self._rows(f"SELECT {ASKED} FROM questions", "id", "questions"))

    def question(self, id: str) -> Asked:  # noqa: A002  # the word of the field
        """The question of that id, dropped or not; KeyError where there is none."""
        return asked_of(self._row(f"SELECT {ASKED} FROM questions WHERE id = ?", id))

    def add_answers(self, answers: Iterable[Answered]) -> None:
        """Keep answers."""
        self.insert(f"INSERT INTO answers ({ANSWERED}) VALUES (?, ?, ?, ?, ?, ?, ?, ?)", map(answered_row, answers))

    def answers(self) -> Iterator[Answered]:
        """Those that were not dropped, by question and id."""
        yield from map(answered_of, self._rows(f"SELECT {ANSWERED} FROM answers", "question, id", "answers"))

    def answer(self, id: str) -> Answered:  # noqa: A002  # the word of the field
        """The answer of that id, dropped or not; KeyError where there is none."""
        return answered_of(self._row(f"SELECT {ANSWERED} FROM answers WHERE id = ?", id))

    def add_annotated(self, rows: Iterable[Annotated]) -> None:
        """Keep corrections."""
        self.insert(f"INSERT INTO annotated ({ANNOTATED}) VALUES (?, ?, ?, ?, ?, ?, ?, ?)", map(annotated_row, rows))

    def annotated(self) -> Iterator[Annotated]:
        """Those that were not dropped, by answer and id."""
        yield from map(annotated_of, self._rows(f"SELECT {ANNOTATED} FROM annotated", "answer, id", "corrections"))

    def add_checked(self, rows: Iterable[Checked]) -> None:
        """Keep triples that are exported; each is filed under the question of its answer."""
        asked = (
            "coalesce((SELECT answers.question FROM annotated JOIN answers ON answers.id = annotated.answer"
            " WHERE annotated.id = ?1), '')"
        )
        self.insert(
            f"INSERT INTO checked ({CHECKED}) VALUES (?1, {asked}, ?2, ?3, ?4, ?5, ?6, ?7, ?8)", map(checked_row, rows)
        )

    def checked(self) -> Iterator[Checked]:
        """All of them, by the question's id and their own."""
        yield from map(checked_of, self._rows(f"SELECT {CHECKED} FROM checked", "asked, id", None))

    def drop(self, dropped: Iterable[Dropped]) -> None:
        """Keep why rows went no further; the first reason that was given for a row at a stage stays."""
        self.insert(f"INSERT INTO dropped ({DROPPED}) VALUES (?, ?, ?, ?, ?, ?)", dropped)

    def dropped(self, stage: Stage | None = None) -> Iterator[Dropped]:
        """What was dropped, at that stage or at all, by stage and id."""
        sql = f"SELECT {DROPPED} FROM dropped"
        where, given = ("stage = ?", (stage,)) if stage else ("TRUE", tuple[object, ...]())
        for row in self.paged(f"{sql} WHERE {where}", "stage, id", lambda row: row[:2], given):
            yield Dropped(*row)

    def restore(self, stage: Stage, reasons: Collection[str]) -> int:
        """Forget that rows were dropped at a stage for these reasons; gives how many they were."""
        marks = ", ".join("?" * len(reasons))
        with self.writing() as db:
            sql = f"DELETE FROM dropped WHERE stage = ? AND reason IN ({marks})"
            return db.execute(sql, (stage, *reasons)).rowcount

    def kept(self, table: str) -> int:
        """Rows of a table that went on: all but those dropped at its own stage; of corrections only the first ones."""
        if table == "checked":
            return self.counts(table)
        stage = _STAGES[table]
        first = "second = 0" if table == "annotated" else "TRUE"
        sql = f"SELECT count(*) FROM {table} WHERE {first} AND {_kept(table)}"
        return self.connection.execute(sql, (stage,)).fetchone()[0]

    def merge(self, path: Path) -> None:
        """Take in all rows, requests, replies and spending of another store; again changes nothing.

        Raises what opening that store raises.
        """
        opened(path).close()
        self.connection.execute("ATTACH ? AS part", (str(path),))
        try:
            with self.writing() as db:
                merge(db)
        finally:
            self.connection.execute("DETACH part")

    def counts(self, table: str) -> int:
        """Rows of a table, dropped ones included: questions, answers, annotated, checked or dropped."""
        if table not in _TABLES:
            raise ValueError(f"no such table: {table}")
        return self.connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0]

    def drop_reasons(self, stage: Stage) -> Mapping[str, int]:
        """How many rows a stage dropped for each reason, by its name."""
        sql = "SELECT reason, count(*) FROM dropped WHERE stage = ? GROUP BY reason ORDER BY reason"
        return dict(self.connection.execute(sql, (stage,)).fetchall())

    def insert(self, sql: str, rows: Iterable[Row]) -> int:
        """Insert rows that are not there yet; gives how many were new.

        Rows are read outside of the transactions, so whoever makes them may read and write the store meanwhile.
        """
        source, new = iter(rows), 0
        while some := list(islice(source, _AT_A_TIME)):
            with self.writing() as db:
                new += db.executemany(f"{sql} ON CONFLICT DO NOTHING", some).rowcount
        return new

    def paged(self, sql: str, order: str, place: Callable[[Row], Row], given: tuple[object, ...] = ()) -> Iterator[Row]:
        """The rows of a selection with a condition, by the columns of a unique order, whose values `place` tells."""
        marks = ", ".join("?" * len(order.split(",")))
        first = f"{sql} ORDER BY {order} LIMIT {_AT_A_TIME}"
        later = f"{sql} AND ({order}) > ({marks}) ORDER BY {order} LIMIT {_AT_A_TIME}"
        rows = self.connection.execute(first, given).fetchall()
        while rows:
            yield from rows
            rows = self.connection.execute(later, (*given, *place(rows[-1]))).fetchall()

    def _rows(self, sql: str, order: str, stage: Stage | None) -> Iterator[Row]:
        columns = [name.strip() for name in sql.removeprefix("SELECT ").partition(" FROM ")[0].split(",")]
        places = [columns.index(name.strip()) for name in order.split(",")]
        table = sql.rpartition(" ")[2]
        where, given = (_kept(table), (stage,)) if stage else ("TRUE", ())
        return self.paged(f"{sql} WHERE {where}", order, lambda row: tuple(row[place] for place in places), given)

    def _row(self, sql: str, id_: str) -> Row:
        if (row := self.connection.execute(sql, (id_,)).fetchone()) is None:
            raise KeyError(id_)
        return row


def _kept(table: str) -> str:
    """The condition that a row was not dropped at a stage."""
    return f"NOT EXISTS (SELECT 1 FROM dropped WHERE dropped.stage = ? AND dropped.id = {table}.id)"
