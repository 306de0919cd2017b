"""The tables of the correction log, and its rows as values of the system."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import fields
from typing import Any

from sqlalchemy import (
    Boolean,
    Column,
    Connection,
    Double,
    ForeignKey,
    Identity,
    Index,
    Integer,
    MetaData,
    Table,
    func,
    inspect,
    select,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.schema import CreateIndex, CreateTable

from aligner.errors import MisuseError
from aligner.records import Message
from aligner.serving.database import AnyText
from aligner.serving.logged import Feedback, Lengths, Logged

VERSION = 1
_PREPARING = 0x616C69676E  # whoever prepares the tables in PostgreSQL holds this lock

_all = MetaData()
schema = Table("aligner_schema", _all, Column("version", Integer, primary_key=True))
corrections = Table(
    "aligner_corrections",
    _all,
    Column("id", AnyText, primary_key=True),
    Column("created", Double, nullable=False),
    *(Column(name, AnyText, nullable=False) for name in ("conversation", "key_hash", "route", "mode")),
    *(Column(name, AnyText, nullable=False) for name in ("upstream", "model", "aligner", "outcome", "content")),
    Column("messages", AnyText),
    *(Column(name, AnyText, nullable=False) for name in Lengths._fields),
    *(Column(f"{name}_length", Integer, nullable=False) for name in Lengths._fields),
    Column("changed", Boolean, nullable=False),
    Column("edit_share", Double, nullable=False),
    Column("confidence", Double),
    *(Column(name, AnyText) for name in ("skipped", "bypass", "kept_reason")),
    *(Column(name, AnyText, nullable=False) for name in ("seconds", "usage")),
)
feedback = Table(
    "aligner_feedback",
    _all,
    Column("number", Integer, Identity(), primary_key=True),
    Column("id", AnyText, ForeignKey(corrections.c.id, ondelete="CASCADE"), nullable=False),
    Column("created", Double, nullable=False),
    Column("verdict", AnyText, nullable=False),
    Column("tags", AnyText, nullable=False),
    *(Column(name, AnyText) for name in ("text", "comment", "user")),
)
Index("aligner_corrections_by_time", corrections.c.created, corrections.c.id)
# PostgreSQL's ordinary index refuses a name of some kilobytes.
Index("aligner_corrections_by_conversation", corrections.c.conversation, postgresql_using="hash")
Index("aligner_feedback_by_correction", feedback.c.id)

_CODED = ("messages", "seconds", "usage", "lengths", "feedback")
_PLAIN = [field.name for field in fields(Logged) if field.name not in _CODED]
_SAID = [field.name for field in fields(Feedback) if field.name != "tags"]
INSERT = {"sqlite": sqlite.insert, "postgresql": postgresql.insert}
"""the statement that knows ON CONFLICT, for each kind of database"""


def prepare(connection: Connection, label: str) -> None:
    """Make the tables where there are none; raises MisuseError for those of a newer version."""
    there = inspect(connection)
    # Looked at first: to make what is there takes locks that hold up other programs.
    if not all(there.has_table(table.name) for table in _all.sorted_tables):
        _make(connection)
    check(connection, label)


def _make(connection: Connection) -> None:
    if connection.dialect.name == "postgresql":
        # There IF NOT EXISTS alone fails when two programs make a table at once.
        connection.execute(select(func.pg_advisory_xact_lock(_PREPARING)))
    for table in _all.sorted_tables:
        connection.execute(CreateTable(table, if_not_exists=True))
        for index in table.indexes:
            connection.execute(CreateIndex(index, if_not_exists=True))
    connection.execute(INSERT[connection.dialect.name](schema).on_conflict_do_nothing(), {"version": VERSION})


def check(connection: Connection, label: str) -> None:
    """Raise MisuseError for what holds no correction log, or one of a newer version."""
    if not inspect(connection).has_table(schema.name):
        raise MisuseError(f"{label}: holds no correction log")
    found = connection.scalar(select(func.max(schema.c.version)))
    if found is not None and found > VERSION:
        raise MisuseError(
            f"{label}: was written by a newer aligner (version {found} of the tables, this one knows {VERSION}); "
            "update aligner-llm or name another database"
        )


def columns_of(row: Logged) -> dict[str, object]:
    """A row for the table."""
    turns = row.messages
    return {
        **{name: getattr(row, name) for name in _PLAIN},
        **{f"{name}_length": length for name, length in row.lengths._asdict().items()},
        "messages": None if turns is None else _dumps([{"role": turn.role, "content": turn.content} for turn in turns]),
        "seconds": _dumps(dict(row.seconds)),
        "usage": _dumps(dict(row.usage)),
    }


def logged_from(columns: Mapping[str, Any], said: Iterable[Feedback]) -> Logged:
    """A row of the table, with what was said of it."""
    turns = columns["messages"]
    return Logged(
        **{name: columns[name] for name in _PLAIN},
        lengths=Lengths(*(columns[f"{name}_length"] for name in Lengths._fields)),
        messages=None if turns is None else tuple(Message(**turn) for turn in json.loads(turns)),
        seconds=json.loads(columns["seconds"]),
        usage=json.loads(columns["usage"]),
        feedback=tuple(said),
    )


def columns_of_feedback(said: Feedback) -> dict[str, object]:
    """Feedback for the table."""
    return {**{name: getattr(said, name) for name in _SAID}, "tags": _dumps(said.tags)}


def feedback_from(columns: Mapping[str, Any]) -> Feedback:
    """Feedback from the table."""
    return Feedback(**{name: columns[name] for name in _SAID}, tags=tuple(json.loads(columns["tags"])))


def _dumps(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
