"""Laws of the ledger: every request has one state, one owner and one outcome, whoever is killed and whenever."""

import os
import shutil
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from aligner.building.ledger import LEASE_SECONDS, Ledger
from aligner.building.nouns import Failure, Fault, Reply, Request, order_of
from aligner.building.store import Store
from aligner.building.workers import Worker, lock_path, spool_path
from aligner.records import Message, SamplingParams

KEYS = [f"{i:02}" for i in range(12)]
MODELS = ("a", "b")
WORKERS = 3
REPLIES = st.builds(
    Reply,
    st.text(max_size=8),
    st.sampled_from(("stop", "length")),
    st.integers(0, 99),
    st.integers(0, 99),
    st.integers(0, 8).map(lambda eighths: eighths / 8),
)
FAILURES = st.builds(
    Failure,
    st.sampled_from(get_args(Fault)),
    st.text(max_size=8),
    st.integers(0, 8).map(lambda eighths: eighths / 8),
)


def request(key: str, model: str = "a", **fields: Any) -> Request:
    """A request of that key; its order is another one than that of the keys."""
    turns = (Message("user", f"asked {key}"),)
    made: dict[str, Any] = {"stage": "answers", "messages": turns, "about": key, "order": order_of(1, key), **fields}
    return Request(key=key, model=model, **made)


class Ledgers(RuleBasedStateMachine):
    """Workers of one store that lease, put, give back, end and are killed, beside a model of what must be."""

    @initialize()
    def begin(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="aligner-ledger-"))
        self.state: dict[str, str] = {}
        self.model: dict[str, str] = {}
        self.owner: dict[str, int] = {}
        self.outcome: dict[str, Reply | Failure] = {}
        self.spent = 0.0
        self.workers = [self.born() for _ in range(WORKERS)]

    def teardown(self) -> None:
        if hasattr(self, "workers"):
            for store, worker, _ in self.workers:
                worker.close()
                store.close()
            shutil.rmtree(self.folder)

    def born(self) -> tuple[Store, Worker, Ledger]:
        store, worker = Store(self.folder / "build.sqlite"), Worker(self.folder)
        return store, worker, Ledger(store, worker)

    def free(self, place: int) -> None:
        for key in [key for key, owner in self.owner.items() if owner == place]:
            del self.owner[key]
            self.state[key] = "todo"

    def settle(self, key: str, outcome: Reply | Failure) -> None:
        counts = self.state[key] != "done" and (self.state[key] != "failed" or isinstance(outcome, Reply))
        if counts:
            self.state[key] = "done" if isinstance(outcome, Reply) else "failed"
            self.owner.pop(key, None)
            self.outcome[key] = outcome
        self.spent += outcome.cost

    @rule(keys=st.lists(st.sampled_from(KEYS)), place=st.integers(0, WORKERS - 1))
    def add(self, keys: list[str], place: int) -> None:
        new = set(keys) - self.state.keys()
        made = [request(key, MODELS[int(key) % 2]) for key in keys]
        assert self.workers[place][2].add(made) == len(new)
        for key in new:
            self.state[key], self.model[key] = "todo", MODELS[int(key) % 2]

    @rule(
        place=st.integers(0, WORKERS - 1),
        models=st.lists(st.sampled_from((*MODELS, "none")), unique=True),
        count=st.integers(0, 5),
    )
    def lease(self, place: int, models: list[str], count: int) -> None:
        leased = self.workers[place][2].lease("answers", models, count)
        open_keys = [key for key, state in self.state.items() if state == "todo" and self.model[key] in models]
        expected = sorted(open_keys, key=lambda key: (order_of(1, key), key))[:count]
        assert leased == [request(key, self.model[key]) for key in expected]
        for key in expected:
            self.state[key], self.owner[key] = "leased", place

    @rule(place=st.integers(0, WORKERS - 1), key=st.sampled_from(KEYS), outcome=st.one_of(REPLIES, FAILURES))
    def put(self, place: int, key: str, outcome: Reply | Failure) -> None:
        if key in self.state:
            self.workers[place][2].put(key, outcome)
            self.settle(key, outcome)
        else:
            with pytest.raises(KeyError):
                self.workers[place][2].put(key, outcome)

    @rule(place=st.integers(0, WORKERS - 1), keys=st.lists(st.sampled_from(KEYS)))
    def give_back(self, place: int, keys: list[str]) -> None:
        self.workers[place][2].give_back(keys)
        for key in keys:
            if self.owner.get(key) == place:
                del self.owner[key]
                self.state[key] = "todo"

    @rule(place=st.integers(0, WORKERS - 1), faults=st.lists(st.sampled_from(get_args(Fault)), unique=True))
    def reopen(self, place: int, faults: list[Fault]) -> None:
        failed = [key for key, state in self.state.items() if state == "failed" and self.outcome[key][0] in faults]
        assert self.workers[place][2].reopen(faults) == len(failed)
        for key in failed:
            del self.outcome[key]
            self.state[key] = "todo"

    @rule(place=st.integers(0, WORKERS - 1), dies=st.booleans())
    def end(self, place: int, *, dies: bool) -> None:
        store, worker, _ = self.workers[place]
        if dies:
            die(worker)
        else:
            worker.close()
        store.close()
        self.workers[place] = self.born()
        self.free(place)

    @rule(place=st.integers(0, WORKERS - 1), key=st.sampled_from(KEYS), outcome=st.one_of(REPLIES, FAILURES))
    def dies_before_it_is_stored(self, place: int, key: str, outcome: Reply | Failure) -> None:
        store, worker, _ = self.workers[place]
        worker.spool.append(key, outcome)
        die(worker)
        store.close()
        self.workers[place] = self.born()
        if key in self.state:
            self.settle(key, outcome)
        self.free(place)

    @invariant()
    def each_request_has_one_state_and_one_outcome(self) -> None:
        if not hasattr(self, "workers"):
            return
        for place, (_, _, ledger) in enumerate(self.workers):
            assert ledger.spent() == self.spent, place
            for key, state in self.state.items():
                outcome = self.outcome.get(key)
                assert ledger.reply(key) == (outcome if state == "done" else None)
                assert ledger.failure(key) == (outcome if state == "failed" else None)
        ledger = self.workers[0][2]
        for models in ((), ("a",), MODELS):
            told = ledger.state("answers", models)
            mine = {key: state for key, state in self.state.items() if not models or self.model[key] in models}
            counts = Counter(mine.values())
            assert (told.todo, told.leased, told.done) == (counts["todo"], counts["leased"], counts["done"])
            assert told.failed == Counter(self.outcome[key][0] for key in mine if mine[key] == "failed")
        for model in MODELS:
            for state in ("todo", "leased", "done", "failed"):
                keys = [key for key in self.state if self.state[key] == state and self.model[key] == model]
                found = [each.key for each in ledger.requests("answers", model=model, state=state)]
                assert found == sorted(keys, key=lambda key: (order_of(1, key), key))


def die(worker: Worker) -> None:
    """What a kill does to the files of a worker: they are closed, and nothing else."""
    os.close(worker.spool._file)  # noqa: SLF001
    os.close(worker._lock)  # noqa: SLF001


TestLedgers = Ledgers.TestCase
TestLedgers.settings = settings(max_examples=40, stateful_step_count=25)


def opened(folder: Path) -> tuple[Store, Worker, Ledger]:
    """A worker on a folder."""
    store, worker = Store(folder / "build.sqlite"), Worker(folder)
    return store, worker, Ledger(store, worker)


@given(
    text=st.text(st.characters(exclude_categories=())),
    sampling=st.builds(
        SamplingParams,
        temperature=st.floats(0, 2),
        stop=st.lists(st.text(max_size=5), max_size=2).map(tuple),
        max_tokens=st.one_of(st.none(), st.integers(1, 9999)),
        seed=st.one_of(st.none(), st.integers(0, 2**32)),
    ),
)
@settings(max_examples=40)
def test_any_text_is_stored_and_halves_of_surrogates_are_replaced(
    tmp_path_factory: pytest.TempPathFactory, text: str, sampling: SamplingParams
) -> None:
    """A request comes back as it was; a reply does but for what no file can hold."""
    store, worker, ledger = opened(tmp_path_factory.mktemp("ledger"))
    with store, worker:
        plain = text.encode("utf-8", "ignore").decode()
        given = request("k", sampling=sampling, messages=(Message("system", plain), Message("user", "")))
        ledger.add([given])
        assert ledger.lease("answers", ["a"], 1) == [given]
        ledger.put("k", Reply(text))
        reply = ledger.reply("k")
        assert reply is not None
        assert len(reply.text) <= len(text)
        if plain == text:
            assert reply.text == text
        reply.text.encode()


def test_leases_of_a_dead_worker_are_free_and_those_of_a_living_one_are_not(tmp_path: Path) -> None:
    """A new worker gets what a dead one had, and nothing of a living one."""
    store, living, ledger = opened(tmp_path)
    other_store, dead, other = opened(tmp_path)
    with store, living, other_store:
        ledger.add(request(key) for key in KEYS)
        kept = ledger.lease("answers", ["a"], 3)
        lost = other.lease("answers", ["a"], 4)
        die(dead)
        with Store(store.path) as third_store, Worker(tmp_path) as third:
            found = Ledger(third_store, third).lease("answers", ["a"], 99)
        assert {each.key for each in found} == set(KEYS) - {each.key for each in kept}
        assert {each.key for each in lost} <= {each.key for each in found}


def test_leases_of_another_host_expire(tmp_path: Path) -> None:
    """A lock says nothing of another host: its worker is gone once it has said nothing for long enough."""
    store, worker, ledger = opened(tmp_path)
    with store, worker:
        ledger.add([request("k")])
        ledger.lease("answers", ["a"], 1)
        with store.writing() as db:
            db.execute("UPDATE workers SET host = 'elsewhere', id = 'elsewhere-1-x'")
            db.execute("UPDATE requests SET worker = 'elsewhere-1-x'")
        with Store(store.path) as second_store, Worker(tmp_path) as second:
            late = Ledger(second_store, second)
            assert late.lease("answers", ["a"], 1) == []
            with store.writing() as db:
                db.execute("UPDATE workers SET seen = seen - ? WHERE host = 'elsewhere'", (LEASE_SECONDS + 1,))
            assert late.recover() == 1
            assert [each.key for each in late.lease("answers", ["a"], 1)] == ["k"]


@pytest.mark.parametrize("torn", [b"", b'[2, "01", "reply", ["ha', b"\xff\x00\n", b"[]\n", b"{}\n", b'[2, "01"]\n'])
def test_a_spool_that_was_torn_off_gives_what_is_whole(tmp_path: Path, torn: bytes) -> None:
    """Whatever a kill or a broken disk left at the end of a spool, the outcomes before it are stored."""
    store, worker, ledger = opened(tmp_path)
    with store:
        ledger.add(request(key) for key in KEYS)
        worker.spool.append("00", Reply("whole", cost=0.5))
        path = spool_path(worker.folder, worker.id)
        die(worker)
        with path.open("ab") as file:
            file.write(torn)
        with Store(store.path) as next_store, Worker(tmp_path) as next_worker:
            taken = Ledger(next_store, next_worker)
            assert taken.reply("00") == Reply("whole", cost=0.5)
            assert taken.spent() == 0.5
            assert taken.reply("01") is None


def test_nothing_is_left_of_workers_that_ended(tmp_path: Path) -> None:
    """A worker takes its files with it, and the next one those of the dead."""
    store, worker, ledger = opened(tmp_path)
    with store, worker:
        ledger.add([request("00")])
        ledger.put("00", Reply("x"))
    store, worker, _ = opened(tmp_path)
    die(worker)
    store.close()
    store, worker, _ = opened(tmp_path)
    with store, worker:
        assert {path.stem for path in worker.folder.iterdir()} == {worker.id}
        assert store.connection.execute("SELECT count(*) FROM workers").fetchone() == (1,)
    assert not list(worker.folder.iterdir())


def test_a_spool_does_not_grow_without_end(tmp_path: Path) -> None:
    """What is in the store is taken out of it, and what comes behind that is still safe."""
    store, worker, ledger = opened(tmp_path)
    with store:
        ledger.add(request(key) for key in KEYS)
        for key in KEYS[:6]:
            ledger.put(key, Reply("x" * 2**20))
        worker.spool.append(KEYS[6], Reply("behind"))
        assert spool_path(worker.folder, worker.id).stat().st_size < 4 * 2**20
        die(worker)
    store, worker, ledger = opened(tmp_path)
    with store, worker:
        assert ledger.reply(KEYS[6]) == Reply("behind")
        assert ledger.state("answers").done == 7


def test_what_cannot_be_stored_fails_alone(tmp_path: Path) -> None:
    """Numbers beyond belief are cut, and an outcome of no kind in a spool takes nothing else with it."""
    store, worker, ledger = opened(tmp_path)
    with store:
        ledger.add(request(key) for key in KEYS)
        ledger.put("00", Reply("x", prompt_tokens=10**30, completion_tokens=-1, cost=float("nan")))
        assert ledger.reply("00") == Reply("x", "stop", 10**9, 0, 0.0)
        worker.spool.append("01", Reply("y", prompt_tokens=10**19))
        worker.spool.append("02", Reply(["no text"]))  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
        worker.spool.append("03", Reply("z"))
        die(worker)
    store, worker, ledger = opened(tmp_path)
    with store, worker:
        assert ledger.reply("01") == Reply("y", prompt_tokens=10**9)
        failure = ledger.failure("02")
        assert failure is not None
        assert failure.fault == "unusable"
        assert ledger.reply("03") == Reply("z")


def test_a_worker_that_was_taken_over_while_it_lives_goes_on_as_a_new_one(tmp_path: Path) -> None:
    """What it leases and gets from then on is as safe as that of any other: behind its death nothing is lost."""
    store, worker, ledger = opened(tmp_path)
    other_store, other_worker, other = opened(tmp_path)
    with store, other_store, other_worker:
        ledger.add(request(key) for key in KEYS)
        (first,) = ledger.lease("answers", ["a"], 1)
        before = worker.id
        with store.writing() as db:
            db.execute("UPDATE workers SET host = 'elsewhere', seen = 0 WHERE id = ?", (before,))
        # A file system without shared locks shows none.
        lock_path(worker.folder, before).unlink()
        assert other.recover() == 1
        ledger.put(first.key, Reply("late"))
        assert worker.id != before
        assert ledger.reply(first.key) == Reply("late")
        (second, third) = ledger.lease("answers", ["a"], 2)
        worker.spool.append(second.key, Reply("spooled"))
        assert other.recover() == 0
        die(worker)
        assert other.recover() == 1
        assert other.reply(second.key) == Reply("spooled")
        assert third in other.lease("answers", ["a"], 99)


def test_leases_of_nobody_are_free_and_those_of_batches_are_not(tmp_path: Path) -> None:
    """Whoever holds a request and is no worker lost it; a batch has no process."""
    store, worker, ledger = opened(tmp_path)
    with store, worker:
        ledger.add(request(key) for key in ("00", "02", "04"))
        with store.writing() as db:
            sql = "UPDATE requests SET state = 'leased', worker = ? WHERE key = ?"
            db.executemany(sql, [("ghost", "00"), ("batch", "02")])
        ledger.lease("answers", ["a"], 1)
        assert ledger.recover() == 1
        assert [each.key for each in ledger.requests("answers", model="a", state="todo")] == ["00"]
        assert ledger.recover() == 0


def test_up_to_a_place_only_the_first_requests_are_to_be_done(tmp_path: Path) -> None:
    """They are leased, listed and counted, and no other; what was done stays that of all."""
    store, worker, ledger = opened(tmp_path)
    with store, worker:
        made = sorted((request(key) for key in KEYS), key=lambda each: (each.order, each.key))
        ledger.add(made)
        ledger.put(made[9].key, Reply("x", cost=0.5))
        bounded = ledger.up_to(made[3].order)
        assert bounded.lease("answers", ["a"], 2) == made[:2]
        assert list(bounded.requests("answers", model="a", state="todo")) == made[2:4]
        state = bounded.state("answers")
        assert (state.todo, state.leased, state.done, state.cost) == (2, 2, 1, 0.5)
        assert bounded.lease("answers", ["a"], 99) == made[2:4]
        bounded.put(made[0].key, Reply("x"))
        assert (bounded.ended("answers", "a"), ledger.ended("answers", "a")) == (1, 2)
        assert ledger.state("answers").todo == len(KEYS) - 5
