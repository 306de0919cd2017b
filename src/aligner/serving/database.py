"""Where a correction log is kept: a SQLite file, or PostgreSQL by URL."""

import os
import re
import sqlite3
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sqlalchemy
from sqlalchemy import URL, Dialect, Engine, create_engine, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError
from sqlalchemy.types import TypeDecorator, TypeEngine

from aligner.errors import AlignerError, MissingExtraError, MisuseError, unknown


class StoreError(AlignerError, OSError):
    """The database is out of reach, locked or full; the same call may succeed later."""


@dataclass(frozen=True, slots=True)
class Place:
    """A database that may or may not be there."""

    url: URL
    file: Path | None
    """for SQLite"""

    @property
    def label(self) -> str:
        """What messages call it: never with a password."""
        return str(self.file) if self.file else self.url.set(query={}).render_as_string(hide_password=True)

    @property
    def identity(self) -> tuple[int, int] | None:
        """Which file it is, if there is one: another of the same name differs."""
        try:
            found = self.file and self.file.stat()
        except FileNotFoundError:
            return None
        return (found.st_dev, found.st_ino) if found else None


def place_of(database: str) -> Place:
    """The place that a path of a SQLite file, or a URL of SQLite or PostgreSQL, means; raises MisuseError."""
    if "://" not in database:
        return _sqlite_place(database)
    try:
        url = make_url(database)
    except (ArgumentError, ValueError):
        # The URL is not repeated: it may hold a password.
        raise MisuseError("the database is neither a path nor a URL such as postgresql://user@host/name") from None
    backend = url.get_backend_name()
    if backend not in ("sqlite", "postgresql", "postgres"):
        raise unknown("kind of database", backend, ("postgresql", "sqlite"))
    if backend == "sqlite":
        return _sqlite_place(url.database or "")
    return Place(url.set(drivername="postgresql+psycopg"), None)


def engine_for(place: Place, *, writable: bool, timeout: float) -> Engine:
    """An engine that connects when it is first used; `timeout`, in seconds, is for a connection or another's lock.

    What is written never shows in its errors. Raises MissingExtraError where PostgreSQL's driver is missing,
    MisuseError where a file to read is, and OSError where none can be made.
    """
    if place.file is not None:
        if writable:
            # SQLite would make it readable by all; what it puts beside it is as this file is.
            os.close(os.open(place.file, os.O_RDWR | os.O_CREAT, 0o600))
        elif not place.file.exists():
            raise MisuseError(f"{place.file}: no such file")
        connect = _SQLiteConnect(place.file, "rw" if writable else "ro", timeout)
        return create_engine(place.url, creator=connect, hide_parameters=True, pool_size=1, max_overflow=0)
    try:
        return create_engine(
            place.url,
            connect_args=_connection_options(timeout),
            hide_parameters=True,
            pool_size=1,
            max_overflow=0,
            pool_pre_ping=True,
        )
    except ImportError as error:
        raise MissingExtraError("PostgreSQL needs an extra: pip install 'aligner-llm[postgresql]'") from error


def reason(error: BaseException) -> str:
    """Why a database fails, in one line that holds nothing of the rows."""
    cause = error.orig if isinstance(error, DBAPIError) and error.orig else error
    # Behind the first line PostgreSQL quotes the row that it does not like.
    return str(cause).strip().partition("\n")[0] or type(cause).__name__


def is_no_database(error: BaseException) -> bool:
    """Whether a file is something else than a SQLite database."""
    return isinstance(error, DBAPIError) and getattr(error.orig, "sqlite_errorname", None) == "SQLITE_NOTADB"


def _sqlite_place(path: str) -> Place:
    if path in ("", ":memory:"):
        raise MisuseError("a correction log in memory would be lost; name a file")
    file = Path(path)
    if file.is_dir():
        raise MisuseError(f"{file}: is a folder; name a file in it")
    if not file.parent.is_dir():
        raise MisuseError(f"{file}: there is no folder {file.parent}")
    return Place(URL.create("sqlite", database=path), file)


@dataclass(frozen=True, slots=True)
class _SQLiteConnect:
    """Makes a connection to a file that is there."""

    file: Path
    mode: str
    timeout: float

    def __call__(self) -> sqlite3.Connection:
        uri = f"{self.file.absolute().as_uri()}?mode={self.mode}"
        connection = sqlite3.connect(uri, uri=True, timeout=self.timeout)
        try:
            connection.execute("PRAGMA foreign_keys = ON")
            if self.mode == "rw":
                _use_wal(connection, self.timeout)
                connection.execute("PRAGMA synchronous = FULL")  # what is committed outlives a power cut
                connection.execute("PRAGMA secure_delete = ON")
        except BaseException:
            connection.close()
            raise
        return connection


def _use_wal(connection: sqlite3.Connection, timeout: float) -> None:
    """Switch to write-ahead logging; SQLite does not wait for another connection that switches at the same time."""
    deadline = time.monotonic() + timeout
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
            time.sleep(0.01)
        else:
            return


def _connection_options(timeout: float) -> Mapping[str, Any]:
    """For libpq: a server that has vanished without a word is noticed within seconds."""
    return {
        "application_name": "aligner",
        "client_encoding": "utf8",
        "connect_timeout": max(2, round(timeout)),
        "keepalives_idle": 10,
        "keepalives_interval": 5,
        "keepalives_count": 3,
        "tcp_user_timeout": 20_000,
    }


_REFUSED = re.compile(r"[\x00\x1a\ud800-\udfff]")
_ESCAPED = re.compile("\x1a([0-9a-f]{4})")


def escaped(text: str) -> str:
    """A text that every database and every file takes: see `AnyText`."""
    return _REFUSED.sub(lambda match: f"\x1a{ord(match[0]):04x}", text)


def unescaped(text: str) -> str:
    """The text that `escaped` was given."""
    return _ESCAPED.sub(lambda match: chr(int(match[1], 16)), text)


class AnyText(TypeDecorator[str]):
    """Any text at all, in readable form.

    PostgreSQL refuses NUL, and no database takes half a surrogate pair: these stand in hexadecimal behind the control
    character SUBSTITUTE, as does this character itself. Order is that of code points on every database.
    """

    impl = sqlalchemy.Text
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        """A text of the database."""
        collation = "C" if dialect.name == "postgresql" else None
        return dialect.type_descriptor(sqlalchemy.Text(collation=collation))

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:
        """Into the database."""
        return value and escaped(value)

    def process_result_value(self, value: str | None, dialect: Dialect) -> str | None:
        """Out of the database."""
        return value and unescaped(value)
