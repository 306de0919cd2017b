"""The ledger of a build: which calls are to be made, who makes them, what came back, and what it cost."""

import time
from collections.abc import Collection, Iterable
from heapq import merge
from itertools import islice
from sqlite3 import Connection, DataError, IntegrityError, InterfaceError, ProgrammingError
from typing import Any, cast

from aligner.building.books import BATCH, Books, State
from aligner.building.nouns import Failure, Fault, Reply, Request, Stage
from aligner.building.rows import REQUEST, Row, request_of, request_row, sound_outcome
from aligner.building.spool import spooled
from aligner.building.store import Store
from aligner.building.workers import HOST, Worker, forget, holding, spool_path

__all__ = ["LEASE_SECONDS", "Ledger", "State"]

LEASE_SECONDS = 120.0
"""after which a worker of another host that says nothing is taken for gone"""
_UNSTORABLE = (
    *(AttributeError, TypeError, ValueError, OverflowError),
    *(IntegrityError, InterfaceError, DataError, ProgrammingError),
)
_ITS = "worker = ?1 AND worker <> '' AND state = 'leased'"
_STRANGERS = """
WITH RECURSIVE holders (id) AS (
  SELECT min(worker) FROM requests WHERE worker <> '' AND worker > ''
  UNION ALL
  SELECT (SELECT min(worker) FROM requests WHERE worker <> '' AND worker > holders.id) FROM holders WHERE id IS NOT NULL
)
SELECT id FROM holders WHERE id IS NOT NULL AND id <> ? AND id NOT IN (SELECT id FROM workers)
"""
"""who holds requests and is no worker: one that was taken over, and went on before it knew"""


class Ledger(Books):
    """The requests of a store, in the eyes of one worker.

    A request is `todo`, `leased`, `done` or `failed`. What a worker leased is free again once that worker is gone,
    and what had come back to it is stored first.
    """

    def __init__(self, store: Store, worker: Worker) -> None:
        super().__init__(store)
        self.worker = worker
        with store.writing() as db:
            self._register(db)
        self.recover()

    def add(self, requests: Iterable[Request]) -> int:
        """Note calls to be made; gives how many were new."""
        return self.store.insert(
            f"INSERT INTO requests ({REQUEST}) VALUES (?, ?, ?, ?, ?, ?, ?)", map(request_row, requests)
        )

    def lease(self, stage: Stage, models: Collection[str], count: int) -> list[Request]:
        """Up to so many requests that nobody has, in their order; they are this worker's until `put` or `give_back`."""
        with self.store.writing() as db:
            self._stay(db)
            found = [self._first(db, stage, model, count) for model in dict.fromkeys(models)]
            rows = list(islice(merge(*found, key=lambda row: (row[-1], row[0])), count))
            sql = "UPDATE requests SET state = 'leased', worker = ? WHERE key = ?"
            db.executemany(sql, [(self.worker.id, row[0]) for row in rows])
        return [request_of(row) for row in rows]

    def put(self, key: str, outcome: Reply | Failure) -> None:
        """Keep what became of a request; KeyError for one that was never added.

        The first reply stays, and takes the place of a failure. Once this returns, no kill can take it.
        """
        if self.store.connection.execute("SELECT 1 FROM requests WHERE key = ?", (key,)).fetchone() is None:
            raise KeyError(key)
        self.worker.spool.append(key, sound_outcome(outcome))
        with self.store.writing() as db:
            self._stay(db)
            # One that could not be stored when it came waits here, too.
            for waiting in self.worker.spool.waiting:
                _store(db, waiting.key, waiting.outcome)
            row = self.worker.spool.waiting[-1].number, time.time(), self.worker.id
            db.execute("UPDATE workers SET spooled = ?, seen = ? WHERE id = ?", row)
        self.worker.spool.stored()

    def book(self, request: Request, cost: float) -> None:
        """Note at once what an attempt has cost that brought no outcome yet."""
        with self.store.writing() as db:
            _spend(db, request.stage, request.model, cost)

    def give_back(self, keys: Iterable[str]) -> None:
        """Free what this worker leased."""
        sql = "UPDATE requests SET state = 'todo', worker = '' WHERE key = ? AND state = 'leased' AND worker = ?"
        with self.store.writing() as db:
            db.executemany(sql, [(key, self.worker.id) for key in keys])

    def reopen(self, faults: Collection[Fault]) -> int:
        """What failed in these ways is to be done again; gives how many requests that are."""
        marks, given = ", ".join("?" * len(faults)), tuple(faults)
        which = f"fault IN ({marks}) AND fault <> ''"
        with self.store.writing() as db:
            db.execute(f"DELETE FROM failures WHERE fault IN ({marks})", given)
            sql = f"UPDATE requests SET state = 'todo', fault = '' WHERE {which}"
            return db.execute(sql, given).rowcount

    def beat(self) -> None:
        """Tell workers of other hosts that this one lives."""
        with self.store.writing() as db:
            self._stay(db)
            db.execute("UPDATE workers SET seen = ? WHERE id = ?", (time.time(), self.worker.id))

    def recover(self) -> int:
        """Take over from workers that are gone: store what had come back, free the rest; gives how many they were."""
        sql = "SELECT id, host, seen FROM workers WHERE id <> ?"
        gone = sum(
            self._take_over(id_)
            for id_, host, seen in self.store.connection.execute(sql, (self.worker.id,)).fetchall()
            if host == HOST or seen + LEASE_SECONDS < time.time()
        )
        return gone + sum(map(self._free_of, self.store.connection.execute(_STRANGERS, (BATCH,)).fetchall()))

    def _register(self, db: Connection) -> None:
        row = self.worker.id, HOST, time.time()
        db.execute("INSERT INTO workers (id, host, seen) VALUES (?, ?, ?) ON CONFLICT DO NOTHING", row)

    def _stay(self, db: Connection) -> None:
        """Go on as a new worker where others took this one for gone: its files are theirs."""
        if db.execute("SELECT 1 FROM workers WHERE id = ?", (self.worker.id,)).fetchone() is None:
            self.worker.renew()
            self._register(db)

    def _free_of(self, holder: tuple[str]) -> int:
        """Free the leases of one that nobody knows; gives whether there were any."""
        with self.store.writing() as db:
            known = "SELECT 1 FROM workers WHERE id = ?1"
            free = f"UPDATE requests SET state = 'todo', worker = '' WHERE {_ITS} AND NOT EXISTS ({known})"
            return db.execute(free, holder).rowcount > 0

    def _first(self, db: Connection, stage: Stage, model: str, count: int) -> list[Row]:
        where, given = self._bound(stage, model, "todo")
        sql = f"SELECT {REQUEST} FROM requests WHERE {where} ORDER BY place, key LIMIT ?"
        return db.execute(sql, (*given, count)).fetchall()

    def _take_over(self, id_: str) -> bool:
        with holding(self.worker.folder, id_) as is_gone:
            if not is_gone:
                return False
            with self.store.writing() as db:
                row = db.execute("SELECT spooled FROM workers WHERE id = ?", (id_,)).fetchone()
                for number, key, outcome in spooled(spool_path(self.worker.folder, id_)):
                    if row and number > row[0]:
                        _store(db, key, outcome)
                db.execute(f"UPDATE requests SET state = 'todo', worker = '' WHERE {_ITS}", (id_,))
                db.execute("DELETE FROM workers WHERE id = ?", (id_,))
            forget(self.worker.folder, id_)
            return True


def _store(db: Connection, key: str, outcome: Reply | Failure) -> None:
    """Settle an outcome; one that cannot be stored fails alone, and holds up no other."""
    db.execute("SAVEPOINT outcome")
    try:
        _settle(db, key, sound_outcome(outcome))
    except _UNSTORABLE as error:
        db.execute("ROLLBACK TO outcome")
        _settle(db, key, Failure("unusable", f"what came back cannot be stored: {type(error).__name__}"))
    db.execute("RELEASE outcome")


def _settle(db: Connection, key: str, outcome: Reply | Failure) -> None:
    """Write an outcome of a request that has none, or a reply in the place of a failure; any other costs, too."""
    row = db.execute("SELECT stage, model, state FROM requests WHERE key = ?", (key,)).fetchone()
    if row is None:
        return
    stage, model, state = cast("tuple[str, str, str]", row)
    if state == "done" or (state == "failed" and isinstance(outcome, Failure)):
        _spend(db, stage, model, outcome.cost)
        return
    if isinstance(outcome, Reply):
        _end(db, key, "done", "", "INSERT INTO replies VALUES (?, ?, ?, ?, ?, ?, ?)", outcome)
    else:
        _end(db, key, "failed", outcome.fault, "INSERT INTO failures VALUES (?, ?, ?, ?)", outcome)
    tokens = (outcome.prompt_tokens, outcome.completion_tokens) if isinstance(outcome, Reply) else (0, 0)
    _spend(db, stage, model, outcome.cost, *tokens)


def _spend(db: Connection, stage: str, model: str, cost: float, read: int = 0, written: int = 0) -> None:
    db.execute(
        "INSERT INTO spending VALUES ('', ?, ?, ?, ?, ?) ON CONFLICT (store, stage, model) DO UPDATE SET"
        " prompt_tokens = prompt_tokens + excluded.prompt_tokens,"
        " completion_tokens = completion_tokens + excluded.completion_tokens, cost = cost + excluded.cost",
        (stage, model, read, written, cost),
    )


def _end(db: Connection, key: str, state: str, fault: str, sql: str, outcome: tuple[Any, ...]) -> None:
    db.execute("DELETE FROM failures WHERE key = ?", (key,))
    db.execute(sql, (key, *outcome))
    db.execute("UPDATE requests SET state = ?, fault = ?, worker = '' WHERE key = ?", (state, fault, key))
