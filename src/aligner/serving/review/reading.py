"""What is read for reviews: corrections with their state, the values to filter by, and what reviewers said last."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from sqlalchemy import Connection, Integer, case, func, select

from aligner.serving.database import AnyText
from aligner.serving.logged import Feedback, Logged, Reviewer, State
from aligner.serving.review.paging import Filters, Found, Place, all_kinds, page_of, place_behind
from aligner.serving.review.queue import NAMES, STATES, queue, said_of
from aligner.serving.tables import corrections, feedback, feedback_of_rows, logged_from

READ = 8_000
"""characters of a text that are read for a list"""
SAID = 50
"""words on a correction that are read for a list: the last ones"""
_TEXTS = ("question", "answer", "correction")


class Reviewed(NamedTuple):
    """A correction, and how far its review has come."""

    logged: Logged
    state: State


class Page(NamedTuple):
    """Some rows of the queue, and where the next ones begin."""

    rows: Sequence[Reviewed]
    next: Place | None


def page(connection: Connection, filters: Filters, behind: Place | None, limit: int) -> Page:
    """The first rows behind a place; of long texts the beginning alone, and no turns where they are long."""
    found = page_of(connection, filters, behind, limit + 1)
    shown = found[:limit]
    rows = _beginnings(connection, shown)
    # Between two statements a row may have been deleted.
    there = [Reviewed(rows[one.id], one.state) for one in shown if one.id in rows]
    return Page(there, place_behind(shown[-1], filters.sort) if len(found) > limit else None)


def reviewed(connection: Connection, id: str) -> Reviewed | None:  # noqa: A002  # the name of the field
    """One correction, as it is."""
    query = select(corrections, queue.c.state).join_from(corrections, queue).where(corrections.c.id == id)
    row = connection.execute(query).mappings().one_or_none()
    if row is None:
        return None
    return Reviewed(logged_from(dict(row), said_of(connection, [id]).get(id, ())), STATES[row["state"]])


def facets(connection: Connection) -> Mapping[str, Sequence[str]]:
    """The values that filters can have, in the order of the alphabet."""
    there = all_kinds(connection).values()
    named = {f"{name}s": sorted({str(getattr(kind, name)) for kind in there} - {""}) for name in NAMES}
    return {**named, "reasons": sorted({reason for kind in there for reason in kind.reasons})}


def votes(connection: Connection, since: float | None) -> Mapping[str, Mapping[Reviewer, str]]:
    """Of each correction that was judged since a time the last verdict of each reviewer; whoever has a key is one."""
    query = select(feedback.c.id, feedback.c.reviewer, feedback.c.user, feedback.c.verdict)
    query = query.order_by(feedback.c.created, feedback.c.number)
    found: dict[str, dict[Reviewer, str]] = {}
    for id_, reviewer, user, verdict in connection.execute(
        query if since is None else query.where(feedback.c.created >= since)
    ):
        found.setdefault(id_, {})[reviewer, None if reviewer else user] = verdict
    return found


def _beginnings(connection: Connection, found: Sequence[Found]) -> Mapping[str, Logged]:
    """The corrections of some rows of the queue by their ids, with no more of their texts than a list shows."""
    ids = [one.id for one in found]
    cut = {name: func.substr(corrections.c[name], 1, READ, type_=AnyText).label(name) for name in _TEXTS}
    turns = corrections.c.messages
    cut["messages"] = case((func.length(turns, type_=Integer) <= READ, turns)).label("messages")
    query = select(*(cut.get(column.name, column) for column in corrections.c)).where(corrections.c.id.in_(ids))
    said = _last_said(connection, ids)
    return {row["id"]: logged_from(dict(row), said.get(row["id"], ())) for row in connection.execute(query).mappings()}


def _last_said(connection: Connection, ids: Sequence[str]) -> Mapping[str, Sequence[Feedback]]:
    """What was said of corrections last, the oldest first, with no more of it than a list shows."""
    said = feedback.c
    cut = {name: func.substr(said[name], 1, READ, type_=AnyText).label(name) for name in ("text", "comment")}
    latest = (said.created.desc(), said.number.desc())
    place = func.row_number().over(partition_by=said.id, order_by=latest).label("place")
    found = select(*(cut.get(column.name, column) for column in said), place).where(said.id.in_(ids)).subquery()
    query = select(found).where(found.c.place <= SAID).order_by(found.c.created, found.c.number)
    return feedback_of_rows(dict(row) for row in connection.execute(query).mappings())
