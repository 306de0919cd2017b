"""The law of `aligner build` under `kill -9`, with two workers: the bytes of one run, and nothing is paid twice."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from random import Random

import orjson
import pytest
from built import Opened, adds_up, bytes_of, manifest_of, world_questions, written
from profile_server import bill_of, started

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

COUNT = 150
KILLS = 10
AT_A_TIME = 4
STAGES = ("questions", "answers", "corrections", "verdicts", "export")

CONFIG = """
out = {out}
pilot = 30
judge = "world:"
formats = ["trl", "kto"]
on_bad_row = "skip"

[[sources]]
path = {questions}
name = "world"

[[upstreams]]
name = "careless"
model = "openai:careless@{careless}"
at_a_time = {at_a_time}

[[upstreams]]
name = "reckless"
model = "openai:reckless@{reckless}"
at_a_time = {at_a_time}
price_in = 1000
price_out = 2000

[[annotators]]
name = "oracle"
model = "openai:oracle@{oracle}"
at_a_time = {at_a_time}
price_in = 3000
price_out = 9000

[filters]
near_duplicate = 0.95
language = "off"
"""


class Farm:
    """Three servers, and commands that build with them."""

    def __init__(self, folder: Path, *urls: str) -> None:
        self.folder, self.urls = folder, urls
        # One says nothing, one is unknown to the world, and five are there twice.
        questions = [*world_questions(COUNT), "?", "What is?", *world_questions(5)]
        rows = [{"question": text} for text in questions]
        self.questions = written(folder / "questions.jsonl", rows)
        with self.questions.open("ab") as file:
            file.write(b'{"question": 5}\n')

    def command(self, name: str) -> list[str]:
        """The command that builds into a folder of that name."""
        careless, reckless, oracle = self.urls
        out, questions = (orjson.dumps(str(path)).decode() for path in (self.folder / name, self.questions))
        names = {"careless": careless, "reckless": reckless, "oracle": oracle, "at_a_time": AT_A_TIME}
        config = self.folder / f"{name}.toml"
        config.write_text(CONFIG.format(out=out, questions=questions, **names), encoding="utf-8")
        return [sys.executable, "-m", "aligner", "build", "--config", str(config), "--yes"]

    def bills(self) -> list[dict[str, int]]:
        """What each server has billed."""
        return [bill_of(url) for url in self.urls]


@pytest.fixture
def farm(tmp_path: Path) -> Iterator[Farm]:
    """Servers that take a moment for each answer."""
    with (
        started("profile_server.py", "careless", "--pause", "0.05") as careless,
        started("profile_server.py", "reckless", "--pause", "0.05") as reckless,
        started("oracle_annotator.py", "--pause", "0.05", "--broken", "0.2", "--fenced", "0.2") as oracle,
    ):
        yield Farm(tmp_path, careless, reckless, oracle)


def test_killed_ten_times_with_two_workers_it_ends_with_the_same_bytes(farm: Farm) -> None:
    """At random moments over the whole command, one worker or the other; each call is billed once."""
    seed = int(os.environ.get("ALIGNER_SEED", time.time_ns() % 10**6))
    print(f"seed {seed}")
    random = Random(seed)
    command = farm.command("killed")
    workers = [subprocess.Popen(command, stderr=subprocess.DEVNULL) for _ in range(2)]
    kills = 0
    while kills < KILLS:
        time.sleep(random.uniform(0.5, 3.0))
        chosen = random.randrange(2)
        workers[chosen].kill()
        kills += workers[chosen].wait() == -signal.SIGKILL
        workers[chosen] = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    assert [worker.wait(300) for worker in workers] == [0, 0], f"seed {seed}"
    killed, bills = farm.folder / "killed", farm.bills()
    with Opened(killed) as opened:
        states = [
            opened.ledger.state("answers", ["careless"]),
            opened.ledger.state("answers", ["reckless"]),
            opened.ledger.state("corrections", ["oracle"]),
        ]
        assert [(state.todo, state.leased) for state in states] == [(0, 0)] * 3
        assert [dict(state.failed) for state in states] == [{"refused": 1}, {"refused": 1}, {}]
        assert [state.done for state in states] == [bill["billed"] for bill in bills], f"seed {seed}"
        for state, bill in zip(states, bills, strict=True):
            assert state.prompt_tokens == bill["prompt_tokens"]
            assert state.completion_tokens == bill["completion_tokens"]
    for bill in bills:
        assert bill["repeated"] <= KILLS * AT_A_TIME

    subprocess.run(farm.command("once"), check=True, stderr=subprocess.DEVNULL)
    once = farm.folder / "once"
    # No call of the undisturbed run is another one: the servers know them all.
    assert [bill["billed"] for bill in farm.bills()] == [bill["billed"] for bill in bills]
    assert manifest_of(killed)["funnel"] == manifest_of(once)["funnel"]
    assert manifest_of(killed)["costs"] == manifest_of(once)["costs"]
    found, wanted = bytes_of(killed), bytes_of(once)
    assert found.keys() == wanted.keys()
    assert [name for name in wanted if found[name] != wanted[name]] == [], f"seed {seed}"
    adds_up(manifest_of(once)["funnel"])


def test_each_stage_killed_ten_times_leaves_the_same_bytes(farm: Farm) -> None:
    """A stage alone, at random moments of it, again and again: then it ends as if nothing had been."""
    seed = int(os.environ.get("ALIGNER_SEED", time.time_ns() % 10**6))
    print(f"seed {seed}")
    random = Random(seed)
    for stage in STAGES:
        kills = 0
        for _ in range(6 * KILLS):
            worker = subprocess.Popen([*farm.command("killed"), stage], stderr=subprocess.DEVNULL)
            time.sleep(random.uniform(0.4, 1.4))
            worker.kill()
            kills += worker.wait() == -signal.SIGKILL
            if kills == KILLS:
                break
        assert kills == KILLS, f"{stage}, seed {seed}"
        subprocess.run([*farm.command("killed"), stage], check=True, stderr=subprocess.DEVNULL)
    # Behind it, as the servers answer at once what they were asked before.
    for stage in STAGES:
        subprocess.run([*farm.command("once"), stage], check=True, stderr=subprocess.DEVNULL)
    found, wanted = bytes_of(farm.folder / "killed"), bytes_of(farm.folder / "once")
    assert found.keys() == wanted.keys()
    assert [name for name in wanted if found[name] != wanted[name]] == [], f"seed {seed}"
    with Opened(farm.folder / "killed") as killed, Opened(farm.folder / "once") as once:
        assert killed.ledger.spent() == pytest.approx(once.ledger.spent())
        done = [killed.ledger.state("answers", ["careless"]).done, killed.ledger.state("corrections", ["oracle"]).done]
    bills = farm.bills()
    assert done == [bills[0]["billed"], bills[2]["billed"]]
