"""The desk that gives answers out to people and takes back what they send; all that it knows is in the build's file."""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from aligner.building.annotating import as_reply, same
from aligner.building.ledger import Ledger
from aligner.building.nouns import Choice, Failure, Reply, order_of
from aligner.building.reviewing.counting import Person, Remark, counted, people, remarks, to_inspect, waiting
from aligner.building.reviewing.fields import restored
from aligner.building.reviewing.tables import count, prepare, row, rows
from aligner.building.reviewing.tasks import GoneError, Sample, Sent, Task
from aligner.building.store import Store
from aligner.building.workers import Worker
from aligner.config.building import BuildConfig

HUMAN = "human:"
"""how the model of an annotator begins that is people"""
_PASSES = 2
"""people who pass an answer on before it is given up"""
_FRESH = 5.0
"""seconds between two looks for new requests"""
_OPEN = """
SELECT i.key, i.about FROM review_items i WHERE i.finished < i.needed AND NOT i.closed
  AND NOT EXISTS (SELECT 1 FROM review_done d WHERE d.about = i.about AND d.person = :person)
  AND NOT EXISTS (SELECT 1 FROM review_done d JOIN review_looks s USING (number)
    WHERE d.about = i.about AND s.inspector = :person)
  AND NOT EXISTS (SELECT 1 FROM review_leases l JOIN review_done d ON d.number = CAST(l.item AS INTEGER)
    WHERE l.kind = 'inspect' AND l.person = :person AND d.about = i.about)
  AND i.finished + (SELECT count(*) FROM review_leases l
    WHERE l.kind = 'correct' AND l.item = i.key AND l.person <> :person AND l.until > :now) < i.needed
"""
"""never to those who have seen what somebody else made of the answer"""
_OWN = """
  AND EXISTS (SELECT 1 FROM review_leases l WHERE l.kind = 'correct' AND l.item = i.key AND l.person = :person)
"""
_LEFT = "EXISTS (SELECT 1 FROM review_passes p WHERE p.item = i.key AND p.person = :person)"
_PASSED, _NEW = f" AND {_LEFT}", f" AND NOT {_LEFT}"
_FIRST = " ORDER BY i.place, i.key LIMIT 1"
_LOOKS = """
SELECT d.* FROM review_done d WHERE d.inspected
  AND NOT EXISTS (SELECT 1 FROM review_done o WHERE o.about = d.about AND o.person = :person)
  AND NOT EXISTS (SELECT 1 FROM review_leases l JOIN review_items i ON i.key = l.item
    WHERE l.kind = 'correct' AND l.person = :person AND i.about = d.about)
  AND NOT EXISTS (SELECT 1 FROM review_looks s WHERE s.number = d.number)
  AND NOT EXISTS (SELECT 1 FROM review_leases l
    WHERE l.kind = 'inspect' AND l.item = d.number AND l.person <> :person AND l.until > :now)
ORDER BY d.number LIMIT 1
"""
"""never to those who correct the same answer, or have"""


_GIVE_UP = """
UPDATE review_items SET closed = 1 WHERE key = ?1 AND finished = 0
  AND NOT EXISTS (SELECT 1 FROM review_leases WHERE kind = 'correct' AND item = ?1 AND until > ?2)
"""


@dataclass(frozen=True, slots=True)
class Shares:
    """How much is done more than once."""

    twice: float
    inspected: float
    seed: int

    def people(self, about: str) -> int:
        """How many people correct an answer: one or two, as the seed draws."""
        return 1 + (_drawn(self.seed, f"twice {about}") < self.twice)

    def is_inspected(self, about: str, person: str) -> bool:
        """Whether an inspector looks at what a person made of an answer."""
        return _drawn(self.seed, f"inspected {about} {person}") < self.inspected


class Desk:
    """Gives out and takes back; for one thread, while any number of desks may be at work on the same file."""

    def __init__(self, path: Path, config: BuildConfig, clock: Callable[[], float] = time.time) -> None:
        self._opened = ExitStack()
        self.store = self._opened.enter_context(Store(path))
        prepare(self.store)
        self._db = self.store.connection
        self._ledger = Ledger(self.store, self._opened.enter_context(Worker(path.parent)))
        self._names = [each.name for each in config.annotators if each.model.startswith(HUMAN)]
        self._shares = Shares(config.review.twice, config.review.inspected, config.seed)
        self._lease = 60 * config.review.lease_minutes
        self.hold_every = self._lease / 4
        """seconds after which a page that is worked on asks for more time"""
        self._clock = clock
        self._looked = float("-inf")
        self.hand_in()

    def close(self) -> None:
        """Let go of the file."""
        self._opened.close()

    def take(self, person: str) -> Task | None:
        """What this person has to do: what they have already, or else the next that nobody has; None for nothing."""
        found = self._given(person)
        if found is None and self._clock() - self._looked >= _FRESH:
            self._look_for_new()
            found = self._given(person)
        return None if found is None else self._task(found["key"], found["about"], person)

    def open_again(self, key: str, person: str) -> Task:
        """What this person had before, also where its time was over; raises GoneError where they cannot send it."""
        found = row(self._db, "SELECT about FROM review_items WHERE key = ?", (key,))
        if found is None or not self._has(key, person):
            raise GoneError("The answer is not with you any more.")
        self.hold(key, person)
        return self._task(key, found["about"], person)

    def hold(self, key: str, person: str) -> bool:
        """Begin the time of an answer anew, for somebody who is at work on it; False where it is with others by now."""
        with self.store.writing() as db:
            given = {"person": person, "now": self._clock(), "key": key}
            is_theirs = row(db, f"{_OPEN} {_OWN} AND i.key = :key", given) is not None
            if is_theirs:
                self._give("correct", key, person)
        return is_theirs

    def take_back(self, person: str) -> bool:
        """Give somebody the first answer that they left to others and that nobody took; False where there is none."""
        with self.store.writing() as db:
            found = row(db, _OPEN + _PASSED + _FIRST, {"person": person, "now": self._clock()})
            if found is not None:
                self._give("correct", found["key"], person)
        return found is not None

    def may_take_back(self, person: str) -> bool:
        """Whether there is one."""
        return row(self._db, _OPEN + _PASSED + _FIRST, {"person": person, "now": self._clock()}) is not None

    def again(self, sent: Sent, person: str) -> Task | None:
        """The task that something was sent for, where this person still has it, with the text that was sent."""
        found = row(self._db, "SELECT about FROM review_items WHERE key = ?", (sent.key,))
        if found is None or not self._has(sent.key, person):
            return None
        now = self._task(sent.key, found["about"], person)
        if now.step != sent.step:
            return None
        return replace(now, text=sent.text, reasons=sent.reasons, comment=sent.comment)

    def send(self, sent: Sent, person: str) -> bool:
        """Take one step, and say whether the correction is finished; durable when this returns.

        Raises GoneError where it is about nothing that this person has. Whoever sends late is heard all the same.
        """
        if self.again(sent, person) is None:
            raise GoneError("This step was sent before, or the answer is not with you any more.")
        with self.store.writing():
            if sent.step == 1:
                self._first(sent, person)
            else:
                self._finish(sent, person)
        self.hand_in()
        return sent.step == 2

    def back(self, sent: Sent, person: str) -> None:
        """Open the first step again, and keep what was written in both; raises GoneError."""
        if (task := self.again(sent, person)) is None or sent.step == 1:
            raise GoneError("The second step is not with you any more.")
        given = (sent.key, person, task.base, restored(sent.text, task.base), _dumped(sent.reasons), sent.comment)
        with self.store.writing() as db:
            db.execute("INSERT OR REPLACE INTO review_second_steps VALUES (?, ?, ?, ?, ?, ?)", given)
            opened = "UPDATE review_first_steps SET settled = 0 WHERE item = ? AND person = ?"
            db.execute(opened, (sent.key, person))

    def pass_on(self, key: str, person: str, comment: str) -> None:
        """Leave an answer to others; raises GoneError.

        Where enough people have done so, or the same person again, it is given up, unless somebody is at work on it.
        """
        if not self._has(key, person):
            raise GoneError("The answer is not with you any more.")
        with self.store.writing() as db:
            passed = "SELECT count(*) FROM review_passes WHERE item = ? AND person = ?"
            is_again = count(db, passed, (key, person)) > 0
            noted = (
                "INSERT INTO review_passes VALUES (?, ?, ?) ON CONFLICT DO UPDATE"
                " SET comment = trim(comment || char(10) || excluded.comment, char(10))"
            )
            db.execute(noted, (key, person, comment))
            self._let_go("correct", key, person)
            if is_again or self._passes(key) >= _PASSES:
                db.execute(_GIVE_UP, (key, self._clock()))
        self.hand_in()

    def sample(self, inspector: str) -> Sample | None:
        """What this inspector looks at next, never their own; None where nothing is left."""
        with self.store.writing() as db:
            given = {"person": inspector, "now": self._clock()}
            found = row(db, _LOOKS, given)
            if found is not None:
                self._give("inspect", str(found["number"]), inspector)
        return None if found is None else self._sample(found)

    def look(self, number: int, inspector: str, *, agrees: bool, comment: str) -> None:
        """Note what an inspector thinks of a sample; raises GoneError where it is no sample of theirs."""
        with self.store.writing() as db:
            given = (str(number), inspector)
            has = "SELECT 1 FROM review_leases WHERE kind = 'inspect' AND item = ? AND person = ?"
            if row(db, has, given) is None:
                raise GoneError("The sample is not with you any more.")
            noted = "INSERT OR IGNORE INTO review_looks VALUES (?, ?, ?, ?)"
            if not db.execute(noted, (number, inspector, agrees, comment)).rowcount:
                raise GoneError("Somebody else has looked at the sample by now.")
            self._let_go("inspect", str(number), inspector)

    def left(self) -> tuple[int, int]:
        """How many answers wait for a correction, and how many corrections for an inspector."""
        return waiting(self._db), to_inspect(self._db)

    def progress(self) -> tuple[Mapping[str, Any], list[Person]]:
        """The figures of the manifest, and what each person has done."""
        return counted(self._db), people(self._db)

    def remarks(self) -> list[Remark]:
        """What inspectors wrote of corrections, and people of answers that they left to others."""
        return remarks(self._db)

    def hand_in(self) -> None:
        """Put what is finished, or given up, where the build reads it; what a killed process left is put, too."""
        query = "SELECT * FROM review_items WHERE NOT sent AND (closed OR finished > 0)"
        for item in rows(self._db, query):
            done = row(self._db, "SELECT * FROM review_done WHERE item = ? ORDER BY number LIMIT 1", (item["key"],))
            passes = self._passes(item["key"])
            given_up = Failure("unusable", f"{passes} people passed it on" if passes > 1 else "it was passed on twice")
            self._ledger.put(item["key"], given_up if done is None else reply_of(done))
            self._db.execute("UPDATE review_items SET sent = 1 WHERE key = ?", (item["key"],))

    def _given(self, person: str) -> Mapping[str, Any] | None:
        with self.store.writing() as db:
            given = {"person": person, "now": self._clock()}
            found = row(db, _OPEN + _OWN + _FIRST, given) or row(db, _OPEN + _NEW + _FIRST, given)
            if found is not None:
                self._give("correct", found["key"], person)
        return found

    def _look_for_new(self) -> None:
        """Every request to people that is in the ledger becomes something to be given out."""
        self._looked = self._clock()
        for name in self._names:
            open_ones = (
                (each.key, each.about, each.order, self._shares.people(each.about))
                for each in self._ledger.requests("corrections", model=name, state="todo")
            )
            self.store.insert("INSERT INTO review_items (key, about, place, needed) VALUES (?, ?, ?, ?)", open_ones)
        for item in rows(self._db, "SELECT key FROM review_items WHERE closed"):
            if self._ledger.failure(item["key"]) is None:
                self._open_again(item["key"])

    def _open_again(self, key: str) -> None:
        """What was given up, and is wanted all the same."""
        with self.store.writing() as db:
            db.execute("UPDATE review_items SET closed = 0, sent = 0 WHERE key = ?", (key,))
            db.execute("DELETE FROM review_passes WHERE item = ?", (key,))

    def _task(self, key: str, about: str, person: str) -> Task:
        answered = self.store.answer(about)
        question = self.store.question(answered.question).question
        first = self._first_step(key, person)
        if first is not None and first["settled"]:
            base = first["text"]
            task = Task(key=key, step=2, question=question, answer=answered.text, base=base, text=base)
            return self._second(task, person)
        return Task(
            key=key,
            step=1,
            question=question,
            answer=answered.text,
            base=answered.text,
            text=answered.text if first is None else first["text"],
            reasons=() if first is None else tuple(json.loads(first["reasons"])),
            comment="" if first is None else first["comment"],
        )

    def _second(self, task: Task, person: str) -> Task:
        """The second step, with what this person wrote there before they went back; its text where it still fits."""
        query = "SELECT * FROM review_second_steps WHERE item = ? AND person = ?"
        if (found := row(self._db, query, (task.key, person))) is None:
            return task
        text = found["text"] if found["base"] == task.base else task.base
        return replace(task, text=text, reasons=tuple(json.loads(found["reasons"])), comment=found["comment"])

    def _sample(self, done: Mapping[str, Any]) -> Sample:
        answered = self.store.answer(done["about"])
        return Sample(
            number=done["number"],
            question=self.store.question(answered.question).question,
            answer=answered.text,
            correction=done["text"],
            choice=done["choice"],
            reasons=tuple(json.loads(done["reasons"])),
            comment=done["comment"],
        )

    def _first(self, sent: Sent, person: str) -> None:
        about = self._about(sent.key)
        answer = self.store.answer(about).text
        text = answer if sent.choice == "keep" else restored(sent.text, answer)
        given = (sent.key, person, text, _dumped(sent.reasons), sent.comment)
        self._db.execute("INSERT OR REPLACE INTO review_first_steps VALUES (?, ?, ?, ?, ?, 1)", given)

    def _finish(self, sent: Sent, person: str) -> None:
        about = self._about(sent.key)
        first = self._first_step(sent.key, person)
        if first is None:
            raise GoneError("The first step is missing.")
        answer = self.store.answer(about).text
        text = first["text"] if sent.choice == "keep" else restored(sent.text, first["text"])
        choice: Choice = "keep" if same(text, answer) else "edit"
        text = answer if choice == "keep" else text
        reasons = (*json.loads(first["reasons"]), *sent.reasons)
        comment = "\n".join(filter(None, (first["comment"], sent.comment)))
        inspected = self._shares.is_inspected(about, person)
        given = (sent.key, about, person, choice, text, _dumped(reasons), comment, inspected)
        added = self._db.execute(
            "INSERT INTO review_done (item, about, person, choice, text, reasons, comment, inspected)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (about, person) DO NOTHING",
            given,
        )
        if not added.rowcount:
            raise GoneError("You have corrected this answer before.")
        # Somebody's correction takes the place of others having given up.
        self._db.execute(
            "UPDATE review_items SET finished = finished + 1, closed = closed AND finished > 0,"
            " sent = sent AND finished > 0 WHERE key = ?",
            (sent.key,),
        )
        self._let_go("correct", sent.key, person)

    def _about(self, key: str) -> str:
        return self._db.execute("SELECT about FROM review_items WHERE key = ?", (key,)).fetchone()[0]

    def _first_step(self, key: str, person: str) -> Mapping[str, Any] | None:
        return row(self._db, "SELECT * FROM review_first_steps WHERE item = ? AND person = ?", (key, person))

    def _passes(self, key: str) -> int:
        return count(self._db, "SELECT count(*) FROM review_passes WHERE item = ?", (key,))

    def _has(self, key: str, person: str) -> bool:
        query = "SELECT 1 FROM review_leases WHERE kind = 'correct' AND item = ? AND person = ?"
        return row(self._db, query, (key, person)) is not None

    def _give(self, kind: str, item: str, person: str) -> None:
        given = (kind, item, person, self._clock() + self._lease)
        self._db.execute("INSERT OR REPLACE INTO review_leases VALUES (?, ?, ?, ?)", given)

    def _let_go(self, kind: str, item: str, person: str) -> None:
        query = "DELETE FROM review_leases WHERE kind = ? AND item = ? AND person = ?"
        self._db.execute(query, (kind, item, person))


def reply_of(done: Mapping[str, Any]) -> Reply:
    """A finished correction in the words in which an annotator answers."""
    return Reply(as_reply(done["choice"], done["text"], tuple(json.loads(done["reasons"]))), way="human")


def _dumped(reasons: Sequence[str]) -> str:
    return json.dumps(list(reasons), ensure_ascii=False)


def _drawn(seed: int, about: str) -> float:
    return int.from_bytes(order_of(seed, about)) / 2**64
