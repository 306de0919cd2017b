"""The tables of the correction log, and its rows as values of the system."""

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields
from typing import Any

from sqlalchemy import (
    BigInteger,
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
)
from sqlalchemy.dialects import postgresql, sqlite

from aligner.records import Message
from aligner.serving.database import AnyText
from aligner.serving.logged import Feedback, Lengths, Logged

metadata = MetaData()
NUMBER = BigInteger().with_variant(Integer, "sqlite")
"""the type of a number of the review queue"""
corrections = Table(
    "aligner_corrections",
    metadata,
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
    metadata,
    Column("number", Integer, Identity(), primary_key=True),
    Column("id", AnyText, ForeignKey(corrections.c.id, ondelete="CASCADE"), nullable=False),
    Column("created", Double, nullable=False),
    Column("verdict", AnyText, nullable=False),
    Column("tags", AnyText, nullable=False),
    *(Column(name, AnyText) for name in ("text", "comment", "user", "reviewer")),
    Column("batch", AnyText, nullable=False, server_default=""),
)
Index("aligner_corrections_by_time", corrections.c.created, corrections.c.id)
# PostgreSQL's ordinary index refuses a name of some kilobytes.
Index("aligner_corrections_by_conversation", corrections.c.conversation, postgresql_using="hash")
Index("aligner_feedback_by_correction", feedback.c.id)
Index("aligner_feedback_by_batch", feedback.c.batch, postgresql_using="hash")

_CODED = ("messages", "seconds", "usage", "lengths", "feedback")
_PLAIN = [field.name for field in fields(Logged) if field.name not in _CODED]
_SAID = [field.name for field in fields(Feedback) if field.name != "tags"]
INSERT = {"sqlite": sqlite.insert, "postgresql": postgresql.insert}
"""the statement that knows ON CONFLICT, for each kind of database"""


def add_rows(connection: Connection, table: Table, rows: Sequence[Mapping[str, object]]) -> int:
    """Insert rows but for those whose key is there already, and give the number of the others."""
    statement = INSERT[connection.dialect.name](table).on_conflict_do_nothing()
    if connection.dialect.name == "sqlite":
        return connection.execute(statement, rows).rowcount
    # All rows in one statement; without anything to return, each would be one of its own.
    return len(connection.execute(statement.returning(*table.primary_key), rows).all())


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


def feedback_of_rows(rows: Iterable[Mapping[str, Any]]) -> Mapping[str, list[Feedback]]:
    """Feedback from the table, by the ids of its corrections."""
    said: defaultdict[str, list[Feedback]] = defaultdict(list)
    for row in rows:
        said[row["id"]].append(feedback_from(row))
    return said


def feedback_from(columns: Mapping[str, Any]) -> Feedback:
    """Feedback from the table."""
    return Feedback(**{name: columns[name] for name in _SAID}, tags=tuple(json.loads(columns["tags"])))


def _dumps(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
