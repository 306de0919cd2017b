"""Laws of `aligner build` in parts: each question in one part, nothing asked twice, and the bytes of a single build."""

import os
import pickle
import resource
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import pytest
from built import Opened, adds_up, bytes_of, manifest_of, upstreams, world_config
from profile_server import bill_of, started

from aligner.build import build
from aligner.building import sharded
from aligner.building.dealing import Dealer, part_of
from aligner.building.nouns import Asked, id_of
from aligner.building.store import Store
from aligner.config import BuildAnnotator, BuildConfig, BuildUpstream
from aligner.errors import MisuseError

TESTS = str(Path(__file__).parent)
COUNT = 40
BUILD = "aligner.build:build_part"
DRIVE = """
import pickle, sys
from aligner.build import build
build(pickle.load(sys.stdin.buffer))
"""


@pytest.fixture(autouse=True)
def _works(monkeypatch: pytest.MonkeyPatch) -> None:  # pyright: ignore[reportUnusedFunction]
    """Other processes find the works."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([TESTS, *filter(None, [os.environ.get("PYTHONPATH")])]))


@pytest.fixture(scope="module")
def oracle() -> Iterator[tuple[BuildAnnotator, ...]]:
    """An annotator that knows the closed world, some of whose replies cannot be read."""
    with started("oracle_annotator.py", "--broken", "0.2") as url:
        yield (BuildAnnotator(name="oracle", model=f"openai:oracle@{url}"),)


def asked_by(config: BuildConfig) -> Counter[str]:
    """How often each call was made, over all stores that made some."""
    calls = Counter[str]()
    for path in config.out.rglob("build.sqlite"):
        with Store(path) as store:
            rows = store.connection.execute("SELECT stage, model, prompt_tokens FROM spending WHERE store = ''")
            calls.update({f"{stage} {model}": tokens for stage, model, tokens in rows})
    return calls


def gathered(config: BuildConfig) -> BuildConfig:
    """The build, whose questions are in its store."""
    build(replace(config, stage="questions"))
    return config


@pytest.mark.parametrize("engine", ["local", pytest.param("ray", marks=pytest.mark.slow)])
def test_parts_have_the_bytes_of_a_single_build(
    tmp_path: Path, oracle: tuple[BuildAnnotator, ...], engine: Any
) -> None:
    """Whatever the number of parts, the data set is the same to the byte, and its funnel adds up."""
    (tmp_path / "one").mkdir()
    (tmp_path / "parts").mkdir()
    once = world_config(tmp_path / "one", COUNT, twice=0.3, annotators=oracle)
    parts = replace(once, out=tmp_path / "parts" / "out", engine=engine, shards=3, workers=2)
    build(once)
    build(parts)
    assert bytes_of(parts.out) == bytes_of(once.out)
    adds_up(manifest_of(parts.out)["funnel"])
    assert asked_by(parts) == asked_by(once)


def test_jobs_of_an_array_build_what_one_does(tmp_path: Path, oracle: tuple[BuildAnnotator, ...]) -> None:
    """Questions once, then `--shard i/N` on any machines, then the command without: the bytes of a single build."""
    (tmp_path / "one").mkdir()
    once = world_config(tmp_path / "one", COUNT, annotators=oracle)
    build(once)
    parts = gathered(replace(once, out=tmp_path / "out"))
    for i in (2, 0, 1):
        build(replace(parts, shard=f"{i}/3"))
    build(parts)
    assert bytes_of(parts.out) == bytes_of(once.out)
    assert asked_by(parts) == asked_by(once)
    assert not list(tmp_path.rglob("questions.sqlite*"))


def test_a_part_needs_questions(tmp_path: Path) -> None:
    """Where they were not gathered yet, a part says what to run first."""
    with pytest.raises(MisuseError, match="has no questions yet: run"):
        build(world_config(tmp_path, 3, shard="0/2"))


def test_a_finished_build_starts_no_part(tmp_path: Path, oracle: tuple[BuildAnnotator, ...]) -> None:
    """Again it ends within seconds, imports no Ray, and leaves the data set as it is."""
    config = world_config(tmp_path, 10, shards=2, workers=1, annotators=oracle)
    build(config)
    before, when = bytes_of(config.out), [path.stat().st_mtime_ns for path in config.out.rglob("parts/*/done.json")]
    assert len(when) == 2
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "ray.py").write_text("raise SystemExit('it was imported')")
    path = os.pathsep.join([str(tmp_path / "site"), os.environ["PYTHONPATH"]])
    began = seconds_of_children()
    driven(replace(config, engine="ray"), PYTHONPATH=path)
    assert seconds_of_children() - began < 10
    assert bytes_of(config.out) == before
    assert [path.stat().st_mtime_ns for path in config.out.rglob("parts/*/done.json")] == when


def seconds_of_children() -> float:
    """What processes that have ended took of the CPU: a busy machine is no reason for a law to fail."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def driven(config: BuildConfig, **environ: str) -> None:
    """The build in a process of its own."""
    given = {**os.environ, **environ}
    done = subprocess.run(
        [sys.executable, "-c", DRIVE], input=pickle.dumps(config), capture_output=True, env=given, check=False
    )
    assert done.returncode == 0, done.stderr.decode()


def test_what_is_known_is_not_asked_again(tmp_path: Path) -> None:
    """A pilot, or a build that was begun without parts, gives its replies to the parts."""
    config = gathered(world_config(tmp_path, 10, shards=2, workers=1))
    build(replace(config, shards=0, workers=0, stage="answers"))
    before = asked_by(config)
    assert before
    build(config)
    assert {call: count for call, count in asked_by(config).items() if call.startswith("answers")} == before
    assert any(call.startswith("corrections") for call in asked_by(config))


def test_each_question_is_dealt_to_one_part_with_its_cluster(tmp_path: Path) -> None:
    """Near-duplicates stay together, and the parts add up to the questions that were kept."""
    texts = [f"question {i}" for i in range(300)]
    rows = [
        Asked(id=id_of("question", text), question=text, source="s", place="p", cluster=f"c{i // 3}")
        for i, text in enumerate(texts)
    ]
    with Store(tmp_path / "main.sqlite") as store:
        store.add_questions(rows)
        dealer = Dealer(store, 4)
        found: dict[str, int] = {}
        for number in range(4):
            with Store(tmp_path / f"{number}.sqlite") as part:
                dealer.deal(number, part.path)
                dealer.deal(number, part.path)
                assert part.counts("questions") == dealer.sizes[number] > 0
                found |= {asked.id: number for asked in part.questions()}
    assert found == {row.id: part_of(row.cluster, 4) for row in rows}


def config_with_limits(folder: Path, **given: Any) -> BuildConfig:
    """A build with limits and a price."""
    return world_config(
        folder,
        30,
        upstreams=(
            BuildUpstream(name="a", model="world:careless", requests_per_minute=60, tokens_per_minute=6000),
            BuildUpstream(name="b", model="world:reckless"),
        ),
        annotators=(BuildAnnotator(name="echo", model="echo:", requests_per_minute=30),),
        **given,
    )


def test_limits_and_money_are_divided(tmp_path: Path) -> None:
    """Parts that run together keep to the limits of the whole, and may not spend more than it, all together."""
    config = gathered(config_with_limits(tmp_path, shards=4, workers=2, max_cost=100.0))
    sharded.run(config, "works:built")
    logs = [path.read_text().splitlines() for path in config.out.glob("parts/*/calls.log")]
    assert len(logs) == 4
    assert {line.partition(" ")[2] for log in logs for line in log} == {"[30.0, 0.0]"}
    assert sum(float(log[0].partition(" ")[0]) for log in logs) == pytest.approx(100.0)


def test_another_number_of_parts_is_refused(tmp_path: Path) -> None:
    """What was begun in three parts is not gone on with in four."""
    config = gathered(world_config(tmp_path, 5, shards=3, workers=1))
    sharded.run(config, "works:built")
    with pytest.raises(MisuseError, match="the build was begun in 3 parts, not in 4"):
        sharded.run(replace(config, shards=4), "works:built")
    sharded.run(replace(config, shards=0), "works:built")


def test_parts_are_taken_in_once(tmp_path: Path, oracle: tuple[BuildAnnotator, ...]) -> None:
    """Bringing parts into the main store again changes nothing, and a store without parts is left alone."""
    config = gathered(world_config(tmp_path, 8, annotators=oracle))
    with Opened(config.out) as opened:
        assert sharded.collect(config, opened.store) == 0
    sharded.run(replace(config, shards=2, workers=1), BUILD)
    with Opened(config.out) as opened:
        figures = [opened.store.counts(table) for table in ("questions", "answers", "annotated")], opened.ledger.spent()
        for mark in config.out.rglob("merged.json"):
            mark.unlink()
        assert sharded.collect(config, opened.store) == 2
        again = [opened.store.counts(table) for table in ("questions", "answers", "annotated")], opened.ledger.spent()
    assert figures == again
    assert figures[0] == [8, 16, 16]


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("engine", ["local", "ray"])
def test_a_killed_build_in_parts_pays_nothing_twice(
    tmp_path: Path, oracle: tuple[BuildAnnotator, ...], engine: Any
) -> None:
    """Killed at random moments, the same command ends with the bytes of a single build."""
    seed = time.time_ns() % 10**6
    print(f"seed {seed}")
    random = Random(seed)
    with started("profile_server.py", "reckless") as url, started("profile_server.py", "reckless") as other:
        once = served_build(tmp_path / "one", url, oracle)
        build(once)
        config = replace(served_build(tmp_path / "parts", other, oracle), engine=engine, shards=3, workers=2)
        for _ in range(3):
            process = start(config)
            time.sleep(random.uniform(2, 12))
            process.send_signal(signal.SIGKILL)
            process.wait()
        driven(config)
        assert bill_of(other)["billed"] == bill_of(url)["billed"] == 60
    assert bytes_of(config.out) == bytes_of(once.out), f"seed {seed}"


def served_build(folder: Path, url: str, annotators: tuple[BuildAnnotator, ...]) -> BuildConfig:
    """A build with an upstream behind a server that bills, and one in this process."""
    folder.mkdir()
    served = BuildUpstream(name="served", model=f"openai:m@{url}", at_a_time=4)
    return world_config(folder, 60, upstreams=(served, *upstreams("careless")), annotators=annotators)


def start(config: BuildConfig) -> "subprocess.Popen[bytes]":
    """The build in a process of its own, at work."""
    process = subprocess.Popen([sys.executable, "-c", DRIVE], stdin=subprocess.PIPE, stderr=subprocess.DEVNULL)
    assert process.stdin
    process.stdin.write(pickle.dumps(config))
    process.stdin.close()
    return process
