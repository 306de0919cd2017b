# ruff: noqa: S608  # what is put together here are parts of our own; all that is given is bound
"""The statements for a page of the review queue, by any filters, words and order."""

import re
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import orjson
from sqlalchemy import Connection, CursorResult, select, text

from aligner.serving.database import unescaped
from aligner.serving.logged import State
from aligner.serving.review.queue import EDGES, NAMES, STATES, Kind, class_of, facet, first_number, kinds
from aligner.serving.review.search import Terms, match, tsquery
from aligner.serving.review.words import words_of

Sort = Literal["newest", "oldest", "edits", "doubt"]
_ALL = range(len(STATES))
_WALKED = 2000
"""rows that are looked at in their order, before an index for what is rare is asked"""
_NAMED = re.compile(r":(\w+)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Filters:
    """Which corrections are wanted, and in which order; what is None is no filter."""

    changed: bool | None = None
    upstream: str | None = None
    model: str | None = None
    aligner: str | None = None
    mode: str | None = None
    reason: str | None = None
    """why the answer was left as it was: skipped, bypass or kept_reason"""
    edit_min: float | None = None
    edit_max: float | None = None
    since: float | None = None
    """seconds since 1970, the first that is wanted"""
    until: float | None = None
    """seconds since 1970, the first that is not"""
    state: State | None = None
    search: str | None = None
    """all of its words are in question, answer or correction together"""
    sort: Sort = "newest"


class Place(NamedTuple):
    """Where a page ends: the last row's figure in the order, and its number."""

    value: float
    number: int


class Found(NamedTuple):
    """A row of the queue."""

    number: int
    id: str
    state: State
    edits: float
    doubt: float


class _Order(NamedTuple):
    """A way to sort: of its columns, and what comes behind a place."""

    by: str
    behind: str
    figure: str | None = None


_ORDERS: Mapping[Sort, _Order] = {
    "newest": _Order("{q}number DESC", "{q}number < :number"),
    "oldest": _Order("{q}number", "{q}number > :number"),
    "edits": _Order("{q}edits DESC, {q}number DESC", "({q}edits, {q}number) < (:value, :number)", "edits"),
    "doubt": _Order("{q}doubt DESC, {q}number DESC", "({q}doubt, {q}number) < (:value, :number)", "doubt"),
}


def page_of(connection: Connection, filters: Filters, behind: Place | None, limit: int) -> list[Found]:
    """The first rows, in their order, behind a place."""
    there = all_kinds(connection)
    wanted = [name for name, kind in there.items() if _fits(kind, filters)]
    sought = None if filters.search is None else words_of([filters.search])
    if not wanted or sought == []:
        return []
    asked = _ASKED[connection.dialect.name](connection, filters, wanted, len(wanted) == len(there), behind)
    return asked.first(limit) if sought is None else asked.holding(sought, limit)


@dataclass(frozen=True, slots=True)
class _Asked(ABC):
    """One page that is asked for, of one kind of database."""

    connection: Connection
    filters: Filters
    kinds: Sequence[int]
    are_all: bool
    """whether these are all kinds that there are"""
    behind: Place | None

    def first(self, limit: int) -> list[Found]:
        """The first rows, whatever their words: among the first of all, or else kind by kind."""
        found = self._found(self._walk(self._all), limit=limit, walked=_WALKED)
        return found if len(found) == limit else self._found(self._of_each_kind, limit=limit)

    def holding(self, sought: Sequence[str], limit: int) -> list[Found]:
        """The first rows that hold all words: among the first of all, or else by the index of words."""
        held, given = self._held(sought)
        found = self._found(self._walk(self._all, held), limit=limit, walked=_WALKED, **given)
        if len(found) == limit:
            return found
        # Few were judged, as a rule, and the index of words does not know which.
        if self._rows(f"SELECT count(*) FROM ({self._all}) q", limit=_WALKED).scalar_one() < _WALKED:
            return found
        terms = [*([word] for word in sought), *_facets(self.filters)]
        return self._found(self._by_words, limit=limit, match=self._match(terms))

    @property
    def _all(self) -> str:
        """The statement for the first of all rows, or of all that were judged so."""
        # SQLite does not conclude the one condition from the other.
        judged = f"{self._of_state} AND q.state > 0" if self._are_judged else "1 = 1"
        return (
            f"SELECT * FROM aligner_queue q WHERE {judged} AND {self._bounds('q.', of_order=True)} "
            f"ORDER BY {self._order('q.')} LIMIT :limit"
        )

    @property
    def _are_judged(self) -> bool:
        return self.filters.state not in (None, "open")

    def _walk(self, rows: str, held: str | None = None) -> str:
        """The statement for those of the first rows that are wanted."""
        words = "" if held is None else "LEFT JOIN aligner_words w ON w.number = q.number"
        return (
            f"SELECT q.* FROM ({rows.replace(':limit', ':walked')}) q {words} WHERE {held or '1 = 1'} "
            f"AND {self._bounds('q.')} AND {self._of_kinds} AND {self._of_state} "
            f"ORDER BY {self._order('q.')} LIMIT :limit"
        )

    @property
    @abstractmethod
    def _of_each_kind(self) -> str:
        """The statement for the first rows of the first ones of each kind and state."""

    @property
    @abstractmethod
    def _by_words(self) -> str:
        """The statement for the first rows that the index of words finds."""

    @abstractmethod
    def _held(self, sought: Sequence[str]) -> tuple[str, Mapping[str, str]]:
        """The condition that all words are in those of a row, and what it is given."""

    @abstractmethod
    def _match(self, terms: Terms) -> str:
        """What the index of words is asked."""

    @abstractmethod
    def _list(self, values: Sequence[int]) -> object:
        """A list for the database."""

    @property
    def _by_number(self) -> bool:
        return self.filters.sort in ("newest", "oldest")

    def _order(self, prefix: str) -> str:
        return _ORDERS[self.filters.sort].by.format(q=prefix)

    def _bounds(self, prefix: str, *, of_order: bool = False) -> str:
        """Conditions that the kind does not tell, or not exactly; or those alone that are ranges of the order."""
        f, column = self.filters, _ORDERS[self.filters.sort].figure or "number"
        given = [
            ("number", ">= :since", f.since),
            ("number", "< :until", f.until),
            ("edits", ">= :edit_min", f.edit_min),
            ("edits", "<= :edit_max", f.edit_max),
        ]
        # What is added keeps a database from an index that is not of the order.
        bounds = [
            f"{prefix}{of} {'' if of == column else '+ 0 '}{bound}"
            for of, bound, value in given
            if value is not None and (of == column or not of_order)
        ]
        behind = [_ORDERS[f.sort].behind.format(q=prefix)] if self.behind is not None else []
        return " AND ".join([*bounds, *behind]) or "1 = 1"

    @property
    @abstractmethod
    def _is_one_of_kinds(self) -> str:
        """The condition that the row `q` is of the kinds that are wanted."""

    @property
    def _of_kinds(self) -> str:
        return "1 = 1" if self.are_all else self._is_one_of_kinds

    @property
    def _of_state(self) -> str:
        """Every state, or the one that is wanted, of the row `q`."""
        return "1 = 1" if self.filters.state is None else f"q.state = {STATES.index(self.filters.state)}"

    def _found(self, statement: str, **given: object) -> list[Found]:
        rows = self._rows(statement, **given)
        return [Found(row.number, unescaped(row.id), STATES[row.state], row.edits, row.doubt) for row in rows]

    def _rows(self, statement: str, **given: object) -> CursorResult[Any]:
        f = self.filters
        values = {
            "kinds": self._list(self.kinds),
            "states": self._list(list(_ALL) if f.state is None else [STATES.index(f.state)]),
            "since": None if f.since is None else first_number(f.since),
            "until": None if f.until is None else first_number(f.until),
            "edit_min": f.edit_min,
            "edit_max": f.edit_max,
            **(self.behind._asdict() if self.behind else {}),
            **given,
        }
        named = {name: values[name] for name in _NAMED.findall(statement)}
        return self.connection.execute(text(statement), named)


_EACH = (
    "SELECT {what} FROM aligner_queue i WHERE i.kind = k.value AND i.state = s.value "
    "AND {bounds} ORDER BY {order} LIMIT :limit"
)
# PostgreSQL would rather read all of the table, where it expects many rows.
_ITS_ROW = "CROSS JOIN LATERAL (SELECT * FROM aligner_queue j WHERE j.number = {of}.number OFFSET 0) q"


class _OnSQLite(_Asked):
    """Of SQLite."""

    @property
    def _of_each_kind(self) -> str:
        each = _EACH.format(what="i.number", bounds=self._bounds("i."), order=self._order("i."))
        return (
            "SELECT q.* FROM json_each(:kinds) k CROSS JOIN json_each(:states) s CROSS JOIN aligner_queue q "
            f"WHERE q.number IN ({each}) ORDER BY {self._order('q.')} LIMIT :limit"
        )

    @property
    def _by_words(self) -> str:
        bounds, order = self._bounds("q."), self._order("q.")
        if self._by_number:
            # In the order of FTS5's own numbers it ends with the last row that is wanted.
            bounds, order = bounds.replace("q.number", "s.rowid"), order.replace("q.number", "s.rowid")
        return (
            "SELECT q.* FROM aligner_search s CROSS JOIN aligner_queue q ON q.number = s.rowid "
            f"WHERE s.aligner_search MATCH :match AND {bounds} AND {self._of_state} ORDER BY {order} LIMIT :limit"
        )

    @property
    def _is_one_of_kinds(self) -> str:
        return "q.kind IN (SELECT value FROM json_each(:kinds))"

    def _held(self, sought: Sequence[str]) -> tuple[str, Mapping[str, str]]:
        conditions = [f"instr(' ' || w.words || ' ', :word{number}) > 0" for number in range(len(sought))]
        return " AND ".join(conditions), {f"word{number}": f" {word} " for number, word in enumerate(sought)}

    def _match(self, terms: Terms) -> str:
        return match(terms)

    def _list(self, values: Sequence[int]) -> object:
        return orjson.dumps(values).decode()


class _OnPostgreSQL(_Asked):
    """Of PostgreSQL; where it could mistake how many rows there are, the way to them is laid down."""

    @property
    def _of_each_kind(self) -> str:
        each = _EACH.format(what="i.number", bounds=self._bounds("i."), order=self._order("i."))
        return (
            "SELECT q.* FROM unnest(CAST(:kinds AS bigint[])) k(value) "
            "CROSS JOIN unnest(CAST(:states AS smallint[])) s(value) "
            f"CROSS JOIN LATERAL ({each}) n {_ITS_ROW.format(of='n')} ORDER BY {self._order('q.')} LIMIT :limit"
        )

    @property
    def _by_words(self) -> str:
        return (
            "WITH s AS MATERIALIZED (SELECT number FROM aligner_words WHERE words @@ CAST(:match AS tsquery)) "
            f"SELECT q.* FROM s {_ITS_ROW.format(of='s')} "
            f"WHERE {self._bounds('q.')} AND {self._of_state} ORDER BY {self._order('q.')} LIMIT :limit"
        )

    @property
    def _is_one_of_kinds(self) -> str:
        return "q.kind = ANY(CAST(:kinds AS bigint[]))"

    def _held(self, sought: Sequence[str]) -> tuple[str, Mapping[str, str]]:
        return "w.words @@ CAST(:match AS tsquery)", {"match": tsquery([[word] for word in sought])}

    def _match(self, terms: Terms) -> str:
        return tsquery(terms)

    def _list(self, values: Sequence[int]) -> object:
        return list(values)


_ASKED: Mapping[str, type[_Asked]] = {"sqlite": _OnSQLite, "postgresql": _OnPostgreSQL}


def place_behind(row: Found, sort: Sort) -> Place:
    """The place behind a row."""
    figure = _ORDERS[sort].figure
    return Place(getattr(row, figure) if figure else 0.0, row.number)


def all_kinds(connection: Connection) -> Mapping[int, Kind]:
    """The kinds of rows that there are, by what names them."""
    return {row.kind: Kind(*row[1:]) for row in connection.execute(select(kinds))}


def _classes(filters: Filters) -> range:
    """The classes of the edit shares that are wanted."""
    low = 0 if filters.edit_min is None else class_of(filters.edit_min)
    high = len(EDGES) + 1 if filters.edit_max is None else class_of(filters.edit_max)
    return range(low, high + 1)


def _fits(kind: Kind, filters: Filters) -> bool:
    """Whether rows of a kind are wanted."""
    named = all(getattr(filters, name) in (None, getattr(kind, name)) for name in ("changed", *NAMES))
    return named and kind.edits in _classes(filters) and filters.reason in (None, *kind.reasons)


def _facets(filters: Filters) -> list[list[str]]:
    """The filters as words: of each list a row has one."""
    names = [(name, getattr(filters, name)) for name in ("changed", *NAMES, "reason")]
    terms = [[facet(name, str(value))] for name, value in names if value is not None]
    classes = _classes(filters)
    return terms if len(classes) == len(EDGES) + 2 else [*terms, [facet("edits", str(one)) for one in classes]]
