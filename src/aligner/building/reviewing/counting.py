"""How far the review is, how well people agree, and what inspectors think of samples."""

import sqlite3
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import closing
from itertools import groupby, islice
from operator import itemgetter
from typing import Any, NamedTuple

from aligner.building.agreement import agreement
from aligner.building.nouns import Annotated, id_of
from aligner.building.reviewing.tables import count, is_prepared, make, rows
from aligner.building.store import Store

_MOST_REMARKS = 100


class Person(NamedTuple):
    """What one person has done, and what inspectors think of it."""

    name: str
    finished: int
    passed: int
    inspected: int
    agreed: int
    """of those that were inspected"""


class Remark(NamedTuple):
    """What somebody wrote of a correction, or of an answer that they left to others."""

    person: str
    whose: str
    """who wrote the correction; empty for an answer that was left to others"""
    agrees: bool
    about: str
    """id of the answer"""
    comment: str


def figures(store: Store) -> Mapping[str, Any]:
    """Counts, agreement and quality for the manifest; people are counted and not named.

    `done` and `waiting` count answers, `corrections` what people wrote, which is more where two correct one answer;
    rates are None where there is nothing to count. All are zero where nobody was ever served the page.
    """
    if is_prepared(store):
        return counted(store.connection)
    with closing(sqlite3.connect(":memory:")) as nothing:
        make(nothing)
        return counted(nothing)


def counted(db: sqlite3.Connection) -> Mapping[str, Any]:
    """The same, of an open file."""
    found = people(db)
    looked, agreed = sum(each.inspected for each in found), sum(each.agreed for each in found)
    return {
        "done": count(db, "SELECT count(*) FROM review_items WHERE finished > 0"),
        "waiting": waiting(db),
        "given_up": count(db, "SELECT count(*) FROM review_items WHERE closed AND finished = 0"),
        "corrections": sum(each.finished for each in found),
        "kept": count(db, "SELECT count(*) FROM review_done WHERE choice = 'keep'"),
        "people": sum(each.finished > 0 for each in found),
        "agreement": {name: value for name, value in agreement(_pairs(db)).items() if name != "annotators"},
        "quality": {"inspected": looked, "agreed": agreed, "rate": agreed / looked if looked else None},
    }


def waiting(db: sqlite3.Connection) -> int:
    """Answers that somebody has to correct yet, those included that a second person has to."""
    return count(db, "SELECT count(*) FROM review_items WHERE finished < needed AND NOT closed")


def to_inspect(db: sqlite3.Connection) -> int:
    """Corrections that an inspector has to look at yet."""
    drawn = count(db, "SELECT count(*) FROM review_done WHERE inspected")
    return drawn - count(db, "SELECT count(*) FROM review_looks")


def people(db: sqlite3.Connection) -> list[Person]:
    """All who have finished a correction or passed one on, by name."""
    finished = Counter[str](dict(db.execute("SELECT person, count(*) FROM review_done GROUP BY person").fetchall()))
    passed = Counter[str](dict(db.execute("SELECT person, count(*) FROM review_passes GROUP BY person").fetchall()))
    looks = rows(
        db,
        "SELECT person, count(*) AS looked, sum(agrees) AS agreed FROM review_looks JOIN review_done USING (number)"
        " GROUP BY person",
    )
    looked = {row["person"]: (row["looked"], row["agreed"]) for row in looks}
    return [
        Person(name, finished[name], passed[name], *looked.get(name, (0, 0))) for name in sorted({*finished, *passed})
    ]


def remarks(db: sqlite3.Connection) -> list[Remark]:
    """Comments on answers that were left to others, and the latest ones of inspectors; some hundred of each."""
    looks = rows(
        db,
        "SELECT inspector AS person, person AS whose, agrees, about, s.comment FROM review_looks s"
        " JOIN review_done USING (number) WHERE s.comment <> '' ORDER BY number DESC LIMIT ?",
        (_MOST_REMARKS,),
    )
    passes = rows(
        db,
        "SELECT person, '' AS whose, 0 AS agrees, about, comment FROM review_passes"
        " JOIN review_items ON key = item WHERE comment <> '' ORDER BY closed DESC, place, person LIMIT ?",
        (_MOST_REMARKS,),
    )
    return [
        Remark(each["person"], each["whose"], bool(each["agrees"]), each["about"], each["comment"])
        for each in (*passes, *looks)
    ]


def refused(store: Store) -> Iterator[str]:
    """Keys of the requests whose reply an inspector disagrees with, in their order."""
    query = (
        "SELECT item FROM review_done JOIN review_looks USING (number) WHERE NOT agrees AND number ="
        " (SELECT min(number) FROM review_done other WHERE other.item = review_done.item) ORDER BY item"
    )
    if is_prepared(store):
        yield from [each["item"] for each in rows(store.connection, query)]


def _pairs(db: sqlite3.Connection) -> Iterator[tuple[Annotated, Annotated]]:
    """The first two corrections of each answer that was drawn for two people, in the order in which they came.

    What came late besides was not drawn at random: it would count answers that are hard, or people who are slow.
    """
    query = "SELECT d.* FROM review_done d JOIN review_items ON key = item WHERE needed > 1 ORDER BY item, number"
    for _, group in groupby(rows(db, query), key=itemgetter("item")):
        match list(map(_annotated, islice(group, 2))):
            case [first, second]:
                yield first, second
            case _:
                pass


def _annotated(row: Mapping[str, Any]) -> Annotated:
    return Annotated(
        id=id_of("review", row["about"], row["person"]),
        answer=row["about"],
        annotator=row["person"],
        key=row["item"],
        choice=row["choice"],
        text=row["text"],
    )
