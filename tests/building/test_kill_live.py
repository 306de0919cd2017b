"""The laws of live calls under `kill -9`: no row is lost, and none is paid twice where the server can help it."""

import random
import subprocess
import time
from pathlib import Path

import pytest
from live_worker import NAME, asked, requests, started
from paid_server import answer_to, paid_server

from aligner.building.ledger import Ledger
from aligner.building.nouns import Reply
from aligner.building.store import Store
from aligner.building.workers import Worker

ROWS, KILLS, AT_A_TIME = 400, 10, 8


def done(folder: Path) -> int:
    """Replies that are stored."""
    with Store(folder / "build.sqlite") as store:
        return store.connection.execute("SELECT count(*) FROM replies").fetchone()[0]


def until_done(folder: Path, count: int, workers: list[subprocess.Popen[bytes]]) -> None:
    """Wait until so many replies are stored."""
    while done(folder) < count:
        assert any(worker.poll() is None for worker in workers), "all workers ended before"
        time.sleep(0.005)


@pytest.mark.slow
@pytest.mark.parametrize("idempotent", [True, False])
def test_killed_ten_times_two_workers_lose_nothing_and_pay_nothing_twice(tmp_path: Path, *, idempotent: bool) -> None:
    """Every row gets its reply; a server that honours the key bills it once, another again only for calls cut off."""
    seed = time.time_ns() % 10**6
    print(f"seed {seed}")
    chance = random.Random(seed)
    made = requests(f"Who is number {i}?" for i in range(ROWS))
    with Store(tmp_path / "build.sqlite") as store, Worker(tmp_path) as worker:
        Ledger(store, worker).add(made)
    with paid_server(idempotent=idempotent, seconds=(0.0, 0.1)) as server:
        workers = [started(tmp_path, server.base_url, at_a_time=AT_A_TIME) for _ in range(2)]
        try:
            for _ in range(KILLS):
                until_done(tmp_path, done(tmp_path) + chance.randrange(1, ROWS // (KILLS + 2)), workers)
                place = chance.randrange(2)
                workers[place].kill()
                workers[place].wait()
                workers[place] = started(tmp_path, server.base_url, at_a_time=AT_A_TIME)
            assert [worker.wait(120) for worker in workers] == [0, 0], f"seed {seed}"
        finally:
            for worker in workers:
                worker.kill()
                worker.wait()
        paid = server.stats().paid
    assert paid.keys() == {request.key for request in made}
    again = sum(paid.values()) - ROWS
    print(f"paid again: {again}")
    assert again == 0 if idempotent else again <= KILLS * AT_A_TIME, f"seed {seed}"
    with Store(tmp_path / "build.sqlite") as store, Worker(tmp_path) as worker:
        ledger = Ledger(store, worker)
        state = ledger.state("answers", [NAME])
        assert (state.todo, state.leased, state.done, state.failed) == (0, 0, ROWS, {}), f"seed {seed}"
        for request in made:
            reply = ledger.reply(request.key)
            assert isinstance(reply, Reply)
            assert reply.text == answer_to(request.messages[0].content), f"seed {seed}"
        assert ledger.state("answers").completion_tokens == 12 * ROWS
    assert not list((tmp_path / "workers").iterdir())


def test_a_worker_takes_up_what_a_dead_one_left(tmp_path: Path) -> None:
    """A worker that waits for another does its calls as soon as that one is killed."""
    made = requests(f"Who is number {i}?" for i in range(4))
    with Store(tmp_path / "build.sqlite") as store, Worker(tmp_path) as worker:
        Ledger(store, worker).add(made)
    with paid_server(seconds=(2.0, 2.0)) as server:
        stuck = started(tmp_path, server.base_url)
        while len(server.stats().arrivals) < 4:
            assert stuck.poll() is None
            time.sleep(0.02)
        other = started(tmp_path, server.base_url)
        time.sleep(0.2)
        stuck.kill()
        stuck.wait()
        assert other.wait(60) == 0
        assert asked(tmp_path, server.base_url) == 0
        assert server.stats().paid == {request.key: 1 for request in made}
