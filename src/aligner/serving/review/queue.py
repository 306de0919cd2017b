"""The review queue: of each correction a narrow row that is found by any mixture of filters, kept with the log's own.

A row's number tells its time, so that all orders end in it. What never changes of a row, and is filtered by, is its
kind; there are few kinds, and the rows of one lie together in an index of each order: however rare what is wanted, some
kinds are looked up, and of each no more rows than are shown.
"""

import hashlib
import json
import zlib
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from functools import lru_cache
from itertools import count
from typing import Any, NamedTuple, get_args

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Connection,
    Double,
    ForeignKey,
    Index,
    SmallInteger,
    Table,
    delete,
    exists,
    select,
    update,
)

from aligner.serving.database import AnyText
from aligner.serving.logged import Feedback, Logged, State, state_of
from aligner.serving.review.search import add_words, words
from aligner.serving.review.words import words_of
from aligner.serving.tables import NUMBER, add_rows, feedback, feedback_of_rows, metadata

STATES: tuple[State, ...] = get_args(State)
EDGES = (0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
"""between the classes of edit shares; the lowest holds the zeros alone"""
NAMES = ("upstream", "model", "aligner", "mode")
_REASONS = ("skipped", "bypass", "kept_reason")

kinds = Table(
    "aligner_kinds",
    metadata,
    Column("kind", BigInteger, primary_key=True, autoincrement=False),
    Column("changed", Boolean, nullable=False),
    *(Column(name, AnyText, nullable=False) for name in NAMES),
    *(Column(name, AnyText) for name in _REASONS),
    Column("edits", SmallInteger, nullable=False),
)
queue = Table(
    "aligner_queue",
    metadata,
    Column("number", NUMBER, primary_key=True, autoincrement=False),
    Column("id", AnyText, ForeignKey("aligner_corrections.id", ondelete="CASCADE"), nullable=False, unique=True),
    Column("kind", BigInteger, nullable=False),
    Column("state", SmallInteger, nullable=False),
    Column("edits", Double, nullable=False),
    Column("doubt", Double, nullable=False),
)
_BY = (queue.c.kind, queue.c.state)
_JUDGED: dict[str, Any] = {"sqlite_where": queue.c.state > 0, "postgresql_where": queue.c.state > 0}
Index("aligner_queue_judged", queue.c.state, queue.c.number, **_JUDGED)
Index("aligner_queue_judged_edits", queue.c.state, queue.c.edits, queue.c.number, **_JUDGED)
Index("aligner_queue_judged_doubt", queue.c.state, queue.c.doubt, queue.c.number, **_JUDGED)
# Where much is wanted, it is found by walking in its order; where little is, kind by kind.
Index("aligner_queue_edits", queue.c.edits, queue.c.number)
Index("aligner_queue_doubt", queue.c.doubt, queue.c.number)
# Edit shares stand in them, too: within a kind those that are not wanted are passed over without a look at the row.
Index("aligner_queue_by_time", *_BY, queue.c.number, queue.c.edits)
Index("aligner_queue_by_edits", *_BY, queue.c.edits, queue.c.number)
Index("aligner_queue_by_doubt", *_BY, queue.c.doubt, queue.c.number, queue.c.edits)

_FIRST, _LAST = 0.0, 2.0**33
"""seconds since 1970 that numbers can tell"""


class Kind(NamedTuple):
    """What never changes of a correction, and is filtered by."""

    changed: bool
    upstream: str
    model: str
    aligner: str
    mode: str
    skipped: str | None
    bypass: str | None
    kept_reason: str | None
    edits: int
    """the class of its edit share"""

    @property
    def reasons(self) -> tuple[str, ...]:
        """Why the answer was left as it was."""
        return tuple(reason for reason in (self.skipped, self.bypass, self.kept_reason) if reason)

    @property
    def facets(self) -> tuple[str, ...]:
        """Words for the search, which no text can hold: to search by filters, too."""
        names = (facet(name, getattr(self, name)) for name in NAMES)
        reasons = (facet("reason", reason) for reason in self.reasons)
        return (facet("changed", str(self.changed)), *names, *reasons, facet("edits", str(self.edits)))


def facet(name: str, value: str) -> str:
    """The word that stands for a filter."""
    return f"{name}:{hashlib.sha256(value.encode(errors='surrogatepass')).hexdigest()[:12]}"


def kind_of(row: Logged) -> Kind:
    """The kind of a row."""
    names = (row.upstream, row.model, row.aligner, row.mode)
    return Kind(row.changed, *names, row.skipped, row.bypass, row.kept_reason, class_of(row.edit_share))


def class_of(share: float) -> int:
    """The class of an edit share."""
    return 0 if share <= 0 else 1 + bisect_right(EDGES, share)


@lru_cache(maxsize=4096)
def _known(kind: Kind) -> tuple[int, tuple[str, ...]]:
    """What names a kind in the tables, everywhere the same, and its facets."""
    digest = hashlib.sha256(json.dumps(kind).encode()).digest()
    return int.from_bytes(digest[:8]) >> 1, kind.facets


def first_number(seconds: float) -> int:
    """The least number of a time."""
    return int(min(max(seconds, _FIRST), _LAST) * 1e6) << 9


def _number(row: Logged, attempt: int = 0) -> int:
    """A number for a row; where it is taken, the next attempt draws from twice as many."""
    drawn = zlib.crc32(f"{attempt}{row.id}".encode(errors="surrogatepass"))
    return first_number(row.created) + (drawn & ((0x200 << min(attempt, 16)) - 1))


def begin(connection: Connection) -> None:
    """Begin to write: what is read from now on changes by nobody else's doing, where rows are locked or SQLite is."""
    # Python's driver would begin by itself only with the first statement that writes rows, and read before it.
    if connection.dialect.name == "sqlite":
        connection.exec_driver_sql("BEGIN IMMEDIATE")


def enqueue(connection: Connection, rows: Sequence[Logged]) -> None:
    """Add corrections that were just written; those that are there already stay as they are."""
    named = {row.id: kind_of(row) for row in rows}
    made = {_known(kind)[0]: kind._asdict() for kind in named.values()}
    add_rows(connection, kinds, [{"kind": name, **made[name]} for name in sorted(made)])
    queued = {row.id: _queued(row, _known(named[row.id])[0]) for row in rows}
    there: Collection[int] = ()
    if add_rows(connection, queue, list(queued.values())) != len(queued):
        _settle(connection, rows, queued)
        numbers = [row["number"] for row in queued.values()]
        there = set(connection.scalars(select(words.c.number).where(words.c.number.in_(numbers))))
    found = {
        queued[row.id]["number"]: [*words_of(_texts(row)), *_known(named[row.id])[1]]
        for row in rows
        if row.content == "full"
    }
    add_words(connection, {number: said for number, said in found.items() if number not in there})


def _settle(connection: Connection, rows: Sequence[Logged], queued: Mapping[str, dict[str, Any]]) -> None:
    """Numbers for rows whose own was taken; those that were there before keep theirs."""
    for attempt in count(1):
        there = select(queue.c.id, queue.c.number).where(queue.c.id.in_(list(queued)))
        found = {row.id: row.number for row in connection.execute(there)}
        for row in rows:
            queued[row.id]["number"] = found.get(row.id, _number(row, attempt))
        if len(found) == len(queued):
            return
        add_rows(connection, queue, [row for id_, row in queued.items() if id_ not in found])


def _queued(row: Logged, kind: int) -> dict[str, Any]:
    doubt = -1.0 if row.confidence is None else 1.0 - row.confidence
    common = {"id": row.id, "kind": kind, "edits": row.edit_share, "doubt": doubt}
    return {**common, "number": _number(row), "state": 0}


def _texts(row: Logged) -> tuple[str, ...]:
    return (row.question, row.answer, row.correction) if row.changed else (row.question, row.answer)


def restate(connection: Connection, ids: Collection[str]) -> None:
    """Bring the states of corrections in line with what was said of them."""
    said = said_of(connection, ids)
    by_state: defaultdict[int, list[str]] = defaultdict(list)
    for id_ in ids:
        by_state[STATES.index(state_of(said.get(id_, ())))].append(id_)
    for state, those in by_state.items():
        connection.execute(update(queue).where(queue.c.id.in_(those)).values(state=state))


def said_of(connection: Connection, ids: Collection[str]) -> Mapping[str, Sequence[Feedback]]:
    """What was said of corrections, the oldest first."""
    said = select(feedback).where(feedback.c.id.in_(ids)).order_by(feedback.c.created, feedback.c.number)
    return feedback_of_rows(dict(row) for row in connection.execute(said).mappings())


def drop_kinds(connection: Connection) -> None:
    """Delete the kinds of which no row is left."""
    # In PostgreSQL somebody may just be adding a row of a kind; a name that nothing is found by does no harm there.
    if connection.dialect.name == "sqlite":
        connection.execute(delete(kinds).where(~exists().where(queue.c.kind == kinds.c.kind)))
