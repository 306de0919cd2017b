"""The tables of a build, and how a file of them is opened."""

import secrets
import sqlite3
import time
from pathlib import Path

from aligner.errors import InputFileError, OutputFileError

APPLICATION = 0x616C6762
"""`algb`, which SQLite keeps in the head of the file"""
VERSION = 1
BUSY_SECONDS = 120.0
"""how long a writer waits for another"""

_TABLES = """
CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;

CREATE TABLE questions (
  id TEXT PRIMARY KEY, question BLOB NOT NULL, source TEXT NOT NULL, place TEXT NOT NULL,
  licence TEXT NOT NULL, cluster TEXT NOT NULL, split TEXT NOT NULL, also BLOB NOT NULL
);
CREATE TABLE answers (
  id TEXT PRIMARY KEY, question TEXT NOT NULL, upstream TEXT NOT NULL, sample INTEGER NOT NULL,
  key TEXT NOT NULL, text TEXT NOT NULL, finish_reason TEXT NOT NULL, place TEXT NOT NULL
);
CREATE INDEX answers_of ON answers (question, id);
CREATE TABLE annotated (
  id TEXT PRIMARY KEY, answer TEXT NOT NULL, annotator TEXT NOT NULL, key TEXT NOT NULL,
  choice TEXT NOT NULL, text TEXT NOT NULL, reasons BLOB NOT NULL, second INTEGER NOT NULL
);
CREATE INDEX annotated_of ON annotated (answer, id);
CREATE TABLE checked (
  id TEXT PRIMARY KEY, asked TEXT NOT NULL, question BLOB NOT NULL, answer TEXT NOT NULL, correction TEXT NOT NULL,
  kind TEXT NOT NULL, cluster TEXT NOT NULL, split TEXT NOT NULL, facts BLOB NOT NULL
);
CREATE INDEX checked_of ON checked (asked, id);
CREATE TABLE dropped (
  stage TEXT NOT NULL, id TEXT NOT NULL, reason TEXT NOT NULL, detail TEXT NOT NULL,
  source TEXT NOT NULL, place TEXT NOT NULL, PRIMARY KEY (stage, id)
) WITHOUT ROWID;

CREATE TABLE requests (
  key TEXT PRIMARY KEY, stage TEXT NOT NULL, model TEXT NOT NULL, about TEXT NOT NULL, place BLOB NOT NULL,
  messages BLOB NOT NULL, sampling BLOB NOT NULL,
  state TEXT NOT NULL DEFAULT 'todo' CHECK (state IN ('todo', 'leased', 'done', 'failed')),
  fault TEXT NOT NULL DEFAULT '', worker TEXT NOT NULL DEFAULT ''
);
CREATE INDEX requests_by_state ON requests (stage, model, state, place, key);
CREATE INDEX requests_of_worker ON requests (worker) WHERE worker <> '';
CREATE INDEX requests_about ON requests (about, stage);
CREATE INDEX requests_failed ON requests (fault) WHERE fault <> '';
CREATE TABLE replies (
  key TEXT PRIMARY KEY, text TEXT NOT NULL, finish_reason TEXT NOT NULL, prompt_tokens INTEGER NOT NULL,
  completion_tokens INTEGER NOT NULL, cost REAL NOT NULL, way TEXT NOT NULL
);
CREATE TABLE failures (key TEXT PRIMARY KEY, fault TEXT NOT NULL, said TEXT NOT NULL, cost REAL NOT NULL);
CREATE TABLE spending (
  store TEXT NOT NULL, stage TEXT NOT NULL, model TEXT NOT NULL, prompt_tokens INTEGER NOT NULL,
  completion_tokens INTEGER NOT NULL, cost REAL NOT NULL, PRIMARY KEY (store, stage, model)
) WITHOUT ROWID;
CREATE TABLE workers (
  id TEXT PRIMARY KEY, host TEXT NOT NULL, seen REAL NOT NULL, spooled INTEGER NOT NULL DEFAULT 0
) WITHOUT ROWID;
CREATE TABLE pace (
  name TEXT PRIMARY KEY, requests REAL NOT NULL, tokens REAL NOT NULL, paused REAL NOT NULL, pauses INTEGER NOT NULL
) WITHOUT ROWID;

-- How many requests are in each state, kept up by whatever writes to them.
CREATE TABLE tally (
  stage TEXT NOT NULL, model TEXT NOT NULL, state TEXT NOT NULL, fault TEXT NOT NULL, count INTEGER NOT NULL,
  PRIMARY KEY (stage, model, state, fault)
) WITHOUT ROWID;
CREATE TRIGGER tally_new AFTER INSERT ON requests BEGIN
  INSERT INTO tally VALUES (new.stage, new.model, new.state, new.fault, 1)
    ON CONFLICT (stage, model, state, fault) DO UPDATE SET count = count + 1;
END;
CREATE TRIGGER tally_changed AFTER UPDATE OF state, fault ON requests BEGIN
  UPDATE tally SET count = count - 1
    WHERE stage = old.stage AND model = old.model AND state = old.state AND fault = old.fault;
  INSERT INTO tally VALUES (new.stage, new.model, new.state, new.fault, 1)
    ON CONFLICT (stage, model, state, fault) DO UPDATE SET count = count + 1;
END;
CREATE TRIGGER tally_gone AFTER DELETE ON requests BEGIN
  UPDATE tally SET count = count - 1
    WHERE stage = old.stage AND model = old.model AND state = old.state AND fault = old.fault;
END;
"""


def opened(path: Path) -> sqlite3.Connection:
    """The file's connection, with its tables made where it is new.

    Raises InputFileError for a file that is something else or of another version, OutputFileError where none can be
    made.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        connection = sqlite3.connect(path, timeout=BUSY_SECONDS, isolation_level=None)
    except (OSError, sqlite3.OperationalError) as error:
        raise OutputFileError(f"{path}: cannot be opened or made: {error}") from error
    try:
        _prepare(connection, path)
    except sqlite3.DatabaseError as error:
        connection.close()
        if isinstance(error, sqlite3.OperationalError):
            raise OutputFileError(f"{path}: cannot be used as the store of a build: {error}") from error
        raise InputFileError(f"{path}: is no store of a build ({error}); name another folder with --out") from error
    except BaseException:
        connection.close()
        raise
    return connection


def _prepare(connection: sqlite3.Connection, path: Path) -> None:
    _settle(connection)
    if _kind(connection) != (APPLICATION, VERSION):
        connection.execute("BEGIN IMMEDIATE")
        try:
            # Another process may have made them meanwhile.
            if _kind(connection) != (APPLICATION, VERSION):
                _make(connection, path)
        except BaseException:
            connection.execute("ROLLBACK")
            raise
        connection.execute("COMMIT")


def _settle(connection: sqlite3.Connection) -> None:
    """Set what holds for this connection, and that the file has a write-ahead log."""
    # A kill takes nothing that was committed; only the loss of power may take the last moments.
    connection.execute("PRAGMA synchronous = NORMAL")
    connection.execute("PRAGMA temp_store = MEMORY")
    until = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as error:
            # SQLite does not wait for this lock by itself.
            if "locked" not in str(error) or time.monotonic() > until:
                raise
            time.sleep(0.01)
        else:
            return


def _kind(connection: sqlite3.Connection) -> tuple[int, int]:
    (application,), (version,) = (
        connection.execute(f"PRAGMA {name}").fetchone() for name in ("application_id", "user_version")
    )
    return application, version


def _make(connection: sqlite3.Connection, path: Path) -> None:
    application, version = _kind(connection)
    if application == APPLICATION:
        raise InputFileError(
            f"{path}: is a store of version {version}, and this aligner reads {VERSION}; name another folder with --out"
        )
    if application or connection.execute("SELECT 1 FROM sqlite_master").fetchone():
        raise InputFileError(f"{path}: is a database of something else; name another folder with --out")
    for statement in _statements(_TABLES):
        connection.execute(statement)
    connection.execute("INSERT INTO meta VALUES ('store', ?)", (secrets.token_hex(16),))
    connection.execute(f"PRAGMA application_id = {APPLICATION}")
    connection.execute(f"PRAGMA user_version = {VERSION}")


def _statements(script: str) -> list[str]:
    """Each statement of a script; `executescript` would end the transaction."""
    found, statement = list[str](), ""
    for line in script.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            found.append(statement)
            statement = ""
    return found
