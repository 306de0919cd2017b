"""The finished data set: the same bytes for the same store, whole or not at all, and rows that training takes."""

import fcntl
import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import orjson
import pyarrow.parquet as pq
import pytest
from counted_build import FACTS, NOTHING, built, bytes_of, checked_of, config_of, many, opened
from hypothesis import given
from hypothesis import strategies as st

from aligner.building import output
from aligner.building.nouns import Checked, id_of
from aligner.building.shards_out import SCHEMA
from aligner.cli import main
from aligner.data.fields import triple_of
from aligner.errors import MisuseError, OutputFileError
from aligner.files import read_rows
from aligner.files.bad_rows import StopAtBadRow

_TESTS = Path(__file__).parents[1]
_SOURCES = Path(output.__file__).parents[2]
_KILLED = """
import sys
from itertools import cycle
from pathlib import Path
from counted_build import FACTS, config_of, opened
from aligner.building import output
out = Path(sys.argv[1])
with opened(out) as build:
    print("begun", flush=True)
    for size in cycle((2, 4)):
        output.write(config_of(out, rows_per_shard=size), *build, FACTS)
"""
_MANY = """
import resource, sys
from pathlib import Path
from counted_build import FACTS, config_of, opened
from aligner.building import output
out = Path(sys.argv[1])
with opened(out) as build:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    output.write(config_of(out), *build, FACTS)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


def written(out: Path, **changed: object) -> dict[str, bytes]:
    """The data set of the store that is in a folder."""
    with opened(out) as build:
        return bytes_of(output.write(config_of(out, **changed), *build, FACTS))


def rows_of(folder: Path, split: str = "train", ending: str = "jsonl") -> list[dict[str, object]]:
    """The rows of a split, from all its shards."""
    paths = sorted(folder.glob(f"{split}-*.{ending}"))
    return [row.data for path in paths for row in read_rows(path, bad_rows=StopAtBadRow())]


def test_same_store_same_bytes(tmp_path: Path) -> None:
    """A data set depends on nothing but what the store holds: not on its folder, the order of writing, or the time."""
    found: list[dict[str, bytes]] = []
    for name, backwards in (("one", False), ("another", True)):
        with built(tmp_path / name, backwards=backwards) as build:
            found.append(bytes_of(output.write(config_of(tmp_path / name), *build, FACTS)))
    time.sleep(1.1)
    assert written(tmp_path / "one") == found[0]
    assert found[0] == found[1]
    assert {"manifest.json", "README.md", "funnel.svg", "dropped.jsonl", "exports/trl.jsonl"} <= found[0].keys()


@pytest.mark.parametrize("size", [3, 5, 100])
def test_shards_hold_every_row_once(tmp_path: Path, size: int) -> None:
    """The shards of a split have at most so many rows, are named by their number, and together hold each row once."""
    with built(tmp_path) as build:
        folder = output.write(config_of(tmp_path, rows_per_shard=size), *build, FACTS)
        expected = {
            split: [row.id for row in build.store.checked() if row.split == split] for split in ("train", "validation")
        }
    for split, ids in expected.items():
        for ending in ("jsonl", "parquet"):
            assert [row["id"] for row in rows_of(folder, split, ending)] == ids
            shards = -(-len(ids) // size)
            names = {f"{split}-{number:05d}-of-{shards:05d}.{ending}" for number in range(shards)}
            assert {path.name for path in folder.glob(f"{split}-*.{ending}")} == names
    assert not list(folder.glob("test-*"))


def test_parquet_and_jsonl_say_the_same(tmp_path: Path) -> None:
    """A row of Parquet is its row of JSONL, but absent columns are null and objects are JSON; it says its schema."""
    with built(tmp_path) as build:
        folder = output.write(config_of(tmp_path), *build, FACTS)
    lines, rows = rows_of(folder), rows_of(folder, ending="parquet")
    for line, row in zip(lines, rows, strict=True):
        flat = {
            name: orjson.dumps(value).decode() if isinstance(value, dict) else value for name, value in line.items()
        }
        assert {**dict.fromkeys(row), **flat} == row
    for path in folder.glob("*.parquet"):
        assert pq.read_schema(path).metadata[b"aligner.schema"] == SCHEMA.encode()


def test_rows_are_triples(tmp_path: Path) -> None:
    """Every row is read as the triple that was checked, with where its three texts came from, and no folder's name."""
    with built(tmp_path) as build:
        folder = output.write(config_of(tmp_path), *build, FACTS)
        checked = {row.id: row for row in build.store.checked()}
    for row in (*rows_of(folder), *rows_of(folder, "validation", "parquet")):
        triple, told = triple_of(row), checked[str(row["id"])]
        assert (triple.question, triple.answer, triple.correction) == (told.question, told.answer, told.correction)
        assert triple.sources == (told.facts["source"], told.facts["upstream"], "editor")
        assert "/" not in str(row["place"])


_TEXT = st.text(min_size=1).filter(str.strip)


@given(texts=st.lists(st.tuples(_TEXT, _TEXT, _TEXT), min_size=1, max_size=5))
def test_any_text_comes_out_as_it_went_in(
    tmp_path_factory: pytest.TempPathFactory, texts: list[tuple[str, str, str]]
) -> None:
    """Whatever the three texts are, both kinds of files give them back byte for byte."""
    out = tmp_path_factory.mktemp("any")
    rows = {
        id_of("row", number): replace(checked_of(1), id=id_of("row", number), question=q, answer=a, correction=c)
        for number, (q, a, c) in enumerate(texts)
    }
    with opened(out) as build:
        build.store.add_checked(rows.values())
        folder = output._made(out / "files")  # noqa: SLF001  # the funnel of rows from nowhere would not add up
        output._write_rows(config_of(out), build.store, folder)  # noqa: SLF001
    for ending in ("jsonl", "parquet"):
        found = {str(row["id"]): row for row in rows_of(folder, ending=ending)}
        for id_, row in rows.items():
            assert [found[id_][name] for name in ("question", "answer", "correction")] == [
                row.question,
                row.answer,
                row.correction,
            ]


def test_training_takes_the_file_as_it_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`aligner train` plans with a shard of the data set, JSONL or Parquet, and counts its rows."""
    with built(tmp_path) as build:
        folder = output.write(config_of(tmp_path), *build, FACTS)
    for ending in ("jsonl", "parquet"):
        shard = folder / f"train-00000-of-00001.{ending}"
        words = ["train", str(shard), "--out", "none", "--plan", "--device", "cpu", "--held-out", "2"]
        assert main(words) == 0
        assert "10" in capsys.readouterr().out


def test_dropped_rows_are_named(tmp_path: Path) -> None:
    """`dropped.jsonl` has every row that was dropped, with its stage and reason, as often as the funnel counts it."""
    with built(tmp_path) as build:
        folder = output.write(config_of(tmp_path), *build, FACTS)
        told = [{n: v for n, v in row._asdict().items() if v or n == "detail"} for row in build.store.dropped()]
    assert [row.data for row in read_rows(folder / "dropped.jsonl", bad_rows=StopAtBadRow())] == told
    assert len(told) == 2 + 2 + 2 + 2 + 2


def test_store_without_triples(tmp_path: Path) -> None:
    """A build of which nothing is left still says where it all went."""
    with opened(tmp_path) as build:
        folder = output.write(config_of(tmp_path), *build, {})
    assert rows_of(folder) == rows_of(folder, ending="parquet") == []
    assert (folder / "README.md").is_file()


def test_failure_leaves_what_was_there(tmp_path: Path) -> None:
    """Where a data set cannot be written, the old one stays as it was, and nothing half-made stays beside it."""
    with built(tmp_path) as build:
        before = bytes_of(output.write(config_of(tmp_path), *build, FACTS))
        odd: Checked = replace(checked_of(1), id="odd", facts={"source": ["a", {"list": 1}]})
        build.store.add_checked([odd])
        with pytest.raises(OutputFileError, match="source"):
            output.write(config_of(tmp_path), *build, FACTS)
    assert bytes_of(tmp_path / "dataset") == before
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith("dataset")] == ["dataset"]


def test_one_writer_at_a_time(tmp_path: Path) -> None:
    """While one process writes a data set, another is told so in one line."""
    with built(tmp_path) as build:
        handle = os.open(tmp_path, os.O_RDONLY)
        fcntl.flock(handle, fcntl.LOCK_EX)
        with pytest.raises(MisuseError, match="another process is writing it"):
            output.write(config_of(tmp_path), *build, FACTS)
        os.close(handle)
        output.write(config_of(tmp_path), *build, FACTS)


def test_replacement_that_was_cut_short_is_undone(tmp_path: Path) -> None:
    """Where a kill fell between two renamings, the next run finds the old data set under its other name."""
    with built(tmp_path) as build:
        before = bytes_of(output.write(config_of(tmp_path), *build, FACTS))
        (tmp_path / "dataset").rename(tmp_path / "dataset.old")
        (tmp_path / "dataset.writing").mkdir()
        build.store.add_checked([replace(checked_of(1), id="odd", facts={"source": ["a", {"list": 1}]})])
        with pytest.raises(OutputFileError):
            output.write(config_of(tmp_path), *build, FACTS)
    assert bytes_of(tmp_path / "dataset") == before


@pytest.mark.slow
def test_killed_writer_leaves_one_data_set(tmp_path: Path) -> None:
    """`kill -9` at any moment of writing leaves the old data set or the new one, whole, and the next run ends well."""
    with built(tmp_path):
        pass
    wholes = [written(tmp_path, rows_per_shard=size) for size in (2, 4)]
    chance, cut_short = random.Random(8), 0
    for _ in range(10):
        _kill_writing(tmp_path, after=chance.uniform(0.0, 0.6))
        assert bytes_of(tmp_path / "dataset") in wholes
        cut_short += (tmp_path / "dataset.writing").exists()
    assert cut_short > 0
    assert written(tmp_path, rows_per_shard=2) == wholes[0]
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith("dataset")] == ["dataset"]


def _kill_writing(out: Path, *, after: float) -> None:
    """Write one data set after another in a process of its own, and kill it so many seconds after it began."""
    with _started(_KILLED, out) as process:
        assert process.stdout
        assert process.stdout.readline() == b"begun\n"
        time.sleep(after)
        process.send_signal(signal.SIGKILL)


def _started(program: str, *words: object) -> "subprocess.Popen[bytes]":
    path = os.pathsep.join(map(str, (_SOURCES, _TESTS)))
    command = [sys.executable, "-c", program, *map(str, words)]
    return subprocess.Popen(command, env={**os.environ, "PYTHONPATH": path}, stdout=subprocess.PIPE)


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_rows_are_streamed(tmp_path: Path) -> None:
    """200,000 rows in all formats take less than 300 MB more than none; the rows themselves would take more."""
    with opened(tmp_path, {**NOTHING, "sources": {"hh": {"rows": 200_000, "answers": 0}}}) as build:
        many(build, 200_000)
    with _started(_MANY, tmp_path) as process:
        assert process.stdout
        said = process.stdout.read()
    assert process.returncode == 0
    kilobytes = int(said)
    assert len(list((tmp_path / "dataset").glob("train-*-of-00002.parquet"))) == 2
    assert kilobytes < 300 * 1024
