"""Laws of reading rows: every row arrives once, with its line; what is wrong is said with file and line."""

import gzip
import json
import os
import subprocess
import sys
import threading
import tracemalloc
from pathlib import Path

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aligner.errors import InputFileError, MisuseError
from aligner.files import Row, RowError, read, read_rows
from aligner.files.bad_rows import BadRow, StopAtBadRow

TEXT = st.text(st.characters(exclude_categories=["Cs"]))
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=5,
)
ROWS = st.lists(st.dictionaries(TEXT, VALUES, max_size=4), max_size=6)


class Kept:
    """A policy that keeps the bad rows in memory."""

    def __init__(self) -> None:
        self.rows: list[BadRow] = []
        self.reasons: dict[str, int] = {}

    def __call__(self, row: BadRow, /) -> None:
        """Keep it."""
        self.rows.append(row)

    def finish(self) -> None:
        """Nothing to do."""


def rows_of(path: Path) -> list[Row]:
    """All rows of a file that has no bad ones."""
    return list(read_rows(path, bad_rows=StopAtBadRow()))


def good_and_bad(path: Path) -> tuple[list[Row], list[tuple[int, str]]]:
    """The good rows of a file, and line and problem of the bad ones."""
    kept = Kept()
    rows = list(read_rows(path, bad_rows=kept))
    assert all(row.file == str(path) for row in kept.rows)
    return rows, [(row.line, row.problem) for row in kept.rows]


@given(rows=ROWS, indent=st.sampled_from([None, 0, 2]), zipped=st.booleans(), ascii_only=st.booleans())
@settings(deadline=None)
def test_json_list_gives_each_object_with_its_line(
    tmp_path_factory: pytest.TempPathFactory,
    rows: list[dict[str, object]],
    indent: int | None,
    zipped: bool,
    ascii_only: bool,
) -> None:
    """However a JSON list is laid out, its objects arrive in order, each with the line on which it starts."""
    text = json.dumps(rows, indent=indent, ensure_ascii=ascii_only)
    path = tmp_path_factory.getbasetemp() / ("list.json.gz" if zipped else "list.json")
    path.write_bytes(gzip.compress(text.encode()) if zipped else text.encode())
    found = rows_of(path)
    assert [row.data for row in found] == rows
    lines = text.split("\n")
    assert all(lines[row.line - 1].lstrip(" [").startswith("{") for row in found)
    assert [row.line for row in found] == sorted(row.line for row in found)


@given(rows=ROWS, gaps=st.lists(st.sampled_from(["\n", "\r\n", "\n\n", "\n \t\r\n"]), min_size=6, max_size=6))
@settings(deadline=None)
def test_lines_give_each_object_with_its_line(
    tmp_path_factory: pytest.TempPathFactory, rows: list[dict[str, object]], gaps: list[str]
) -> None:
    """Blank lines and CRLF change no row, and blank lines count."""
    pieces = [piece for row, gap in zip(rows, gaps, strict=False) for piece in (orjson.dumps(row), gap.encode())]
    whole = b"".join(pieces)
    lines = [1 + whole[: sum(map(len, pieces[:i]))].count(b"\n") for i in range(0, len(pieces), 2)]
    for name, data in (("a.jsonl", whole), ("a.ndjson.gz", gzip.compress(whole)), ("a.json", whole)):
        path = tmp_path_factory.getbasetemp() / name
        path.write_bytes(data)
        assert rows_of(path) == [Row(line, row) for line, row in zip(lines, rows, strict=True)]


@pytest.mark.parametrize("name", ["a.jsonl", "a.json"])
def test_byte_order_mark_is_no_part_of_the_first_row(tmp_path: Path, name: str) -> None:
    """A file that starts with a byte order mark reads as one without, a list or lines."""
    for text in ('{"a": 1}\n', '[{"a": 1}]'):
        if name == "a.json" or text.startswith("{"):
            (tmp_path / name).write_bytes(b"\xef\xbb\xbf" + text.encode())
            assert rows_of(tmp_path / name) == [Row(1, {"a": 1})]


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        (b"nope", "invalid JSON: invalid literal, expected 'null' at column 1"),
        (b'{"a": "caf\xe9"}', "invalid UTF-8: byte 11 is 0xe9"),
        (b'{"a": "\\ud800"}', "not valid Unicode: half a surrogate pair before column 8"),
        (b'{"a": NaN}', "invalid JSON: unexpected character, expected a JSON value at column 7"),
        (b"[1, 2]", "not a JSON object"),
        (b'"text"', "not a JSON object"),
        (b"[" * 5000, "invalid JSON: depth limit exceeded at column 1026"),
    ],
)
def test_only_the_line_that_is_wrong_is_bad(tmp_path: Path, line: bytes, problem: str) -> None:
    """A line that cannot be used in the middle of a file leaves the lines around it as they are."""
    path = tmp_path / "answers.jsonl"
    path.write_bytes(b'{"n": 1}\n' + line + b'\n{"n": 3}\n')
    assert good_and_bad(path) == ([Row(1, {"n": 1}), Row(3, {"n": 3})], [(2, problem)])
    with pytest.raises(InputFileError, match=r"answers\.jsonl:2: "):
        rows_of(path)


def test_raw_text_of_a_bad_line_is_kept(tmp_path: Path) -> None:
    """A line that is not UTF-8 is handed on with its wrong bytes written out, not dropped."""
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{"a": "caf\xe9"}\n')
    kept = Kept()
    assert list(read_rows(path, bad_rows=kept)) == []
    assert kept.rows[0].row == '{"a": "caf\\xe9"}'


def test_torn_last_line_is_bad_and_said_to_be_torn(tmp_path: Path) -> None:
    """A file that ends in the middle of a row says so, and a whole last row needs no newline."""
    path = tmp_path / "a.jsonl"
    path.write_text('{"n": 1}\n{"n": ')
    rows, bad = good_and_bad(path)
    assert rows == [Row(1, {"n": 1})]
    assert bad == [(2, "invalid JSON: unexpected end of data at column 6 (the file ends inside this row)")]
    path.write_text('{"n": 1}\n{"n": 2}')
    assert [row.line for row in rows_of(path)] == [1, 2]


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ('[\n{"a": 1},\n{"a": 2}\n', r"a\.json:4: invalid JSON: .* is missing"),
        ('[\n{"a": 1}\n{"a": 2}]', r"a\.json:3: invalid JSON: .* is missing"),
        ('[{"a": 1},\n{"a": nope}]', r"a\.json:2: invalid JSON: Expecting value"),
        ('[{"a": 1},]', r"a\.json:1: invalid JSON: Expecting value"),
        ('[{"a": 1}] []', r"a\.json:1: invalid JSON: something follows the list"),
        ('[{"a":\n' + "[" * 100_000, r"a\.json:1: invalid JSON: nested too deeply"),
        ("[", r"a\.json:1: invalid JSON: Expecting value"),
        ('[{"a": 1},\n{"a": "\udce9"}]', r"a\.json:2: invalid UTF-8"),
    ],
)
def test_error_in_the_syntax_of_a_list_is_final(tmp_path: Path, text: str, where: str) -> None:
    """Behind an error in a list nothing can be found, so no policy skips it: nothing is lost unseen."""
    path = tmp_path / "a.json"
    path.write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(InputFileError, match=where):
        good_and_bad(path)


def test_item_of_a_list_that_is_no_object_is_a_bad_row(tmp_path: Path) -> None:
    """An item that is no object is bad on its own line, and the others stay."""
    path = tmp_path / "a.json"
    path.write_text('[\n  {"a": 1},\n\n  7,\n  {"a":\n "\\ud800"},  {"a": 2}\n]\n')
    rows, bad = good_and_bad(path)
    assert rows == [Row(2, {"a": 1}), Row(6, {"a": 2})]
    assert [line for line, _ in bad] == [4, 5]


def test_empty_files_have_no_rows(tmp_path: Path) -> None:
    """Nothing at all, blank lines alone and an empty list are no rows and no errors."""
    for name, text in (("a.jsonl", ""), ("a.jsonl", "\n \n"), ("a.json", ""), ("a.json", " [ ] \n"), ("a.json", "\n")):
        (tmp_path / name).write_text(text)
        assert rows_of(tmp_path / name) == []


@pytest.mark.parametrize("name", ["a.jsonl.gz", "a.json.gz"])
def test_damaged_gzip_is_an_error_behind_the_rows_that_are_whole(tmp_path: Path, name: str) -> None:
    """A gzip file that is cut off or is none ends in an error that names it, never in fewer rows."""
    path = tmp_path / name
    whole = gzip.compress(b"".join(b'{"n": %d, "x": "%s"}\n' % (i, os.urandom(40).hex().encode()) for i in range(2000)))
    for damaged in (whole[:-4], whole[: len(whole) // 2], b"no gzip at all"):
        path.write_bytes(damaged)
        with pytest.raises(InputFileError, match=rf"{name}.*damaged"):
            rows_of(path)


def test_paths_that_cannot_be_read_are_misuse_at_once(tmp_path: Path) -> None:
    """A path that is not there, a folder, and an unknown kind of file are refused before the first row is asked for."""
    (tmp_path / "folder.jsonl").mkdir()
    (tmp_path / "a.csv").write_text("a,b\n")
    (tmp_path / "a.jsonl").write_text("")
    for name, words in (
        ("none.jsonl", r"none\.jsonl: no such file"),
        ("folder.jsonl", r"folder\.jsonl: is a folder"),
        ("a.csv", r'a\.csv: unknown kind of file "\.csv" \(known: \.jsonl, .*\.parquet\)'),
        ("a.jsonl/b.jsonl", r"cannot be read: Not a directory"),
        ("x" * 300 + ".jsonl", r"cannot be read: File name too long"),
    ):
        with pytest.raises(MisuseError, match=words):
            read_rows(tmp_path / name, bad_rows=StopAtBadRow())


def test_standard_input_is_read_as_lines() -> None:
    """`-` is standard input, and its errors are called by that name."""
    code = (
        "from aligner.files import *\n"
        "from aligner.files.bad_rows import StopAtBadRow\n"
        "for row in read_rows('-', bad_rows=StopAtBadRow()): print(row.line, row.data['a'], flush=True)"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], input='{"a": 1}\n\n{"a": 2}\n[]\n', capture_output=True, text=True
    )
    assert result.stdout == "1 1\n3 2\n"
    assert result.stderr.splitlines()[-1].endswith("InputFileError: stdin:4: not a JSON object")


def test_pipe_is_read_as_lines_whatever_its_name(tmp_path: Path) -> None:
    """A named pipe needs no known ending, and is opened only once."""
    path = tmp_path / "pipe"
    os.mkfifo(path)
    writer = threading.Thread(target=lambda: path.write_text('{"a": 1}\n{"a": 2}\n'))
    writer.start()
    assert [row.data for row in rows_of(path)] == [{"a": 1}, {"a": 2}]
    writer.join()


def test_row_that_parse_refuses_is_a_bad_row(tmp_path: Path) -> None:
    """A RowError of `parse` gets file and line; any other error is a mistake in the code and goes through."""

    def parse(row: dict[str, object]) -> object:
        if "answer" not in row:
            raise RowError('no "answer"')
        return row["answer"]

    path = tmp_path / "answers.jsonl"
    path.write_text('{"answer": 1}\n{"x": 2}\n{"answer": 3}\n')
    kept = Kept()
    assert [value for _, value in read(path, parse, bad_rows=kept)] == [1, 3]
    assert kept.rows == [BadRow(str(path), 2, 'no "answer"', {"x": 2})]
    with pytest.raises(InputFileError, match=r'answers\.jsonl:2: no "answer"$'):
        list(read(path, parse, bad_rows=StopAtBadRow()))
    with pytest.raises(KeyError):
        list(read(path, lambda row: row["answer"], bad_rows=Kept()))


def test_memory_is_flat_in_the_number_of_rows(tmp_path: Path) -> None:
    """Ten times as many rows take no more memory."""
    peaks: list[int] = []
    for count in (2_000, 20_000):
        path = tmp_path / "a.jsonl"
        path.write_bytes(b'{"question": "what?", "answer": "that"}\n' * count)
        tracemalloc.start()
        assert sum(1 for _ in read_rows(path, bad_rows=StopAtBadRow())) == count
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.5 * peaks[0] + 100_000
