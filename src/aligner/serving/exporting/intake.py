"""A log that takes in what was exported of another: the same rows, and none of them twice."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

from sqlalchemy import Connection, insert, select

from aligner.serving.logged import Feedback, Logged
from aligner.serving.review.queue import begin, enqueue, queue, restate
from aligner.serving.store import Store
from aligner.serving.tables import INSERT, columns_of, columns_of_feedback, corrections, feedback, feedback_from

Said = Mapping[str, Counter[Feedback]]
"""the feedback on each correction, and how often the very same was given"""


@dataclass(frozen=True, slots=True)
class Taken:
    """How many rows came in, were there already, or have no correction that they are about."""

    corrections: int = 0
    feedback: int = 0
    there: int = 0
    orphans: int = 0

    def __add__(self, other: "Taken") -> "Taken":
        return Taken(
            self.corrections + other.corrections,
            self.feedback + other.feedback,
            self.there + other.there,
            self.orphans + other.orphans,
        )


class Intake(Store):
    """A store to bring rows into; raises as a store does."""

    def take(self, rows: Sequence[Logged | Feedback]) -> Taken:
        """Bring rows in, all or none; those that came in before, whole or in part, are as good as in."""
        with self._transaction() as connection:
            begin(connection)
            logged = [row for row in rows if isinstance(row, Logged)]
            said = [one for row in rows for one in (row.feedback if isinstance(row, Logged) else (row,))]
            new = _add_corrections(connection, logged)
            known = _held(connection, {one.id for one in said})
            kept = [one for one in said if one.id in known]
            missing = list(_missing(kept, _said(connection, known)))
            if missing:
                connection.execute(insert(feedback), [columns_of_feedback(one) for one in missing])
                restate(connection, {one.id for one in missing})
        there = len(logged) - new + len(kept) - len(missing)
        return Taken(new, len(missing), there, len(said) - len(kept))


def _add_corrections(connection: Connection, rows: Iterable[Logged]) -> int:
    by_id = {row.id: row for row in rows}
    known = _known(connection, by_id)
    new = [row for row in by_id.values() if row.id not in known]
    if new:
        statement = INSERT[connection.dialect.name](corrections).on_conflict_do_nothing()
        connection.execute(statement, [columns_of(row) for row in new])
        enqueue(connection, new)
    return len(new)


def _known(connection: Connection, ids: Iterable[str]) -> set[str]:
    """Which of the corrections are there."""
    return set(connection.scalars(select(corrections.c.id).where(corrections.c.id.in_(list(ids)))))


def _held(connection: Connection, ids: Iterable[str]) -> set[str]:
    """Which of the corrections are there; whoever would delete or judge one of them waits."""
    # Deletion begins with the corrections, a verdict with the queue; each in the order in which they come there.
    kept = select(corrections.c.id).where(corrections.c.id.in_(list(ids)))
    kept = kept.order_by(corrections.c.created, corrections.c.id).with_for_update(read=True, key_share=True)
    there = select(queue.c.id).where(queue.c.id.in_(connection.scalars(kept).all()))
    return set(connection.scalars(there.order_by(queue.c.number).with_for_update()))


def _said(connection: Connection, ids: Iterable[str]) -> Said:
    found: defaultdict[str, Counter[Feedback]] = defaultdict(Counter)
    query = select(feedback).where(feedback.c.id.in_(list(ids)))
    for columns in connection.execute(query).mappings():
        said = feedback_from(dict(columns))
        found[said.id][said] += 1
    return found


def _missing(said: Iterable[Feedback], there: Said) -> Iterable[Feedback]:
    """What is not there yet; the same said twice in a row is two words, and once more later it is a repetition."""
    for _, group in groupby(said, key=lambda one: one.id):
        seen: Counter[Feedback] = Counter()
        for one in group:
            seen[one] += 1
            if seen[one] > there[one.id][one]:
                yield one
        for one, count in seen.items():
            there[one.id][one] = max(there[one.id][one], count)


def batches(rows: Iterable[Logged | Feedback], size: int) -> Iterable[list[Logged | Feedback]]:
    """Rows in portions of about that many; all that follows one another about one correction is in one portion."""
    batch: list[Logged | Feedback] = []
    for _, group in groupby(rows, key=lambda row: row.id):
        batch += group
        if len(batch) >= size:
            yield batch
            batch = []
    if batch:
        yield batch
