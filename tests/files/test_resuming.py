"""Laws of long work: stopped at any moment and started again, it leaves the file of an undisturbed run."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aligner.errors import MisuseError, OutputFileError
from aligner.files import is_finished, open_rows, read_rows, write_rows
from aligner.files.bad_rows import StopAtBadRow
from aligner.files.resuming import ResumableRows, StreamedRows

RUN = {"aligner": "demo", "batch": 64}
KINDS = ["a.jsonl", "a.jsonl.gz", "a.parquet"]
ROWS: list[dict[str, object]] = [{"n": i, "text": "line\nbreak é \u2028" * (i % 3)} for i in range(20)]


def write_on(path: Path, rows: list[dict[str, object]] = ROWS) -> None:
    """Do the work from where it stands to the end."""
    with open_rows(path, RUN) as writer:
        writer.append(rows[writer.done :])
        writer.finish()


@pytest.mark.parametrize("name", KINDS)
def test_finished_file_is_the_one_that_is_written_at_once(tmp_path: Path, name: str) -> None:
    """Row by row or all at once gives the same bytes, and nothing is left beside the file."""
    (tmp_path / "once").mkdir()
    write_rows(tmp_path / "once" / name, ROWS)
    with open_rows(tmp_path / name, RUN) as writer:
        for i, row in enumerate(ROWS):
            assert writer.done == i
            assert not is_finished(tmp_path / name)
            writer.append([row])
        writer.finish()
    assert (tmp_path / name).read_bytes() == (tmp_path / "once" / name).read_bytes()
    assert is_finished(tmp_path / name)
    assert sorted(path.name for path in tmp_path.iterdir()) == [name, "once"]


@given(data=st.data())
@settings(deadline=None, max_examples=60)
def test_cut_off_at_any_byte_it_goes_on_to_the_same_file(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    """Whatever part of the rows reached the disk, whole rows count; torn ones and zeros are written again."""
    folder = tmp_path_factory.getbasetemp()
    out, partial = folder / "cut.jsonl", folder / "cut.jsonl.partial"
    with ResumableRows(out, RUN) as writer:
        writer.append(ROWS)
    whole = partial.read_bytes()
    cut = data.draw(st.integers(0, len(whole)))
    partial.write_bytes(whole[:cut] + data.draw(st.sampled_from([b"", b"\0\0\0", b"\0\n\0\n"])))
    with ResumableRows(out, RUN) as writer:
        assert writer.done == whole[:cut].count(b"\n")
        assert partial.read_bytes() == b"".join(whole.splitlines(keepends=True)[: writer.done])
    write_on(out)
    assert out.read_bytes() == whole


WORKER = """
import sys, time
from aligner.files import open_rows
with open_rows(sys.argv[1], {"work": "count"}) as writer:
    for i in range(writer.done, 400):
        writer.append([{"n": i, "text": "x" * (i % 50)}])
        time.sleep(0.0005)
    writer.finish()
"""


@pytest.mark.parametrize("name", KINDS)
def test_killed_at_random_moments_it_ends_with_the_same_bytes(tmp_path: Path, name: str) -> None:
    """`kill -9` again and again, then the same command: the bytes of an undisturbed run, and nothing beside."""
    command = [sys.executable, "-c", WORKER, tmp_path / name]
    partial = tmp_path / f"{name}.partial"
    random = Random(name)
    for _ in range(3):
        start = partial.stat().st_size if partial.exists() else 0
        enough = start + random.randrange(3000)
        process = subprocess.Popen(command)
        while process.poll() is None and (partial.stat().st_size if partial.exists() else 0) <= enough:
            time.sleep(0.001)
        process.kill()
        assert process.wait() in (-signal.SIGKILL, 0)
    subprocess.run(command, check=True)
    rows = [{"n": i, "text": "x" * (i % 50)} for i in range(400)]
    (tmp_path / "once").mkdir()
    write_rows(tmp_path / "once" / name, rows)
    assert (tmp_path / name).read_bytes() == (tmp_path / "once" / name).read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == [name, "once"]


@pytest.mark.parametrize("name", KINDS)
def test_cut_short_while_finishing_it_finishes_again(tmp_path: Path, name: str) -> None:
    """All rows there, half of the finished file made and an earlier one in its place: the same work again ends well."""
    (tmp_path / "once").mkdir()
    write_rows(tmp_path / "once" / name, ROWS)
    with ResumableRows(tmp_path / name, RUN) as writer:
        writer.append(ROWS)
    if name != "a.jsonl":  # the rows themselves become the finished file: there is no half
        (tmp_path / f"{name}.writing").write_bytes(b"half")
    (tmp_path / name).write_bytes(b"earlier")
    assert not is_finished(tmp_path / name)
    write_on(tmp_path / name)
    assert (tmp_path / name).read_bytes() == (tmp_path / "once" / name).read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == [name, "once"]


def test_syncing_changes_no_byte(tmp_path: Path) -> None:
    """However often it waits for the disk, the rows are the same."""
    for seconds in (0.0, 60.0):
        with ResumableRows(tmp_path / f"{seconds}.jsonl", RUN, sync_every=seconds) as writer:
            for row in ROWS:
                writer.append([row])
            writer.finish()
    assert (tmp_path / "0.0.jsonl").read_bytes() == (tmp_path / "60.0.jsonl").read_bytes()


def test_rows_of_another_run_are_refused_and_kept(tmp_path: Path) -> None:
    """Another run does not mix its rows with those that are there; the error says what differs and the cure."""
    out = tmp_path / "a.jsonl"
    with ResumableRows(out, RUN) as writer:
        writer.append(ROWS[:3])
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(MisuseError) as caught:
        ResumableRows(out, {"aligner": "echo:", "batch": 64})
    assert str(caught.value) == (
        f"{out}.partial: belongs to another run (aligner was demo, now echo:); "
        "delete it and a.jsonl.partial.json, or choose another output"
    )
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


@pytest.mark.parametrize("mark", [None, b"", b"{torn", b"[]"])
def test_rows_of_an_unknown_run_are_refused(tmp_path: Path, mark: bytes | None) -> None:
    """Rows are not taken for one's own when nothing says whose they are."""
    (tmp_path / "a.jsonl.partial").write_bytes(b'{"n":1}\n')
    if mark is not None:
        (tmp_path / "a.jsonl.partial.json").write_bytes(mark)
    with pytest.raises(MisuseError, match=r"belongs to another run \(nothing says which\)"):
        ResumableRows(tmp_path / "a.jsonl", RUN)
    assert (tmp_path / "a.jsonl.partial").read_bytes() == b'{"n":1}\n'


def test_run_that_wrote_nothing_stands_in_no_way(tmp_path: Path) -> None:
    """Where another run left no whole row, a new one begins."""
    with ResumableRows(tmp_path / "a.jsonl", {"aligner": "other"}):
        pass
    (tmp_path / "a.jsonl.partial").write_bytes(b'{"torn')
    write_on(tmp_path / "a.jsonl")
    assert [row.data for row in read_rows(tmp_path / "a.jsonl", bad_rows=StopAtBadRow())] == ROWS


def test_run_is_compared_as_json(tmp_path: Path) -> None:
    """What JSON writes alike, such as a tuple and a list, is the same run."""
    for run in ({"names": ("a", "b"), "n": 1}, {"n": 1, "names": ["a", "b"]}):
        with ResumableRows(tmp_path / "a.jsonl", run) as writer:
            writer.append([{"n": 1}])
    assert writer.done == 2


def test_two_processes_do_not_write_the_same_file(tmp_path: Path) -> None:
    """While one writes, another is refused, and afterwards not."""
    with ResumableRows(tmp_path / "a.jsonl", RUN) as writer:
        writer.append(ROWS[:1])
        with pytest.raises(MisuseError, match=r"a\.jsonl: another process is writing it"):
            ResumableRows(tmp_path / "a.jsonl", RUN)
    write_on(tmp_path / "a.jsonl")


def test_row_that_cannot_be_written_leaves_those_before(tmp_path: Path) -> None:
    """An error in a batch writes nothing of it, and its number is the row's in the whole file."""
    with ResumableRows(tmp_path / "a.jsonl", RUN) as writer:
        writer.append(ROWS[:3])
        with pytest.raises(OutputFileError, match=r"a\.jsonl: row 5 cannot be written as JSON"):
            writer.append([{"n": 1}, {"n": b"bytes"}])
        assert writer.done == 3
    write_on(tmp_path / "a.jsonl")
    assert [row.data for row in read_rows(tmp_path / "a.jsonl", bad_rows=StopAtBadRow())] == ROWS


def test_full_disk_keeps_the_rows_that_are_whole(tmp_path: Path) -> None:
    """When the disk is full the error says so; with room again the same work goes on behind the last whole row."""
    out = tmp_path / "a.jsonl"
    code = (
        "import resource, sys\n"
        "from aligner.errors import OutputFileError\n"
        "from aligner.files import open_rows\n"
        "hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))\n"
        "try:\n"
        "    with open_rows(sys.argv[1], {'aligner': 'demo', 'batch': 64}) as writer:\n"
        "        for i in range(400): writer.append([{'n': i}])\n"
        "except OutputFileError as error:\n"
        "    resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))\n"
        "    sys.exit(str(error))\n"
    )
    result = subprocess.run([sys.executable, "-c", code, out], capture_output=True, text=True)
    assert result.stderr == f"{out}: cannot be written: File too large\n"
    rows: list[dict[str, object]] = [{"n": i} for i in range(400)]
    with ResumableRows(out, RUN) as writer:
        assert 90 < writer.done < 120
    write_on(out, rows)
    assert [row.data for row in read_rows(out, bad_rows=StopAtBadRow())] == rows


def test_places_that_cannot_be_written_are_errors_at_once(tmp_path: Path) -> None:
    """A missing folder, a folder in the place and an unknown kind of file are found before the work begins."""
    (tmp_path / "folder.jsonl").mkdir()
    for name, error in (("none/a.jsonl", OutputFileError), ("folder.jsonl", OutputFileError), ("a.txt", MisuseError)):
        with pytest.raises(error):
            open_rows(tmp_path / name, RUN)
    assert [path.name for path in tmp_path.iterdir()] == ["folder.jsonl"]


def test_standard_output_takes_rows_as_they_come(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    """A stream has the same interface, starts at no row, and passes rows on at once."""
    with open_rows("-", RUN) as writer:
        assert isinstance(writer, StreamedRows)
        writer.append(ROWS[:2])
        assert capfdbinary.readouterr().out.count(b"\n") == 2
        writer.append([{"n": 9}])
        assert writer.done == 3
        writer.finish()
    assert capfdbinary.readouterr().out == b'{"n":9}\n'
    os.fstat(1)
    assert not is_finished("-")
