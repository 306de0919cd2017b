"""What people were given and have sent: tables of their own in the build's file."""

import sqlite3
from collections.abc import Mapping
from typing import Any

from aligner.building.store import Store

Given = Mapping[str, object] | tuple[object, ...]
_TABLES = """
CREATE TABLE IF NOT EXISTS review_items (
  key TEXT PRIMARY KEY, about TEXT NOT NULL, place BLOB NOT NULL, needed INTEGER NOT NULL,
  finished INTEGER NOT NULL DEFAULT 0, closed INTEGER NOT NULL DEFAULT 0, sent INTEGER NOT NULL DEFAULT 0
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS review_items_open ON review_items (place, key) WHERE finished < needed AND NOT closed;
CREATE INDEX IF NOT EXISTS review_items_unsent ON review_items (key) WHERE NOT sent AND (closed OR finished > 0);
CREATE TABLE IF NOT EXISTS review_leases (
  kind TEXT NOT NULL, item TEXT NOT NULL, person TEXT NOT NULL, until REAL NOT NULL,
  PRIMARY KEY (kind, item, person)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS review_leases_of ON review_leases (kind, person);
CREATE TABLE IF NOT EXISTS review_first_steps (
  item TEXT NOT NULL, person TEXT NOT NULL, text TEXT NOT NULL, reasons TEXT NOT NULL, comment TEXT NOT NULL,
  settled INTEGER NOT NULL, PRIMARY KEY (item, person)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS review_second_steps (
  item TEXT NOT NULL, person TEXT NOT NULL, base TEXT NOT NULL, text TEXT NOT NULL, reasons TEXT NOT NULL,
  comment TEXT NOT NULL, PRIMARY KEY (item, person)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS review_done (
  number INTEGER PRIMARY KEY, item TEXT NOT NULL, about TEXT NOT NULL, person TEXT NOT NULL, choice TEXT NOT NULL,
  text TEXT NOT NULL, reasons TEXT NOT NULL, comment TEXT NOT NULL, inspected INTEGER NOT NULL,
  UNIQUE (about, person)
);
CREATE INDEX IF NOT EXISTS review_done_by_item ON review_done (item);
CREATE INDEX IF NOT EXISTS review_done_inspected ON review_done (number) WHERE inspected;
CREATE TABLE IF NOT EXISTS review_passes (
  item TEXT NOT NULL, person TEXT NOT NULL, comment TEXT NOT NULL, PRIMARY KEY (item, person)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS review_looks (
  number INTEGER PRIMARY KEY REFERENCES review_done, inspector TEXT NOT NULL, agrees INTEGER NOT NULL,
  comment TEXT NOT NULL
);
"""


def prepare(store: Store) -> None:
    """Have the tables of the review in a store, whose connection from now on keeps what it commits even without power.

    That no person has to write a text twice is worth more than the milliseconds.
    """
    store.connection.execute("PRAGMA synchronous = FULL")
    with store.writing() as db:
        make(db)


def is_prepared(store: Store) -> bool:
    """Whether anybody was ever served the page."""
    return bool(rows(store.connection, "SELECT 1 FROM sqlite_master WHERE name = 'review_looks'"))


def make(db: sqlite3.Connection) -> None:
    """Make the tables that are not there."""
    for statement in filter(str.strip, _TABLES.split(";")):
        db.execute(statement)


def rows(db: sqlite3.Connection, query: str, given: Given = ()) -> list[Mapping[str, Any]]:
    """What a query finds, by the names of its columns."""
    found = db.execute(query, given)
    names = [each[0] for each in found.description]
    return [dict(zip(names, row, strict=True)) for row in found]


def row(db: sqlite3.Connection, query: str, given: Given = ()) -> Mapping[str, Any] | None:
    """The first of them, if there is one."""
    return next(iter(rows(db, query, given)), None)


def count(db: sqlite3.Connection, query: str, given: Given = ()) -> int:
    """The number that a query finds."""
    return db.execute(query, given).fetchone()[0]
