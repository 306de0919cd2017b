"""The books of a build: what is known of its calls and of what they cost, for whoever only looks."""

from collections.abc import Collection, Iterator, Mapping
from copy import copy
from dataclasses import dataclass, field
from typing import Self

from aligner.building.nouns import Failure, Fault, Reply, Request, Stage
from aligner.building.rows import REQUEST, request_of
from aligner.building.store import Store

BATCH = "batch"
"""holds the requests of an open batch file: no process, so nobody takes over from it, nor waits for it"""


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """How far a stage is."""

    todo: int = 0
    leased: int = 0
    done: int = 0
    failed: Mapping[Fault, int] = field(default_factory=dict[Fault, int])
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost: float = 0.0
    """of all replies, unusable ones included"""


class Books:
    """The requests of a store, their outcomes and their costs."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.last: bytes | None = None
        """the place of the last request that counts as to be done; nothing for all"""

    def up_to(self, last: bytes | None) -> Self:
        """The same, but no request behind that place is to be done; what was done and spent is that of all."""
        bounded = copy(self)
        bounded.last = last
        return bounded

    def reply(self, key: str) -> Reply | None:
        """What came back."""
        sql = "SELECT text, finish_reason, prompt_tokens, completion_tokens, cost, way FROM replies WHERE key = ?"
        row = self.store.connection.execute(sql, (key,)).fetchone()
        return Reply(*row) if row else None

    def failure(self, key: str) -> Failure | None:
        """Why nothing came back."""
        row = self.store.connection.execute("SELECT fault, said, cost FROM failures WHERE key = ?", (key,)).fetchone()
        return Failure(*row) if row else None

    def state(self, stage: Stage, models: Collection[str] = ()) -> State:
        """How far a stage is, for these models or all."""
        db = self.store.connection
        counted = db.execute("SELECT model, state, fault, count FROM tally WHERE stage = ? AND count > 0", (stage,))
        counts, failed = dict[str, int](), dict[Fault, int]()
        for model, state, fault, count in counted.fetchall():
            if models and model not in models:
                continue
            is_open = state in {"todo", "leased"}
            counts[state] = counts.get(state, 0) + (self._count(stage, model, state, count) if is_open else count)
            if fault:
                failed[fault] = failed.get(fault, 0) + count
        sql = "SELECT model, prompt_tokens, completion_tokens, cost FROM spending WHERE stage = ?"
        spent = [row[1:] for row in db.execute(sql, (stage,)) if not models or row[0] in models]
        read, written, cost = (sum(column) for column in zip(*spent, strict=True)) if spent else (0, 0, 0.0)
        return State(
            todo=counts.get("todo", 0),
            leased=counts.get("leased", 0),
            done=counts.get("done", 0),
            failed=failed,
            prompt_tokens=read,
            completion_tokens=written,
            cost=cost,
        )

    def ended(self, stage: Stage, model: str) -> int:
        """How many requests up to the last place have an outcome."""
        state = self.state(stage, [model])
        counts = {"done": state.done, "failed": sum(state.failed.values())}
        return sum(self._count(stage, model, name, count) for name, count in counts.items())

    def is_under_way(self, stage: Stage, model: str) -> bool:
        """Whether workers hold requests; those in batches are nobody's."""
        where, given = self._bound(stage, model, "leased")
        sql = f"SELECT EXISTS (SELECT 1 FROM requests WHERE {where} AND worker <> ?)"
        return bool(self.store.connection.execute(sql, (*given, BATCH)).fetchone()[0])

    def spent(self) -> float:
        """What the whole build has cost, unusable replies included; the time does not depend on its size."""
        return self.store.connection.execute("SELECT coalesce(sum(cost), 0.0) FROM spending").fetchone()[0]

    def promised(self) -> float:
        """What the open batch files may still cost."""
        db = self.store.connection
        if db.execute("SELECT 1 FROM sqlite_master WHERE name = 'batch_files'").fetchone() is None:
            return 0.0
        return db.execute("SELECT coalesce(sum(cost), 0.0) FROM batch_files WHERE state <> 'closed'").fetchone()[0]

    def request(self, key: str) -> Request | None:
        """The request of that key."""
        row = self.store.connection.execute(f"SELECT {REQUEST} FROM requests WHERE key = ?", (key,)).fetchone()
        return request_of(row) if row else None

    def requests(self, stage: Stage, *, model: str, state: str) -> Iterator[Request]:
        """Those in that state, in their order."""
        where, given = self._bound(stage, model, state)
        rows = self.store.paged(
            f"SELECT {REQUEST} FROM requests WHERE {where}", "place, key", lambda row: (row[-1], row[0]), given
        )
        return map(request_of, rows)

    def _count(self, stage: Stage, model: str, state: str, of_all: int) -> int:
        if self.last is None:
            return of_all
        where, given = self._bound(stage, model, state)
        return self.store.connection.execute(f"SELECT count(*) FROM requests WHERE {where}", given).fetchone()[0]

    def _bound(self, stage: Stage, model: str, state: str) -> tuple[str, tuple[object, ...]]:
        """The condition for the requests of a model in a state, up to the last place, and its values."""
        where, given = "stage = ? AND model = ? AND state = ?", (stage, model, state)
        return (where, given) if self.last is None else (f"{where} AND place <= ?", (*given, self.last))
