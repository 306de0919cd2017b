"""Laws of `aligner correct` in parts: the bytes of a single run, each row exactly once, and work that was done is done.

Those on Ray have four logical CPUs, whatever the machine has.
"""

import json
import os
import resource
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from random import Random

import orjson
import pytest
from tiny import tiny_aligner
from works import POISON

from aligner.cli import main
from aligner.config import CorrectConfig
from aligner.correct import PartTask, correct_part
from aligner.files import read_rows, write_rows
from aligner.files.bad_rows import StopAtBadRow
from aligner.files.resuming import ResumableRows
from aligner.sharding.merging import merge
from aligner.sharding.plan import found

RAY = ["--engine", "ray", "--workers", "4"]
ENGINES = [
    pytest.param(["--workers", "2"], id="local"),
    pytest.param(RAY, id="ray", marks=pytest.mark.slow),
]


def correct(*arguments: object) -> int:
    """The command, in this process."""
    return main(["correct", *map(str, arguments)])


def command(*arguments: object, environ: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """The command, in a process of its own."""
    whole = [sys.executable, "-m", "aligner", "correct", *map(str, arguments)]
    return subprocess.run(whole, capture_output=True, text=True, check=False, env={**os.environ, **(environ or {})})


def made(path: Path, count: int, *, bad: Sequence[int] = (), poison: dict[int, str] | None = None) -> Path:
    """A file of answers, some rows of which cannot be used, or are dangerous."""
    write_rows(
        path,
        (
            {"question": f"Who is {i}?", "answer": f"Lyon {i} é{(poison or {}).get(i, '')} {'la ' * (i % 7)}"}
            for i in range(count)
        ),
    )
    if bad:
        lines = path.read_bytes().splitlines(keepends=True)
        for place in bad:
            lines[place] = b'{"question": "no answer"}\n'
        path.write_bytes(b"".join(lines))
    return path


def rows_of(path: Path) -> list[dict[str, object]]:
    """All rows of a file."""
    return [row.data for row in read_rows(path, bad_rows=StopAtBadRow())]


@pytest.fixture
def rules(tmp_path: Path) -> str:
    (tmp_path / "rules.json").write_text(json.dumps([{"pattern": "Lyon", "replace": "Paris"}]))
    return f"rules:{tmp_path / 'rules.json'}"


@pytest.fixture
def poisoned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """An Aligner under which some rows raise, and others end their process."""
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(POISON)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path / "site"), os.environ.get("PYTHONPATH", "")]))
    return "poisoned:"


def seconds_of_children() -> float:
    """What processes that have ended took of the CPU: a busy machine is no reason for a law to fail."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def last(told: str) -> str:
    """The last line of what was told, which holds no traceback."""
    assert "Traceback" not in told
    return told.splitlines()[-1]


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(("source", "out"), [("in.jsonl", "out.jsonl.gz"), ("in.parquet", "out.jsonl")])
def test_parts_have_the_bytes_of_a_single_run(
    tmp_path: Path, rules: str, engine: list[str], source: str, out: str
) -> None:
    """Output, skipped rows and what is said at the end are the same; nothing but the manifest stays beside it."""
    bad = Random(3).sample(range(500), 17) if source.endswith("l") else []
    answers = made(tmp_path / source, 500, bad=bad)
    options = [answers, "--aligner", rules, "--batch", 2, "--on-bad-row", "skip"]
    (tmp_path / "one").mkdir()
    (tmp_path / "parts").mkdir()
    once = command(*options, "--out", tmp_path / "one" / out)
    again = command(*options, "--out", tmp_path / "parts" / out, "--shards", 5, *engine)
    assert (once.returncode, again.returncode) == (0, 0), again.stderr
    assert last(again.stderr).split(": ")[1] == last(once.stderr).split(": ")[1]
    files = {path.name: path.read_bytes() for path in (tmp_path / "parts").iterdir() if path.is_file()}
    assert files == {path.name: path.read_bytes() for path in (tmp_path / "one").iterdir()}
    assert {path.name for path in (tmp_path / "parts" / f"{out}.parts").iterdir()} == {"manifest.json", "lock"}


@pytest.mark.slow
@pytest.mark.parametrize("engine", ENGINES)
def test_a_language_model_in_parts_writes_the_bytes_of_a_single_run(tmp_path: Path, engine: list[str]) -> None:
    """Parts are cut between windows, so the same answers share their passes, and each gets the same correction."""
    folder = tiny_aligner(tmp_path / "aligner", context=72)
    answers = made(tmp_path / "in.jsonl", 150)
    options = [answers, "--aligner", folder, "--batch", 2, "--device", "cpu"]
    assert command(*options, "--out", tmp_path / "one.jsonl").returncode == 0
    done = command(*options, "--out", tmp_path / "parts.jsonl", "--shards", 3, *engine)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "parts.jsonl").read_bytes() == (tmp_path / "one.jsonl").read_bytes()


@pytest.mark.slow
def test_the_shipped_aligner_in_parts_writes_the_bytes_of_a_single_run(tmp_path: Path) -> None:
    """The same with the checkpoint that comes with the package, whose answers are decoded together."""
    answers = made(tmp_path / "in.jsonl", 100)
    options = [answers, "--batch", 2, "--device", "cpu"]
    assert command(*options, "--out", tmp_path / "one.jsonl").returncode == 0
    assert command(*options, "--out", tmp_path / "parts.jsonl", "--workers", 2, "--shards", 3).returncode == 0
    assert (tmp_path / "parts.jsonl").read_bytes() == (tmp_path / "one.jsonl").read_bytes()


def test_jobs_of_an_array_make_one_file(tmp_path: Path, capsys: pytest.CaptureFixture[str], rules: str) -> None:
    """`--shard i/N` in any order: the last to end makes the file of a single run, and each says how many are left."""
    answers = made(tmp_path / "in.jsonl", 300, bad=[0, 40, 299])
    options = [answers, "--aligner", rules, "--batch", 1, "--on-bad-row", "skip"]
    assert correct(*options, "--out", tmp_path / "one.jsonl") == 0
    out = tmp_path / "out.jsonl"
    for left, i in zip((3, 2, 1), (3, 0, 2), strict=True):
        assert correct(*options, "--out", out, "--shard", f"{i}/4") == 0
        assert last(capsys.readouterr().err).endswith(f"; {left} of 4 parts are left")
        assert not out.exists()
    assert correct(*options, "--out", out, "--shard", "1/4") == 0
    assert last(capsys.readouterr().err) == f'{out}: 297 changed, 3 skipped (no "answer")'
    assert out.read_bytes() == (tmp_path / "one.jsonl").read_bytes()
    skipped = [Path(f"{path}.skipped.jsonl").read_bytes() for path in (out, tmp_path / "one.jsonl")]
    assert skipped[0] == skipped[1]
    assert correct(*options, "--out", out, "--shard", "2/4") == 0
    assert last(capsys.readouterr().err) == f'{out}: 297 changed, 3 skipped (no "answer")'


def test_a_job_whose_part_is_merged_by_another_says_what_came_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where two end together, one makes the file while the other looks: all parts are gone, and none is left to do."""
    out = tmp_path / "out.jsonl"
    options = [made(tmp_path / "in.jsonl", 60), "--aligner", "echo:", "--batch", 1, "--out", out, "--shard"]
    assert correct(*options, "0/2") == 0
    finishing = ResumableRows.finish

    def finish(writer: ResumableRows) -> None:
        finishing(writer)
        plan = found(out)
        assert plan
        merge(plan)

    monkeypatch.setattr(ResumableRows, "finish", finish)
    assert correct(*options, "1/2") == 0
    assert last(capsys.readouterr().err) == f"{out}: 60 unchanged"
    assert correct_part(PartTask(CorrectConfig(out=out), 1)) == {}


def test_jobs_of_an_array_may_run_at_once(tmp_path: Path, rules: str) -> None:
    """Eight processes that begin together plan once, and one makes the file; there may be more parts than windows."""
    answers = made(tmp_path / "in.jsonl", 100)
    options = [str(answers), "--aligner", rules, "--batch", "1"]
    assert correct(*options, "--out", tmp_path / "one.jsonl") == 0
    program = [sys.executable, "-m", "aligner", "correct", *options, "--out", str(tmp_path / "out.jsonl")]
    jobs = [subprocess.Popen([*program, "--shard", f"{i}/8"], stderr=subprocess.DEVNULL) for i in range(8)]
    assert [job.wait() for job in jobs] == [0] * 8
    assert (tmp_path / "out.jsonl").read_bytes() == (tmp_path / "one.jsonl").read_bytes()


def test_no_rows_in_parts_are_no_rows(tmp_path: Path, rules: str) -> None:
    """An empty file, or one of bad rows alone, gives an empty file and keeps the bad rows apart."""
    answers = made(tmp_path / "in.jsonl", 3, bad=[0, 1, 2])
    options = [answers, "--aligner", rules, "--on-bad-row", "skip", "--out", tmp_path / "out.jsonl"]
    assert correct(*options, "--shards", 2, "--workers", 1) == 0
    assert (tmp_path / "out.jsonl").read_bytes() == b""
    assert [row["line"] for row in rows_of(tmp_path / "out.jsonl.skipped.jsonl")] == [1, 2, 3]


@pytest.mark.parametrize("engine", [["--workers", "2"], RAY, ["--shard", "0/1"]], ids=["local", "ray", "array"])
def test_a_finished_job_again_does_nothing(tmp_path: Path, rules: str, engine: list[str]) -> None:
    """Within ten seconds, without Ray or PyTorch, and without a change to any file; it says what came out."""
    options = [made(tmp_path / "in.jsonl", 100), "--aligner", rules, "--batch", 1, "--out", tmp_path / "out.jsonl"]
    assert command(*options, "--shard", "0/1").returncode == 0
    (tmp_path / "site").mkdir()
    for name in ("ray", "torch"):
        (tmp_path / "site" / f"{name}.py").write_text("raise SystemExit('it was imported')")
    path = os.pathsep.join([str(tmp_path / "site"), os.environ.get("PYTHONPATH", "")])
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()}
    began = seconds_of_children()
    again = command(*options, *engine, environ={"PYTHONPATH": path})
    assert seconds_of_children() - began < 10
    assert (again.returncode, last(again.stderr)) == (0, f"{tmp_path / 'out.jsonl'}: 100 changed")
    after = {path: path.stat().st_mtime_ns for path in before}
    assert {path: when for path, when in after.items() if path.name != "lock"} == {
        path: when for path, when in before.items() if path.name != "lock"
    }


def test_a_finished_job_whose_output_is_gone_is_done_again(tmp_path: Path, rules: str) -> None:
    """The manifest alone is not the work; and other answers are another job, once the one before is finished."""
    answers, out = made(tmp_path / "in.jsonl", 40), tmp_path / "out.jsonl"
    options = [answers, "--aligner", rules, "--batch", 1, "--shard", "0/1", "--out", out]
    assert correct(*options) == 0
    whole = out.read_bytes()
    out.unlink()
    assert correct(*options) == 0
    assert out.read_bytes() == whole
    made(answers, 50)
    assert correct(*options) == 0
    assert len(rows_of(out)) == 50


def test_parts_of_another_job_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str], rules: str) -> None:
    """While a job is unfinished, other answers, another Aligner or another number of parts do not mix with it."""
    answers, out = made(tmp_path / "in.jsonl", 40), tmp_path / "out.jsonl"
    options = [answers, "--batch", 1, "--out", out]
    assert correct(*options, "--aligner", rules, "--shard", "0/2") == 0
    capsys.readouterr()
    for change, said in [
        (["--aligner", "echo:", "--shard", "1/2"], "aligner was rules:"),
        (["--aligner", rules, "--shard", "1/3"], "the job was begun in 2 parts, not in 3"),
        (["--aligner", rules, "--shard", "1/2", "--on-bad-row", "skip"], "on_bad_row was stop, now skip"),
    ]:
        assert correct(*options, *change) == 2
        line = last(capsys.readouterr().err)
        assert said in line
        assert line.endswith(f"delete {out}.parts, or choose another output")
    made(answers, 41)
    assert correct(*options, "--aligner", rules, "--shard", "1/2") == 2
    assert "answers was" in last(capsys.readouterr().err)


@pytest.mark.parametrize("engine", ENGINES)
def test_a_bad_row_stops_all_parts_before_they_begin(tmp_path: Path, rules: str, engine: list[str]) -> None:
    """Unless bad rows are skipped, the line names it as a single run does, and no part is there."""
    answers = made(tmp_path / "in.jsonl", 100, bad=[70])
    done = command(answers, "--aligner", rules, "--batch", 1, "--out", tmp_path / "out.jsonl", *engine)
    assert (done.returncode, last(done.stderr)) == (1, f'aligner: {answers}:71: no "answer"')
    assert not list(tmp_path.rglob("part-*"))


@pytest.mark.parametrize("engine", [pytest.param([], id="single"), *ENGINES])
def test_a_row_whose_correction_fails_keeps_its_answer(tmp_path: Path, poisoned: str, engine: list[str]) -> None:
    """With `skip` it comes back with the reason, and all others with their corrections; by default the run stops."""
    answers = made(tmp_path / "in.jsonl", 200, poison={5: "RAISE", 77: "RAISE"})
    options = [answers, "--aligner", poisoned, "--batch", 1, "--out", tmp_path / "out.jsonl", *engine]
    stopped = command(*options)
    assert stopped.returncode == 1
    assert f"{answers}:6: the correction failed: ValueError at sitecustomize.py:" in last(stopped.stderr)
    for path in tmp_path.glob("out.jsonl.*/*"):
        path.unlink()
    done = command(*options, "--on-bad-row", "skip")
    assert done.returncode == 0, done.stderr
    rows = rows_of(tmp_path / "out.jsonl")
    assert [row["answer"] for row in rows] == [row["answer"] for row in rows_of(answers)]
    assert [row["correction"] for row in rows] == [row["answer"] for row in rows]
    reasons = {i: str(row["kept_reason"]) for i, row in enumerate(rows) if row["kept_reason"]}
    assert reasons.keys() == {5, 77}
    assert all(reason.startswith("the correction failed: ValueError at ") for reason in reasons.values())
    assert last(done.stderr).startswith(f"{tmp_path / 'out.jsonl'}: 2 kept (the correction failed: ValueError at ")


@pytest.mark.parametrize("engine", ENGINES)
def test_a_row_that_ends_its_process_does_not_end_the_job(tmp_path: Path, poisoned: str, engine: list[str]) -> None:
    """The part is begun again, its rows are tried one by one, and the deadly ones keep their answers and say so."""
    answers = made(tmp_path / "in.jsonl", 120, poison={20: "DIE", 21: "DIE", 100: "DIE", 101: "RAISE"})
    options = [answers, "--aligner", poisoned, "--batch", 1, "--out", tmp_path / "out.jsonl", "--shards", 3]
    done = command(*options, *engine, "--on-bad-row", "skip")
    assert done.returncode == 0, done.stderr
    rows = rows_of(tmp_path / "out.jsonl")
    assert [row["answer"] for row in rows] == [row["answer"] for row in rows_of(answers)]
    reasons = {i: str(row["kept_reason"]) for i, row in enumerate(rows) if row["kept_reason"]}
    assert {i for i, reason in reasons.items() if reason == "the correction ended its process"} == {20, 21, 100}
    assert reasons.keys() == {20, 21, 100, 101}


def test_where_every_row_fails_it_is_not_the_rows(tmp_path: Path, poisoned: str) -> None:
    """A window of which no row can be corrected ends the run, even where bad rows are skipped."""
    answers = made(tmp_path / "in.jsonl", 30, poison=dict.fromkeys(range(30), "RAISE"))
    options = [answers, "--aligner", poisoned, "--batch", 1, "--out", tmp_path / "out.jsonl", "--workers", 1]
    done = command(*options, "--on-bad-row", "skip")
    assert done.returncode == 1
    assert "part 0 of 1: ValueError at sitecustomize.py:" in last(done.stderr)


@pytest.mark.parametrize(
    ("arguments", "code", "problem"),
    [
        (["-", "--out", "{dir}/o.jsonl"], 2, "-: a stream cannot be read in parts"),
        (["{dir}/in.json", "--out", "{dir}/o.jsonl"], 2, "{dir}/in.json: a .json file is read whole"),
        (["{dir}/in.jsonl", "--out", "-"], 2, "parts are made into one file: name it with --out"),
        (["{dir}/none.jsonl", "--out", "{dir}/o.jsonl"], 2, "{dir}/none.jsonl: no such file"),
        (["{dir}/in.jsonl", "--out", "{dir}/o.txt"], 2, '{dir}/o.txt: unknown kind of file ".txt"'),
        (["{dir}/in.jsonl", "--out", "{dir}/no/o.jsonl"], 1, "{dir}/no/o.jsonl: cannot be written: "),
        (["{dir}/in.jsonl", "--out", "{dir}/o.jsonl", "--aligner", "ecco:"], 2, 'unknown kind of Aligner "ecco"'),
        (["{dir}/in.jsonl", "--out", "{dir}/o.jsonl", "--shards", "-2"], 2, "--shards must be at least 1"),
        (["{dir}/in.jsonl", "--out", "{dir}/o.jsonl", "--shard", "2/2"], 2, "--shard is i/N with i from 0 to N-1"),
        (["{dir}/in.jsonl", "--out", "{dir}/o.jsonl", "--engine", "dask"], 2, 'Invalid value "dask" for --engine'),
    ],
)
def test_what_is_wrong_with_parts_is_one_clear_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], code: int, problem: str
) -> None:
    """Misuse ends with 2 and failure with 1, before or behind the parts, and no output is made."""
    made(tmp_path / "in.jsonl", 3)
    (tmp_path / "in.json").write_text("[]")
    given = [argument.replace("{dir}", str(tmp_path)) for argument in arguments]
    given = given if "--aligner" in given else [*given, "--aligner", "echo:"]
    assert correct(*given, *([] if "--shard" in given else ["--workers", "1"])) == code
    assert problem.replace("{dir}", str(tmp_path)) in last(capsys.readouterr().err)
    assert not (tmp_path / "o.jsonl").exists()


SMALL_DISK = """
set -u
mount -t tmpfs -o size=100k tmpfs "$1"; cd "$2"; shift 2
"$@"; echo "first $?"
mount -o remount,size=50m tmpfs "$DISK"
"$@"; echo "second $?"
mount -o remount,ro "$DISK"
rm -f nothing; cp -r "$DISK" "$KEPT"
"$@" --on-bad-row skip; echo "third $?"
"""


@pytest.mark.parametrize("engine", ENGINES)
def test_a_full_disk_or_a_read_only_target_says_so(tmp_path: Path, rules: str, engine: list[str]) -> None:
    """It is one line that names the output; with room again the same command ends with the bytes of a single run."""
    apart = ["unshare", "--mount"]
    if os.geteuid() != 0 or subprocess.run([*apart, "mount", "-t", "tmpfs", "tmpfs", "/mnt"], check=False).returncode:
        pytest.skip("mounting is not allowed here")
    answers, disk, kept = made(tmp_path / "in.jsonl", 1200), tmp_path / "disk", tmp_path / "kept"
    disk.mkdir()
    assert correct(answers, "--aligner", rules, "--batch", 1, "--out", tmp_path / "one.jsonl") == 0
    program = [sys.executable, "-m", "aligner", "correct", str(answers), "--aligner", rules, "--batch", "1"]
    program += ["--out", str(disk / "out.jsonl"), "--shards", "4", *engine]
    whole = [*apart, "sh", "-c", SMALL_DISK, "sh", str(disk), str(tmp_path), *program]
    environ = {**os.environ, "DISK": str(disk), "KEPT": str(kept)}
    done = subprocess.run(whole, capture_output=True, text=True, check=False, env=environ)
    assert done.stdout.split() == ["first", "1", "second", "0", "third", "1"], done.stderr
    lines = [line for line in done.stderr.splitlines() if line.startswith("aligner: ")]
    assert len(lines) == 2
    assert "cannot be written: No space left on device" in lines[0]
    assert "cannot be written: Read-only file system" in lines[1]
    assert (kept / "out.jsonl").read_bytes() == (tmp_path / "one.jsonl").read_bytes()


def test_ray_that_is_not_there_is_named(tmp_path: Path, rules: str) -> None:
    """Without the extra, or without a cluster at the address, one line says what to do."""
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "ray.py").write_text("raise ImportError('none')")
    options = [made(tmp_path / "in.jsonl", 3), "--aligner", rules, "--out", tmp_path / "out.jsonl", "--engine", "ray"]
    path = os.pathsep.join([str(tmp_path / "site"), os.environ.get("PYTHONPATH", "")])
    without = command(*options, environ={"PYTHONPATH": path})
    assert without.returncode == 1
    assert last(without.stderr) == 'aligner: --engine ray needs Ray: pip install "aligner-llm[ray]"'
    nowhere = command(*options, "--ray-address", "127.0.0.1:1")
    assert nowhere.returncode == 2
    assert last(nowhere.stderr).startswith("aligner: --ray-address 127.0.0.1:1: no cluster of Ray answers there: ")


def test_the_manifest_says_what_came_out(tmp_path: Path, rules: str) -> None:
    """The parts' rows add up to those of the file, and the job is named by what decides about it."""
    answers, out = made(tmp_path / "in.jsonl", 100, bad=[3]), tmp_path / "out.jsonl"
    options = [answers, "--aligner", rules, "--batch", 1, "--out", out, "--on-bad-row", "skip", "--instruction", ""]
    assert correct(*options, "--shards", 3, "--workers", 1) == 0
    manifest = orjson.loads((tmp_path / "out.jsonl.parts" / "manifest.json").read_bytes())
    assert [part["rows"] for part in manifest["parts"]] == [32, 32, 35]
    assert manifest["finished"] == {"counts": {"changed": 99}, "rows": 99, "skipped": {'no "answer"': 1}}
    assert manifest["job"]["aligner"] == rules
