"""Laws of the parts of a build: what goes into them, what comes back, and what they may spend."""

import os
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from built import Opened, world_config

from aligner.build import build
from aligner.building import sharded
from aligner.building.batches.register import BatchFile, Register
from aligner.building.dealing import Dealer, part_of
from aligner.building.nouns import Annotated, Answered, Asked, Dropped, Failure, Reply, Request, Stage
from aligner.building.store import Store
from aligner.config import BuildAnnotator, BuildConfig
from aligner.files import write_json_atomic
from aligner.records import Message, SamplingParams

TESTS = str(Path(__file__).parents[1])
WRITES = """
import sys
from pathlib import Path
from aligner.building.nouns import Asked
from aligner.building.store import Store
with Store(Path(sys.argv[1])) as store:
    store.add_questions(Asked(id=str(i), question="q" * 2000, source="0", place="p") for i in range(8000))
    number = 0
    while True:
        number += 1
        with store.writing() as db:
            db.execute("UPDATE questions SET source = ?", (str(number),))
        print(number, flush=True)
"""


def request(key: str, about: str = "q", *, stage: Stage = "answers", model: str = "m") -> Request:
    """A request of that key."""
    turns = (Message("user", key),)
    return Request(key=key, stage=stage, model=model, messages=turns, sampling=SamplingParams(), about=about)


def batch_of(path: Path, keys: Iterable[str], cost: float) -> None:
    """Calls that are in a batch, which was not collected."""
    with Register(path) as register:
        register.add(BatchFile(1, "answers", "m", "m-0001.jsonl", "token", cost, "running", "batch_1"), list(keys))


def parts_of(config: BuildConfig, count: int) -> list[Path]:
    """The folders of parts that were begun."""
    folders = [config.out / "parts" / f"{number:05d}" for number in range(count)]
    folders[0].mkdir(parents=True)
    write_json_atomic(config.out / "parts" / "manifest.json", {"parts": count})
    return folders


def collected(config: BuildConfig, opened: Opened) -> list[str]:
    """The keys of all replies in the main store, once what parts have is there."""
    sharded.collect(config, opened.store)
    return [key for (key,) in opened.store.connection.execute("SELECT key FROM replies ORDER BY key")]


def test_a_part_alone_has_the_same_money_however_often_it_is_run(tmp_path: Path) -> None:
    """Its share is one of the whole, all its runs together; what the main store spent itself is taken off before."""
    config = world_config(tmp_path, 30, max_cost=10.0)
    build(replace(config, stage="questions"))
    with Opened(config.out) as opened:
        opened.ledger.add([request("pilot")])
        opened.ledger.put("pilot", Reply("x", cost=2.0))
    limits: dict[str, list[float]] = {"0/2": [], "1/2": []}

    def spending(part: BuildConfig) -> None:
        assert part.max_cost is not None
        limits[shard].append(part.max_cost)
        with Opened(part.out) as opened:
            key = f"{shard} {len(limits[shard])}"
            opened.ledger.add([request(key), request(f"{key} left")])
            opened.ledger.put(key, Reply("x", cost=part.max_cost - opened.ledger.spent()))

    for shard in ("0/2", "1/2", "0/2", "1/2"):
        sharded.run_shard(replace(config, shard=shard), spending)
        with Opened(config.out) as opened:
            sharded.collect(config, opened.store)
            assert opened.ledger.spent() <= 10.0 + 1e-9
    assert all(first == again for first, again in limits.values())
    assert sum(first for first, _ in limits.values()) == pytest.approx(8.0)


def test_money_in_open_batches_is_spent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a part's batches may still cost is not handed to other parts, in any run."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([TESTS, *filter(None, [os.environ.get("PYTHONPATH")])]))
    config = world_config(tmp_path, 30, max_cost=10.0, shards=2, workers=1)
    build(replace(config, stage="questions"))
    limits = set[tuple[float, float]]()
    for begun in (False, True, True):
        sharded.run(config, "works:built")
        first, second = (
            float((folder / "calls.log").read_text().splitlines()[-1].partition(" ")[0])
            for folder in sorted((config.out / "parts").glob("0*"))
        )
        limits.add((round(first, 6), round(second, 6)))
        assert first + second == pytest.approx(10.0)
        for number, limit in enumerate((first, second)):
            with Opened(config.out / "parts" / f"{number:05d}") as opened:
                (opened.store.path.parent / "done.json").unlink(missing_ok=True)
                opened.ledger.add([request(f"{number}")])
                if number == 0:
                    batch_of(opened.store.path, ["0"], limit)
                elif not begun:
                    opened.ledger.put("1", Reply("x", cost=limit))
    assert len(limits) == 1


def test_calls_that_parts_have_under_way_are_not_to_be_made_elsewhere(tmp_path: Path) -> None:
    """What is in a part's batch, or to do there, stays there; an outcome comes along, and people's calls do."""
    config = world_config(tmp_path, annotators=(BuildAnnotator(name="anna", model="human:"),))
    (folder,) = parts_of(config, 1)
    with Opened(folder) as part:
        part.ledger.add(map(request, ("batch", "todo", "done", "failed")))
        part.ledger.add([request("hers", stage="corrections", model="anna")])
        batch_of(part.store.path, ["batch"], 1.0)
        part.ledger.put("done", Reply("x"))
        part.ledger.put("failed", Failure("refused", "no"))
    with Opened(config.out) as main:
        assert collected(config, main) == ["done"]
        state = main.ledger.state("answers")
        assert (state.todo, state.leased, state.done, state.failed) == (0, 0, 1, {"refused": 1})
        assert [found.key for found in main.ledger.requests("corrections", model="anna", state="todo")] == ["hers"]


def test_what_is_written_to_a_log_that_does_not_grow_comes_along(tmp_path: Path) -> None:
    """A log that was gone over is written from its beginning again; its size is the same, and its replies are new."""
    config = world_config(tmp_path)
    (folder,) = parts_of(config, 1)
    with Opened(folder) as part, Opened(config.out) as main:
        part.ledger.add(map(request, "ab"))
        part.ledger.put("a", Reply("x" * 100_000))
        part.store.connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
        assert collected(config, main) == ["a"]
        time.sleep(0.02)
        part.ledger.put("b", Reply("y"))
        assert collected(config, main) == ["a", "b"]


def test_what_is_written_during_a_merge_comes_along_later(tmp_path: Path) -> None:
    """A part that lives writes on while it is read; the next look finds it, and one behind that has nothing to do."""
    config = world_config(tmp_path)
    (folder,) = parts_of(config, 1)
    with Opened(folder) as part, Opened(config.out) as main:
        part.ledger.add(map(request, "ab"))
        part.ledger.put("a", Reply("x"))

        class Late(Store):
            merges = 0

            def merge(self, path: Path) -> None:
                super().merge(path)
                self.merges += 1
                if self.merges == 1:
                    part.ledger.put("b", Reply("y"))

        with Late(main.store.path) as late:
            for merges, keys in ((1, ["a"]), (2, ["a", "b"]), (2, ["a", "b"])):
                sharded.collect(config, late)
                assert late.merges == merges
                assert [key for (key,) in late.connection.execute("SELECT key FROM replies ORDER BY key")] == keys


def test_a_merge_leaves_a_part_as_it_was(tmp_path: Path) -> None:
    """So a part whose process has ended is read once, and never again."""
    config = world_config(tmp_path)
    (folder,) = parts_of(config, 1)
    with Opened(folder) as part:
        part.ledger.add([request("a")])
        part.ledger.put("a", Reply("x"))
    with Opened(config.out) as main:
        assert collected(config, main) == ["a"]
        when = (folder / "merged.json").stat().st_mtime_ns
        assert collected(config, main) == ["a"]
        assert (folder / "merged.json").stat().st_mtime_ns == when


def test_what_was_asked_again_in_a_part_is_no_longer_dropped(tmp_path: Path) -> None:
    """With `failed = "retry"` a new answer or correction takes the place of what the main store dropped before."""
    config = world_config(tmp_path)
    (folder,) = parts_of(config, 1)
    given: dict[str, Any] = {"question": "q", "upstream": "m", "sample": 0, "text": "fine"}
    answers = [Answered(id=f"a{i}", key=f"k{i}", **given) for i in range(3)]
    with Opened(folder) as part, Opened(config.out) as main:
        part.store.add_answers(answers[1:])
        part.store.drop([Dropped("answers", "a0", "refused"), Dropped("answers", "a2", "empty")])
        part.store.drop([Dropped("corrections", "a1", "refused")])
        sharded.collect(config, main.store)
        assert [row.id for row in main.store.dropped()] == ["a0", "a2", "a1"]
        part.store.restore("answers", ["refused"])
        part.store.restore("corrections", ["refused"])
        part.store.add_answers(answers[:1])
        corrected = Annotated(id="c1", answer="a1", annotator="n", key="k", choice="keep", text="fine")
        part.store.add_annotated([corrected])
        sharded.collect(config, main.store)
        assert [row.id for row in main.store.dropped()] == ["a2"]
        assert [row.id for row in main.store.answers()] == ["a0", "a1"]
        assert list(main.store.annotated()) == [corrected]


def test_what_a_part_has_kept_since_is_not_dropped_by_dealing(tmp_path: Path) -> None:
    """The main store may still have the reason of an earlier run."""
    given: dict[str, Any] = {"question": "q", "upstream": "m", "sample": 0, "text": "fine"}
    with Store(tmp_path / "main.sqlite") as main, Store(tmp_path / "part.sqlite") as part:
        main.add_questions([Asked(id="q", question="q", source="s", place="p")])
        for store in (main, part):
            store.add_answers([Answered(id="kept", key="k", **given)])
        main.add_answers([Answered(id="new", key="n", **given)])
        part.add_annotated([Annotated(id="c", answer="kept", annotator="n", key="k", choice="keep", text="fine")])
        main.drop(Dropped(stage, id_, "refused") for stage in ("answers", "corrections") for id_ in ("kept", "new"))
        Dealer(main, 1).deal(0, part.path)
        assert [(row.stage, row.id) for row in part.dropped()] == [("answers", "new"), ("corrections", "new")]


def test_a_copy_is_whole_while_others_write(tmp_path: Path) -> None:
    """What a part reads of the main store is the store of one moment."""
    with Store(tmp_path / "build.sqlite"):
        pass
    program = [sys.executable, "-c", WRITES, str(tmp_path / "build.sqlite")]
    with subprocess.Popen(program, stdout=subprocess.PIPE) as process:
        assert process.stdout
        try:
            for _ in range(10):
                process.stdout.readline()
                with sharded.copied(tmp_path / "build.sqlite", tmp_path / "part") as copy:
                    db = sqlite3.connect(copy)
                    assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
                    assert db.execute("SELECT count(*), count(DISTINCT source) FROM questions").fetchone() == (8000, 1)
                    db.close()
        finally:
            process.kill()
    assert not list((tmp_path / "part").iterdir())


def test_dealing_a_part_reads_no_requests_of_others(tmp_path: Path) -> None:
    """The work does not grow with the other parts."""
    assert steps_of_dealing(tmp_path / "few", 10) > 0.5 * steps_of_dealing(tmp_path / "many", 2000)


def steps_of_dealing(folder: Path, others: int) -> int:
    """The steps that SQLite takes for a part of twenty questions, in hundreds."""
    names = [f"q{i}" for i in range(9 * (others + 20))]
    mine, rest = ([name for name in names if part_of(name, 2) == number] for number in range(2))
    chosen = [*mine[:20], *rest[:others]]
    steps = list[int]()
    with Opened(folder) as main, Store(folder / "part.sqlite") as part:
        main.store.add_questions(Asked(id=name, question=name, source="s", place="p") for name in chosen)
        main.ledger.add(request(f"{stage} {name}", name, stage=stage) for name in chosen for stage in STAGES)
        main.store.connection.execute("UPDATE requests SET state = 'done'")
        dealer = Dealer(main.store, 2)
        main.store.connection.set_progress_handler(lambda: steps.append(1), 100)
        dealer.deal(0, part.path)
        main.store.connection.set_progress_handler(None, 0)
        assert part.counts("questions") == 20
        assert part.connection.execute("SELECT count(*) FROM requests").fetchone() == (20,)
    return len(steps)


STAGES: tuple[Stage, ...] = ("answers", "verdicts")
