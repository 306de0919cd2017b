"""The law of batches under `kill -9`: whatever the moment, each request is paid once, and nothing is lost."""

import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from random import Random

import batch_builds
import pytest
from batch_builds import ledger_in, outcomes, paid_once, requests
from batch_server import BatchServer, Behaviour, serving

from aligner.building.nouns import Reply

KILLS = 10
PROGRAM = [sys.executable, str(Path(batch_builds.__file__))]


def killed_when(reached: Callable[[], bool], command: list[str], pause: float) -> bool:
    """Run a command and kill it so many seconds after something was reached; says whether it was still at work."""
    process = subprocess.Popen(command)
    while process.poll() is None and not reached():
        time.sleep(0.0005)
    time.sleep(pause)
    process.kill()
    return process.wait() == -signal.SIGKILL


def replies_in(path: Path) -> int:
    """How many replies are in a store."""
    db = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    try:
        return db.execute("SELECT count(*) FROM replies").fetchone()[0]
    finally:
        db.close()


def whole(server: BatchServer, folder: Path, command: list[str], asked: list[batch_builds.Request]) -> None:
    """Let the command end, and see that all was paid once and has come."""
    subprocess.run(command, check=True)
    with ledger_in(folder) as ledger:
        assert paid_once(server, asked)
        for content, reply in outcomes(ledger, asked).items():
            expected = Reply(f"Reply to {content}", "stop", 4, 4, batch_builds.PRICES.cost(4, 4), "batch")
            assert reply == expected
        assert ledger.spent() == pytest.approx(len(asked) * batch_builds.PRICES.cost(4, 4))
    sizes = [batch["request_counts"]["total"] for batch in server.batches.values()]
    assert sum(sizes) == len(asked)


@pytest.mark.slow
def test_killed_between_any_two_calls_each_request_is_paid_once(tmp_path: Path) -> None:
    """Killed ten times while it sends and collects, at the server every request is paid once; the replies are equal."""
    seed = time.time_ns() % 10**6
    print(f"seed {seed}")
    random = Random(seed)
    asked = requests(f"question {i}" for i in range(160))
    # Calls take their time, so that most kills fall between what the server did and what the client knows of it.
    with serving(Behaviour(shuffle=seed, latency=0.03)) as server:
        with ledger_in(tmp_path) as ledger:
            ledger.add(asked)
        command = [*PROGRAM, str(tmp_path), server.url, "4"]
        for _ in range(KILLS):
            moment = server.calls.total() + random.randrange(1, 14)
            pause = random.random() * 0.04
            assert killed_when(lambda moment=moment: server.calls.total() >= moment, command, pause), f"seed {seed}"
        assert len(server.batches) < 40, f"seed {seed}: all was sent before the last kill"
        whole(server, tmp_path, command, asked)


@pytest.mark.slow
def test_killed_while_replies_are_stored_none_is_lost_or_paid_twice(tmp_path: Path) -> None:
    """Killed ten times in the middle of one large file of results, the same command ends with every reply once."""
    seed = time.time_ns() % 10**6
    print(f"seed {seed}")
    random = Random(seed)
    asked = requests(f"question {i}" for i in range(4000))
    with serving(Behaviour(shuffle=seed)) as server:
        with ledger_in(tmp_path) as ledger:
            ledger.add(asked)
        command = [*PROGRAM, str(tmp_path), server.url, "4000"]
        store = tmp_path / "build.sqlite"
        kills = 0
        for _ in range(KILLS):
            moment = replies_in(store) + random.randrange(1, 250)
            kills += killed_when(lambda moment=moment: replies_in(store) >= moment, command, 0.0)
        assert kills == KILLS, f"seed {seed}: all was stored before the last kill"
        assert 0 < replies_in(store) < len(asked)
        whole(server, tmp_path, command, asked)


def test_killed_before_it_hears_of_its_batch_it_finds_it(tmp_path: Path) -> None:
    """A batch that the server took, and whose sender was killed before the answer, is found and not sent again."""
    asked = requests(f"question {i}" for i in range(4))
    with serving(Behaviour(latency=0.5)) as server:
        with ledger_in(tmp_path) as ledger:
            ledger.add(asked)
        command = [*PROGRAM, str(tmp_path), server.url, "4"]
        assert killed_when(lambda: bool(server.batches), command, 0.0)
        server.behaviour.latency = 0.0
        whole(server, tmp_path, command, asked)
        assert len(server.batches) == 1
