"""What a part of a build gets of the whole: its questions, and what is known of them, by cluster."""

import hashlib
from collections import Counter
from collections.abc import Collection, Iterator
from itertools import islice
from pathlib import Path

from aligner.building.rows import ANNOTATED, ANSWERED, ASKED, REQUEST
from aligner.building.store import Store

_AT_A_TIME = 1000
# Without it, each part would read the requests of all.
_INDEX = "CREATE INDEX IF NOT EXISTS requests_about ON requests (about, stage)"
_MINE = "SELECT id FROM temp.dealt WHERE part = ?1"
_MY_ANSWERS = "SELECT answers.id FROM temp.dealt JOIN main.answers ON answers.question = dealt.id WHERE dealt.part = ?1"
# What had an outcome already, in a pilot or in a build without parts, is not to be asked again.
_KNOWN = """
SELECT key FROM temp.dealt CROSS JOIN main.requests ON about = dealt.id
WHERE part = ?1 AND stage = 'answers' AND state IN ('done', 'failed')
UNION ALL
SELECT requests.key FROM temp.dealt CROSS JOIN main.answers ON answers.question = dealt.id
CROSS JOIN main.requests ON about = answers.id
WHERE part = ?1 AND stage = 'corrections' AND state IN ('done', 'failed')
"""
# What a part has kept since, it keeps.
_DEAL = f"""
INSERT INTO part.dropped SELECT * FROM main.dropped WHERE id IN ({_MY_ANSWERS}) AND (
  stage = 'answers' AND id NOT IN (SELECT id FROM part.answers)
  OR stage = 'corrections' AND id NOT IN (SELECT answer FROM part.annotated WHERE second = 0)
) ON CONFLICT DO NOTHING;

INSERT INTO part.questions ({ASKED}) SELECT {ASKED} FROM main.questions WHERE id IN ({_MINE}) ON CONFLICT DO NOTHING;

INSERT INTO part.answers ({ANSWERED}) SELECT {ANSWERED} FROM main.answers WHERE question IN ({_MINE})
ON CONFLICT DO NOTHING;

INSERT INTO part.annotated ({ANNOTATED}) SELECT {ANNOTATED} FROM main.annotated WHERE answer IN ({_MY_ANSWERS})
ON CONFLICT DO NOTHING;

INSERT INTO part.requests ({REQUEST}, state, fault) SELECT {REQUEST}, state, fault FROM main.requests
WHERE key IN ({_KNOWN}) ON CONFLICT (key) DO UPDATE SET state = 'done', fault = '', worker = ''
WHERE excluded.state = 'done' AND state <> 'done';

INSERT INTO part.replies SELECT * FROM main.replies WHERE key IN ({_KNOWN}) ON CONFLICT DO NOTHING;

DELETE FROM part.failures WHERE ?1 >= 0 AND key IN (SELECT key FROM part.replies);

INSERT INTO part.failures SELECT * FROM main.failures WHERE key IN ({_KNOWN})
AND key IN (SELECT key FROM part.requests WHERE state = 'failed') ON CONFLICT DO NOTHING
"""


def part_of(cluster: str, parts: int) -> int:
    """The part that a cluster of questions belongs to, on any machine."""
    return int.from_bytes(hashlib.sha256(cluster.encode()).digest()[:8], "big") % parts


class Dealer:
    """Deals the questions that a store kept into parts; near-duplicates stay together."""

    def __init__(self, store: Store, parts: int) -> None:
        self._store = store
        self.sizes: Counter[int] = Counter()
        """questions of each part"""
        with store.writing() as db:
            db.execute(_INDEX)
        store.connection.execute("DROP TABLE IF EXISTS temp.dealt")
        store.connection.execute(
            "CREATE TEMP TABLE dealt (part INTEGER, id TEXT, PRIMARY KEY (part, id)) WITHOUT ROWID"
        )
        questions = ((part_of(asked.cluster or asked.id, parts), asked.id) for asked in store.questions())
        for some in _lists(questions):
            self._store.connection.executemany("INSERT INTO temp.dealt VALUES (?, ?)", some)
            self.sizes.update(part for part, _ in some)

    def deal(self, number: int, path: Path) -> None:
        """Copy a part's rows into its store, which is there already; what it has stays as it is.

        What was spent on them is not copied: each store knows what it spent itself.
        """
        db = self._store.connection
        db.execute("ATTACH ? AS part", (str(path),))
        try:
            with self._store.writing():
                for statement in _DEAL.split(";"):
                    db.execute(statement, (number,))
        finally:
            db.execute("DETACH part")


def bring_calls(store: Store, part: Store, models: Collection[str]) -> None:
    """Copy a part's calls for corrections that are still to be made by these models, people's."""
    sql = f"SELECT {REQUEST} FROM requests WHERE stage = 'corrections' AND model = ? AND state = 'todo'"
    for model in models:
        rows = part.paged(sql, "place, key", lambda row: (row[-1], row[0]), (model,))
        store.insert(f"INSERT INTO requests ({REQUEST}) VALUES (?, ?, ?, ?, ?, ?, ?)", rows)


def spent(store: Store) -> float:
    """What the calls of a store have cost, in the currency of the build."""
    return store.connection.execute("SELECT coalesce(sum(cost), 0.0) FROM spending").fetchone()[0]


def spent_here(store: Store) -> float:
    """What the calls that a store made itself have cost, without those of stores that were merged into it."""
    return store.connection.execute("SELECT coalesce(sum(cost), 0.0) FROM spending WHERE store = ''").fetchone()[0]


def is_open(store: Store, faults: Collection[str]) -> bool:
    """Whether calls have no outcome yet, or one of these faults."""
    marks = ", ".join("?" * len(faults))
    sql = f"SELECT EXISTS (SELECT 1 FROM requests WHERE state IN ('todo', 'leased') OR fault IN ({marks}))"
    return bool(store.connection.execute(sql, tuple(faults)).fetchone()[0])


def _lists(rows: Iterator[tuple[int, str]]) -> Iterator[list[tuple[int, str]]]:
    while some := list(islice(rows, _AT_A_TIME)):
        yield some
