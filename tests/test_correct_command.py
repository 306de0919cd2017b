"""Laws of `aligner correct`: every row comes back, with its correction, or the reason is one clear line."""

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import tiny_aligner, tiny_model

from aligner.cli import main
from aligner.correct import Aligner
from aligner.files import read_rows, write_rows
from aligner.files.bad_rows import StopAtBadRow

Rows = list[dict[str, object]]
ROWS: Rows = [
    {"question": "Capital of France?", "answer": "It is Lyon.", "id": 7, "model": {"name": "m", "of": [1, None]}},
    {"question": "And é?\u2028", "answer": "🙂 no change\r\n", "id": 8, "model": {"name": "n", "of": []}},
    {"question": "Where is Lyon?", "answer": "Lyon is in Lyon.", "id": 7, "model": {"name": "m", "of": [3]}},
]
ALIGNED = ["It is Paris.", "🙂 no change\r\n", "Paris is in Paris."]
RULES = json.dumps([{"pattern": "Lyon", "replace": "Paris"}, {"pattern": "(?s)nothing.*", "replace": ""}])


@pytest.fixture
def rules(tmp_path: Path) -> str:
    (tmp_path / "rules.json").write_text(RULES)
    return f"rules:{tmp_path / 'rules.json'}"


def rows_of(path: Path) -> Rows:
    """All rows of a file."""
    return [row.data for row in read_rows(path, bad_rows=StopAtBadRow())]


def correct(*arguments: object) -> int:
    """The command, in this process."""
    return main(["correct", *map(str, arguments)])


def command(*arguments: object, given: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    """The command, in a process of its own."""
    whole = [sys.executable, "-m", "aligner", "correct", *map(str, arguments)]
    return subprocess.run(whole, input=given, capture_output=True, check=False)


def corrected(rows: Sequence[Mapping[str, object]], texts: Sequence[str]) -> Rows:
    """What should become of rows."""
    return [
        {**row, "correction": text, "changed": text != row["answer"], "kept_reason": None}
        for row, text in zip(rows, texts, strict=True)
    ]


def last_line(capsys: pytest.CaptureFixture[str]) -> str:
    """The last line on standard error, which has no traceback."""
    err = capsys.readouterr().err
    assert "Traceback" not in err
    assert sum(line.startswith("aligner: ") for line in err.splitlines()) <= 1
    return err.splitlines()[-1]


@pytest.mark.parametrize("out", ["out.jsonl", "out.jsonl.gz", "out.parquet"])
@pytest.mark.parametrize("source", ["in.jsonl", "in.jsonl.gz", "in.parquet"])
def test_every_row_comes_back_with_its_correction(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], rules: str, source: str, out: str
) -> None:
    """From any kind of file to any other: all fields and the order survive, and nothing is left beside the output."""
    write_rows(tmp_path / source, ROWS)
    assert correct(tmp_path / source, "--aligner", rules, "--out", tmp_path / out) == 0
    assert rows_of(tmp_path / out) == corrected(ROWS, ALIGNED)
    assert last_line(capsys) == f"{tmp_path / out}: 2 changed, 1 unchanged"
    assert {path.name for path in tmp_path.iterdir()} == {source, out, "rules.json"}


@given(texts=st.lists(st.tuples(st.text(), st.text()), min_size=1, max_size=70))
@settings(max_examples=15)
def test_the_command_corrects_as_the_aligner_does(
    tmp_path_factory: pytest.TempPathFactory, texts: list[tuple[str, str]]
) -> None:
    """Row by row it is what `Aligner.correct` gives, over batches and windows."""
    folder = tmp_path_factory.mktemp("many")
    (folder / "rules.json").write_text(json.dumps([{"pattern": "[a-z]+", "replace": "x"}]))
    rows: Rows = [{"question": f"q{question}", "answer": f"a{answer}"} for question, answer in texts]
    write_rows(folder / "in.jsonl", rows)
    name = f"rules:{folder / 'rules.json'}"
    assert correct(folder / "in.jsonl", "--aligner", name, "--out", folder / "out.jsonl", "--batch", 2) == 0
    aligner = Aligner.from_pretrained(name)
    texts_alone = [aligner.correct(str(row["question"]), str(row["answer"])).text for row in rows]
    assert rows_of(folder / "out.jsonl") == corrected(rows, texts_alone)


def test_a_conversation_may_be_the_question(tmp_path: Path, rules: str) -> None:
    """A row may have `messages` in the place of a question."""
    row: dict[str, object] = {"messages": [{"role": "user", "content": "Capital?"}], "answer": "Lyon"}
    write_rows(tmp_path / "in.jsonl", [row])
    assert correct(tmp_path / "in.jsonl", "--aligner", rules, "--out", tmp_path / "out.jsonl") == 0
    assert rows_of(tmp_path / "out.jsonl") == corrected([row], ["Paris"])


def test_a_kept_answer_says_why_in_its_row(tmp_path: Path, capsys: pytest.CaptureFixture[str], rules: str) -> None:
    """Where the correction came out empty, the row has the answer and the reason, and the summary counts it."""
    row: dict[str, object] = {"question": "What is left?", "answer": "nothing at all"}
    write_rows(tmp_path / "in.jsonl", [row])
    assert correct(tmp_path / "in.jsonl", "--aligner", rules, "--out", tmp_path / "out.jsonl") == 0
    reason = "the correction was empty"
    expected = {**row, "correction": "nothing at all", "changed": False, "kept_reason": reason}
    assert rows_of(tmp_path / "out.jsonl") == [expected]
    assert last_line(capsys) == f"{tmp_path / 'out.jsonl'}: 1 kept ({reason})"


def test_no_rows_are_no_rows(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """An empty file gives an empty file."""
    (tmp_path / "in.jsonl").touch()
    assert correct(tmp_path / "in.jsonl", "--aligner", "echo:", "--out", tmp_path / "out.jsonl") == 0
    assert (tmp_path / "out.jsonl").read_bytes() == b""
    assert last_line(capsys) == f"{tmp_path / 'out.jsonl'}: no answers"


def test_it_stands_in_a_pipe(rules: str) -> None:
    """From standard input to standard output there are only rows, and what is said goes to standard error."""
    given = b"".join(orjson.dumps(row) + b"\n" for row in ROWS)
    result = command("-", "--aligner", rules, "--out", "-", given=given)
    assert [orjson.loads(line) for line in result.stdout.splitlines()] == corrected(ROWS, ALIGNED)
    assert result.stderr.decode().splitlines()[-1] == "stdout: 2 changed, 1 unchanged"
    assert result.returncode == 0


def test_a_bad_row_in_a_pipe_names_its_line(rules: str) -> None:
    """Standard input is named as such."""
    result = command("-", "--aligner", rules, "--out", "-", given=b'{"question": "q"}\n')
    assert result.stderr.decode().splitlines()[-1] == 'aligner: stdin:1: no "answer"'
    assert (result.returncode, result.stdout) == (1, b"")


BAD = [
    (b'{"question": "q"}', 'no "answer"'),
    (b'{"answer": "a"}', 'no "question"'),
    (b'{"question": "q", "answer": " "}', '"answer" is empty'),
    (b'{"question": "q", "answer": 3}', '"answer" is a number, not text'),
    (b'{"question": "q", "answer": "a", "id": []}', '"id" is a list, neither text nor a whole number'),
    (b'["q", "a"]', "not a JSON object"),
    (b'{"question": "q", "answer": "a"', "invalid JSON: unexpected end of data"),
    (b'{"question": "\xff", "answer": "a"}', "invalid UTF-8: byte 15 is 0xff"),
]


@pytest.mark.parametrize(("line", "problem"), BAD, ids=[problem for _, problem in BAD])
def test_a_bad_row_stops_the_work_or_is_kept_apart(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], rules: str, line: bytes, problem: str
) -> None:
    """By default it is an error with file and line; skipped, it goes to a file beside the output and is counted."""
    good = [orjson.dumps(row) for row in ROWS]
    source, out = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    source.write_bytes(b"\n".join([good[0], line, good[1], line, good[2], b""]))
    assert correct(source, "--aligner", rules, "--out", out) == 1
    assert last_line(capsys).startswith(f"aligner: {source}:2: {problem}")
    assert not out.exists()
    assert correct(source, "--aligner", rules, "--out", out, "--on-bad-row", "skip") == 0
    assert rows_of(out) == corrected(ROWS, ALIGNED)
    skipped = rows_of(tmp_path / "out.jsonl.skipped.jsonl")
    assert [(row["file"], row["line"]) for row in skipped] == [(str(source), 2), (str(source), 4)]
    assert all(str(row["problem"]).startswith(problem) for row in skipped)
    assert last_line(capsys).startswith(f"{out}: 2 changed, 1 unchanged, 2 skipped ({problem.partition(':')[0]}")


def test_rows_before_a_bad_one_are_not_done_twice(tmp_path: Path, rules: str) -> None:
    """Once the bad row is mended, the same command goes on to the file of an undisturbed run."""
    rows: Rows = [{"question": f"q{i}", "answer": f"Lyon {i}"} for i in range(100)]
    source, out, once = (tmp_path / name for name in ("in.jsonl", "out.jsonl", "once.jsonl"))
    write_rows(source, rows)
    assert correct(source, "--aligner", rules, "--out", once, "--batch", 2) == 0
    whole = source.read_bytes()
    lines = whole.splitlines(keepends=True)
    source.write_bytes(b"".join([*lines[:70], b"{\n", *lines[71:]]))
    assert correct(source, "--aligner", rules, "--out", out, "--batch", 2) == 1
    assert len((tmp_path / "out.jsonl.partial").read_bytes().splitlines()) == 64
    source.write_bytes(whole)
    assert correct(source, "--aligner", rules, "--out", out, "--batch", 2) == 0
    assert out.read_bytes() == once.read_bytes()


def test_rows_of_another_aligner_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str], rules: str) -> None:
    """What one Aligner began, another one does not go on with, and nothing is lost."""
    source, out, partial = (tmp_path / name for name in ("in.jsonl", "out.jsonl", "out.jsonl.partial"))
    source.write_bytes(b"".join(orjson.dumps(row) + b"\n" for row in ROWS * 6) + b"{")
    assert correct(source, "--aligner", rules, "--out", out, "--batch", 1) == 1
    before = partial.read_bytes()
    assert before.count(b"\n") == 16
    last_line(capsys)
    assert correct(source, "--aligner", "echo:", "--out", out, "--batch", 1) == 2
    said = last_line(capsys)
    assert said.startswith(f"aligner: {partial}: belongs to another run (aligner was rules:")
    assert said.endswith(f", now echo:); delete it and {partial.name}.json, or choose another output")
    assert partial.read_bytes() == before


@pytest.mark.parametrize(
    ("arguments", "code", "problem"),
    [
        (["{dir}/none.jsonl", "--out", "{dir}/o.jsonl"], 2, "{dir}/none.jsonl: no such file"),
        (["{dir}", "--out", "{dir}/o.jsonl"], 2, "{dir}: is a folder, not a file"),
        (["{dir}/in.txt", "--out", "{dir}/o.jsonl"], 2, '{dir}/in.txt: unknown kind of file ".txt" (known: '),
        (["{dir}/in.jsonl"], 2, "no place for the corrections: name a file with --out, or - for standard output"),
        (["{dir}/in.jsonl", "--out", "{dir}/o.txt"], 2, '{dir}/o.txt: unknown kind of file ".txt" (known: '),
        (["{dir}/in.jsonl", "--out", "{dir}/no/o.jsonl"], 1, "{dir}/no/o.jsonl: cannot be written: there is no folder"),
        (["{dir}/in.jsonl", "--out", "{dir}"], 1, "{dir}: cannot be written: it is a folder"),
        (["{dir}/in.jsonl", "--out", "/dev/full"], 1, "/dev/full: cannot be written: No space left on device"),
        ([], 2, "name a file of answers, or both --question and --answer"),
        (["--question", "q"], 2, "name a file of answers, or both --question and --answer"),
        (["--answer", "a"], 2, "name a file of answers, or both --question and --answer"),
        (["--question", "q", "--answer", "a", "--out", "{dir}/out.jsonl"], 2, "--out is for a file of answers"),
        (["{dir}/in.jsonl", "--question", "q", "--answer", "a"], 2, "name a file of answers, or both"),
        (
            ["--question", "q", "--answer", "a", "--aligner", "ecco:"],
            2,
            'unknown kind of Aligner "ecco"; did you mean "echo"?',
        ),
        (["--question", "q", "--answer", "a", "--aligner", "{dir}/none"], 2, "{dir}/none: no such directory"),
        (["--question", "q", "--answer", "a", "--aligner", "{dir}"], 1, "{dir}: not a"),
        (["--question", "q", "--answer", "a", "--aligner", "rules:{dir}/none"], 2, "{dir}/none: no such file"),
        (["{dir}/in.jsonl", "--out", "{dir}/o.jsonl", "--on-bad-row", "ignore"], 2, 'Invalid value "ignore"'),
        (
            ["{dir}/in.jsonl", "--out", "{dir}/o.jsonl", "--batch", "many"],
            2,
            'Invalid value for --batch: unable to convert "many"',
        ),
        (["{dir}/in.jsonl", "--out", "{dir}/o.jsonl", "--batch", "0"], 2, "--batch must be at least 1, not 0"),
    ],
)
def test_what_is_wrong_is_one_clear_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], code: int, problem: str
) -> None:
    """Misuse ends with 2 and failure with 1; one line says what, where and the cure, and no output is made."""
    write_rows(tmp_path / "in.jsonl", ROWS)
    (tmp_path / "in.txt").touch()
    given = [argument.replace("{dir}", str(tmp_path)) for argument in arguments]
    assert correct(*(given if "--aligner" in given else [*given, "--aligner", "echo:"])) == code
    assert problem.replace("{dir}", str(tmp_path)) in last_line(capsys)
    assert not (tmp_path / "o.jsonl").exists()


def test_a_model_that_is_no_aligner_is_told_apart(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A checkpoint without aligner.json fails before any answer is read."""
    tiny_model(tmp_path / "model")
    capsys.readouterr()
    assert correct("--question", "q", "--answer", "a", "--aligner", tmp_path / "model") == 1
    assert last_line(capsys).startswith(f"aligner: {tmp_path / 'model'}: not an Aligner, it has no aligner.json; ")


def test_one_question_and_answer_are_shown_as_a_diff(capsys: pytest.CaptureFixture[str], rules: str) -> None:
    """What went and what came stand in brackets, and a kept answer says why; a value may begin with a hyphen."""
    assert correct("--question", "Capital?", "--answer", "- It is Lyon.", "--aligner", rules) == 0
    assert capsys.readouterr() == ("- It is [-Lyon-]{+Paris+}.\n", "")
    assert correct("--question", "Left?", "--answer", "nothing", "--aligner", rules) == 0
    assert capsys.readouterr() == ("nothing\n", "The original stays: the correction was empty.\n")


def test_a_checkpoint_corrects_a_file(tmp_path: Path) -> None:
    """A language model's corrections of a file do not depend on where the work was cut off."""
    folder = tiny_aligner(tmp_path / "aligner", context=72)
    rows: Rows = [{"question": f"Who is {i}?", "answer": f"It is {'so ' * (i % 4)}{i}."} for i in range(20)]
    source, out, partial = (tmp_path / name for name in ("in.jsonl", "out.jsonl", "out.jsonl.partial"))
    write_rows(source, rows)
    arguments = (source, "--aligner", folder, "--out", out, "--batch", 1, "--device", "cpu")
    assert correct(*arguments) == 0
    whole = out.read_bytes()
    assert [{name: row[name] for name in ("question", "answer")} for row in rows_of(out)] == rows
    assert {bool(row["kept_reason"]) for row in rows_of(out)} == {True, False}
    source.write_bytes(source.read_bytes() + b"{")
    assert correct(*arguments) == 1
    mark, lines = (tmp_path / "out.jsonl.partial.json").read_bytes(), whole.splitlines(keepends=True)
    write_rows(source, rows)
    for cut in (len(lines[0]) - 1, len(b"".join(lines[:16])) + 5, len(b"".join(lines[:19]))):
        out.unlink(missing_ok=True)
        partial.write_bytes(whole[:cut])
        (tmp_path / "out.jsonl.partial.json").write_bytes(mark)
        assert correct(*arguments) == 0
        assert out.read_bytes() == whole
