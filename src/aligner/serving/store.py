"""What is written to the correction log, read from it and deleted in it: plain calls that may block."""

from collections.abc import Callable, Collection, Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from typing import Any, TypeVar

from sqlalchemy import Connection, Engine, Select, delete, insert, select, tuple_
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError, SQLAlchemyError, StatementError

from aligner.errors import MisuseError
from aligner.serving.database import Place, StoreError, engine_for, is_no_database, reason
from aligner.serving.logged import Content, Feedback, Lengths, Logged, Outcome, Verdict
from aligner.serving.review.queue import begin, drop_kinds, enqueue, queue, restate, said_of
from aligner.serving.review.search import merge_some, merge_words
from aligner.serving.schema import is_current, prepare
from aligner.serving.tables import (
    INSERT,
    columns_of,
    columns_of_feedback,
    corrections,
    feedback,
    logged_from,
)

__all__ = ["Content", "Feedback", "Lengths", "Logged", "Outcome", "Store", "StoreError", "Verdict"]

T = TypeVar("T")

_PAGE = 500


class Store:
    """The corrections and the feedback in one database; all calls come from one thread.

    Raises StoreError while the database is out of reach, and connects anew with the next call; raises MisuseError for
    tables of a newer version. `timeout`, in seconds, is how long another's lock is waited for.
    """

    def __init__(self, place: Place, *, writable: bool = True, timeout: float = 5.0) -> None:
        self._place = place
        self._writable = writable
        self._timeout = timeout
        self._engine: Engine | None = None
        self._file: object = None
        self._has_traces = False

    def open(self) -> None:
        """Connect, and make the tables where there are none."""
        with self._transaction():
            pass

    def write(self, rows: Sequence[Logged]) -> int:
        """Write rows in one transaction; gives the number of those that the database refuses for what is in them.

        A row whose id is there already is as good as written, so that a batch may be written again.
        """
        try:
            with self._transaction() as connection:
                statement = INSERT[connection.dialect.name](corrections).on_conflict_do_nothing()
                connection.execute(statement, [columns_of(row) for row in rows])
                enqueue(connection, rows)
        except (StoreError, MisuseError):
            raise
        except Exception:  # noqa: BLE001  # whatever it is: one bad row must not hold up the others
            return 1 if len(rows) == 1 else sum(self.write([row]) for row in rows)
        return 0

    def add_feedback(self, said: Feedback) -> bool:
        """Add feedback; gives whether there is such a correction."""
        return said.id in self.note([said])

    def note(self, said: Sequence[Feedback], owner: str | None = None) -> Collection[str]:
        """Add feedback in one transaction, and give the ids of the corrections that are there.

        With an `owner` only rows whose `key_hash` that is are there.
        """
        with self._transaction() as connection:
            begin(connection)
            there = select(queue.c.id).where(queue.c.id.in_([one.id for one in said]))
            if owner is not None:
                there = there.join_from(queue, corrections).where(corrections.c.key_hash == owner)
            # Whoever judges the same corrections waits, each in the same order, and sees what was said before.
            found = set(connection.scalars(there.order_by(queue.c.number).with_for_update(of=queue)))
            if noted := [columns_of_feedback(one) for one in said if one.id in found]:
                connection.execute(insert(feedback), noted)
                restate(connection, found)
        return found

    def undo(self, batch: str, reviewer: str | None) -> int:
        """Delete the feedback of one action of a reviewer's, and give how much it was."""
        own = (feedback.c.batch == batch, feedback.c.batch != "", feedback.c.reviewer.is_not_distinct_from(reviewer))
        with self._transaction() as connection:
            begin(connection)
            judged = queue.c.id.in_(select(feedback.c.id).where(*own))
            ids = list(connection.scalars(select(queue.c.id).where(judged).order_by(queue.c.number).with_for_update()))
            count = connection.execute(delete(feedback).where(*own)).rowcount
            restate(connection, ids)
        return count

    def ask(self, question: Callable[[Connection], T]) -> T:
        """What somebody finds out who only reads."""
        with self._transaction() as connection:
            return question(connection)

    def get(self, id: str) -> Logged | None:  # noqa: A002  # the name of the field
        """The correction of that id with its feedback."""
        with self._transaction() as connection:
            found = _read(connection, select(corrections).where(corrections.c.id == id))
        return found[0] if found else None

    def rows(self, since: float | None = None) -> Iterator[Logged]:
        """All corrections in order of time; page by page, so that memory stays flat and no writer has to wait."""
        place = (corrections.c.created, corrections.c.id)
        query = select(corrections).order_by(*place).limit(_PAGE)
        following = query if since is None else query.where(corrections.c.created >= since)
        while True:
            with self._transaction() as connection:
                page = _read(connection, following)
            yield from page
            if len(page) < _PAGE:
                return
            following = query.where(tuple_(*place) > tuple_(page[-1].created, page[-1].id))

    def forget(self, conversation: str) -> int:
        """Delete a conversation with its feedback, and give the number of its corrections.

        Nothing of it is left in a SQLite file, which is written anew; a StoreError says that traces are still there,
        and to forget it once more removes them.
        """
        with self._transaction() as connection:
            statement = delete(corrections).where(corrections.c.conversation == conversation)
            count = connection.execute(statement).rowcount
            drop_kinds(connection)
        self._has_traces |= count > 0
        if self._has_traces and self._place.file:
            # What is deleted stays in the index of words until its parts are merged.
            with self._transaction() as connection:
                merge_words(connection)
            # secure_delete alone leaves copies where rows have moved from page to page.
            self._maintain("VACUUM")
            if not self._empty_wal():
                raise StoreError(f"{self._place.label}: another program reads it, and traces are left; forget again")
        self._has_traces = False
        return count

    def purge(self, before: float, *, at_most: int = 1000) -> int:
        """Delete the oldest corrections from before that time with their feedback, and give their number.

        SQLite overwrites them, but for copies that it left where rows have moved; those go when a conversation is
        forgotten, since only that writes the whole file anew. Words of theirs go with `tidy`.
        """
        old = select(corrections.c.id).where(corrections.c.created < before)
        oldest = old.order_by(corrections.c.created).limit(at_most)
        with self._transaction() as connection:
            count = connection.execute(delete(corrections).where(corrections.c.id.in_(oldest))).rowcount
            drop_kinds(connection)
        if count and self._place.file:
            self._empty_wal()
        return count

    def tidy(self, *, begins: bool) -> bool:
        """Overwrite a part of what deleted rows left in SQLite's index of words, and give whether there is more."""
        if not self._place.file:
            return False
        with self._transaction() as connection:
            is_more = merge_some(connection, begins=begins)
        if not is_more:
            self._empty_wal()
        return is_more

    def close(self) -> None:
        """Disconnect."""
        engine, self._engine = self._engine, None
        if engine is not None:
            engine.dispose()

    @contextmanager
    def _transaction(self) -> Generator[Connection]:
        """What happens inside is kept whole or not at all."""
        with self._naming_trouble(), self._connected().begin() as connection:
            _limit_waiting(connection, self._timeout)
            yield connection

    def _connected(self) -> Engine:
        """The engine, whose tables are there."""
        if self._engine is not None and self._place.identity != self._file:
            self.close()  # the file was deleted or replaced, and what was written to it now would be lost
        if self._engine is None:
            self._engine = engine_for(self._place, writable=self._writable, timeout=self._timeout)
            with self._engine.begin() as connection:
                _limit_waiting(connection, self._timeout)
                if self._writable:
                    prepare(connection, self._place.label)
                is_old = not self._writable and not is_current(connection, self._place.label)
            if is_old:
                # Whoever reads older tables brings them up to date, too.
                with closing(Store(self._place, timeout=self._timeout)) as writer:
                    writer.open()
            self._file = self._place.identity
        return self._engine

    @contextmanager
    def _naming_trouble(self) -> Generator[None]:
        """Turn trouble with the database into StoreError; what a row is to blame for stays as it is."""
        try:
            yield
        except (IntegrityError, DataError):
            raise
        except (DBAPIError, SQLAlchemyError, OSError) as error:
            if isinstance(error, StatementError) and not isinstance(error, DBAPIError):
                raise
            self.close()
            kind = MisuseError if is_no_database(error) else StoreError
            # Not chained: further down PostgreSQL quotes rows.
            raise kind(f"{self._place.label}: {reason(error)}") from None
        except MisuseError:
            self.close()
            raise

    def _maintain(self, statement: str) -> Any:
        """Run what SQLite runs outside of transactions, and give its one row, if there is one."""
        with self._naming_trouble(), self._connected().connect() as connection:
            result = connection.exec_driver_sql(statement)
            return result.one() if result.returns_rows else None

    def _empty_wal(self) -> bool:
        """Bring everything from the write-ahead log into the file, and give whether no reader is in the way."""
        busy, *_ = self._maintain("PRAGMA wal_checkpoint(TRUNCATE)")
        return not busy


def _read(connection: Connection, query: Select[Any]) -> list[Logged]:
    """The corrections that a query finds, with their feedback."""
    found = connection.execute(query).mappings().all()
    said = said_of(connection, [row["id"] for row in found])
    return [logged_from(dict(row), said.get(row["id"], ())) for row in found]


def _limit_waiting(connection: Connection, timeout: float) -> None:
    """SQLite has its limit from the connection; PostgreSQL, perhaps behind a pooler, has it from each transaction."""
    if connection.dialect.name == "postgresql":
        lock, statement = round(timeout * 1000), round(timeout * 10_000)
        connection.exec_driver_sql(f"SET LOCAL lock_timeout = {lock}; SET LOCAL statement_timeout = {statement}")
        # To compile a statement takes longer than any of ours.
        connection.exec_driver_sql("SET LOCAL jit = off")
