"""Laws of writing rows: what is written reads back the same, and a file is there whole or not at all."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aligner.errors import InputFileError, MisuseError, OutputFileError
from aligner.files import read_rows, write_rows
from aligner.files.bad_rows import BadRow, StopAtBadRow
from aligner.files.output import OutputFile
from aligner.files.parquet import parquet_from_lines

TEXT = st.text(st.characters(exclude_categories=["Cs"]))
TURNS = st.lists(st.fixed_dictionaries({"role": TEXT, "content": TEXT}), max_size=3)
RECORDS = st.fixed_dictionaries(
    {
        "question": TEXT | st.none(),
        "messages": TURNS | st.none(),
        "id": st.integers(-(2**63), 2**63 - 1),
        "score": st.floats(allow_nan=False, allow_infinity=False),
        "good": st.booleans(),
        "usage": st.fixed_dictionaries({"tokens": st.integers(0, 99)}),
    }
)
KINDS = ["a.jsonl", "a.ndjson", "a.jsonl.gz", "a.ndjson.gz", "a.parquet"]


def rows_of(path: Path) -> list[dict[str, object]]:
    """All rows of a file that has no bad ones."""
    return [row.data for row in read_rows(path, bad_rows=StopAtBadRow())]


@pytest.mark.parametrize("name", KINDS)
@given(rows=st.lists(RECORDS, max_size=5))
@settings(deadline=None, max_examples=40)
def test_rows_read_back_the_same(
    tmp_path_factory: pytest.TempPathFactory, name: str, rows: list[dict[str, object]]
) -> None:
    """Any kind of file gives back the rows that were written, in order, and nothing else is left beside it."""
    folder = tmp_path_factory.getbasetemp() / "written"
    folder.mkdir(exist_ok=True)
    assert write_rows(folder / name, iter(rows)) == len(rows)
    assert rows_of(folder / name) == rows
    assert not [path for path in folder.iterdir() if path.name not in KINDS]


@pytest.mark.parametrize("name", KINDS)
def test_same_rows_give_the_same_bytes(tmp_path: Path, name: str) -> None:
    """A file depends on its rows alone, not on the time, its folder or how the rows came."""
    rows = [{"n": i, "text": "word " * (i % 7)} for i in range(3000)]
    (tmp_path / "other").mkdir()
    write_rows(tmp_path / name, rows)
    write_rows(tmp_path / "other" / name, (row for row in rows))
    assert (tmp_path / name).read_bytes() == (tmp_path / "other" / name).read_bytes()


def test_parquet_schema_fits_all_rows(tmp_path: Path) -> None:
    """Fields that come late, are null first, or turn from whole numbers to fractions are all kept."""
    first = [{"n": 1, "late": None, "deep": {"a": 1}} for _ in range(2000)]
    last = [{"n": 0.5, "late": "here", "deep": {"b": ["x"]}, "new": True}]
    write_rows(tmp_path / "a.parquet", [*first, *last])
    rows = rows_of(tmp_path / "a.parquet")
    assert len(rows) == 2001
    assert rows[0] == {"n": 1.0, "late": None, "deep": {"a": 1, "b": None}, "new": None}
    assert rows[-1] == {"n": 0.5, "late": "here", "deep": {"a": None, "b": ["x"]}, "new": True}


@pytest.mark.parametrize("place", [1, 2000])
@pytest.mark.parametrize(
    ("value", "other"), [(1, "one"), ("text", [{"role": "user"}]), (1, 2**64 - 1), (2**60 + 1, 0.5)]
)
def test_parquet_that_would_lose_something_is_refused_and_the_rows_kept(
    tmp_path: Path, place: int, value: object, other: object
) -> None:
    """Where no schema holds all rows, the error says so in one line and the rows stay as JSONL."""
    out = tmp_path / "a.parquet"
    out.write_bytes(b"earlier")
    with pytest.raises(OutputFileError, match=r"a\.parquet: the rows do not fit one Parquet schema: ") as caught:
        write_rows(out, [*({"x": value} for _ in range(place)), {"x": other}])
    assert "\n" not in str(caught.value)
    assert len((tmp_path / "a.parquet.lines").read_bytes().splitlines()) == place + 1
    assert out.read_bytes() == b"earlier"
    assert not (tmp_path / "a.parquet.writing").exists()


@pytest.mark.parametrize("name", KINDS)
def test_failure_of_the_rows_leaves_the_earlier_file(tmp_path: Path, name: str) -> None:
    """When the source of the rows fails half-way, the file is what it was, and the error goes through."""

    def rows() -> Iterator[dict[str, object]]:
        for i in range(3000):
            yield {"n": i}
        raise ConnectionError("upstream is down")

    (tmp_path / name).write_bytes(b"earlier")
    with pytest.raises(ConnectionError, match="upstream is down"):
        write_rows(tmp_path / name, rows())
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [(name, b"earlier")]


def test_row_that_json_cannot_hold_is_named(tmp_path: Path) -> None:
    """A value that JSON cannot hold is an error with the number of its row, and no file is made."""
    for value in (b"bytes", "\ud800", 2**64):
        with pytest.raises(OutputFileError, match=r"a\.jsonl: row 2 cannot be written as JSON: ") as caught:
            write_rows(tmp_path / "a.jsonl", [{"n": 1}, {"n": value}])
        assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_places_that_cannot_be_written_are_errors_before_the_first_row(tmp_path: Path) -> None:
    """No row is asked for when there is no folder, the path is a folder, or the kind of file is unknown."""

    def never() -> Iterator[dict[str, object]]:
        raise AssertionError("a row was asked for")
        yield {}

    (tmp_path / "folder.jsonl").mkdir()
    for name, error, words in (
        ("none/a.jsonl", OutputFileError, r"a\.jsonl: cannot be written: there is no folder"),
        ("folder.jsonl", OutputFileError, r"folder\.jsonl: cannot be written: it is a folder"),
        ("x" * 300 + ".jsonl", OutputFileError, r"cannot be written: File name too long"),
        ("a.json", MisuseError, r'a\.json: unknown kind of file "\.json" \(known: \.jsonl, '),
    ):
        with pytest.raises(error, match=words):
            write_rows(tmp_path / name, never())


@pytest.mark.parametrize("name", KINDS)
def test_full_disk_is_one_clear_error_and_the_earlier_file_stays(tmp_path: Path, name: str) -> None:
    """When no more bytes can be written, the error names the file, and the earlier file is untouched."""
    (tmp_path / name).write_bytes(b"earlier")
    code = (
        "import resource, sys\n"
        "from aligner.errors import OutputFileError\n"
        "from aligner.files import write_rows\n"
        "hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))\n"
        "try:\n"
        "    write_rows(sys.argv[1], ({'text': f'{i:0100}'} for i in range(3000)))\n"
        "except OutputFileError as error:\n"
        "    sys.exit(str(error))\n"
        "finally:\n"  # what measures coverage writes its own file at the end
        "    resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))\n"
    )
    result = subprocess.run([sys.executable, "-c", code, tmp_path / name], capture_output=True, text=True)
    assert result.stderr == f"{tmp_path / name}: cannot be written: File too large\n"
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [(name, b"earlier")]


def test_parquet_on_a_full_disk_is_the_same_error(tmp_path: Path) -> None:
    """An error inside the Parquet library arrives as the error of any other file."""
    lines = tmp_path / "a.lines"
    lines.write_bytes(b'{"n": 1}\n')
    with (
        OutputFile(Path("/dev/full"), "wb", out=tmp_path / "a.parquet") as file,
        pytest.raises(OutputFileError, match=r"a\.parquet: cannot be written: No space left on device"),
    ):
        parquet_from_lines(lines, file)


def test_device_is_written_to_and_never_replaced() -> None:
    """A device stays a device, whatever its name, and says when it is full."""
    assert write_rows("/dev/null", [{"n": 1}]) == 1
    assert not Path("/dev/null").is_file()
    with pytest.raises(OutputFileError, match="/dev/full: cannot be written: No space left on device"):
        write_rows("/dev/full", [{"n": 1}])


def test_standard_output_has_the_rows_as_lines(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    """`-` is standard output, behind what was printed before."""
    print("before")
    assert write_rows("-", ({"n": i} for i in range(2))) == 2
    assert capfdbinary.readouterr().out == b'before\n{"n":0}\n{"n":1}\n'


def test_reader_of_the_output_that_went_away_is_an_error() -> None:
    """A closed pipe is an error that calls it standard output."""
    reader, writer = os.pipe()
    os.close(reader)
    code = "from aligner.files import *\nwrite_rows('-', [{'n': 1}])"
    result = subprocess.run([sys.executable, "-c", code], stdout=writer, stderr=subprocess.PIPE, text=True)
    os.close(writer)
    assert result.stderr.splitlines()[-1].endswith("OutputFileError: stdout: cannot be written: Broken pipe")


def test_damaged_parquet_is_an_error(tmp_path: Path) -> None:
    """A file that is no Parquet, or is cut off, is an error that names it."""
    path = tmp_path / "a.parquet"
    write_rows(path, [{"n": i} for i in range(100)])
    whole = path.read_bytes()
    for damaged in (b"", b"no parquet", whole[:-5], whole[: len(whole) // 2]):
        path.write_bytes(damaged)
        with pytest.raises(InputFileError, match=r"a\.parquet: not a Parquet file, or a damaged one: "):
            rows_of(path)


def test_parquet_row_that_is_not_utf8_is_bad_alone(tmp_path: Path) -> None:
    """Of a Parquet file with wrong bytes in one text, only that row is bad."""
    texts = pa.array([b"a", b"\xff", b"c"], pa.binary()).view(pa.string())
    pq.write_table(pa.table({"text": texts}), tmp_path / "a.parquet")
    bad: list[BadRow] = []

    class Keep(StopAtBadRow):
        def __call__(self, row: BadRow, /) -> None:
            bad.append(row)

    rows = list(read_rows(tmp_path / "a.parquet", bad_rows=Keep()))
    assert [(row.line, row.data) for row in rows] == [(1, {"text": "a"}), (3, {"text": "c"})]
    assert [(row.line, row.problem) for row in bad] == [(2, "invalid UTF-8")]


def test_lines_of_parquet_count_rows_over_batches_and_groups(tmp_path: Path) -> None:
    """Row numbers go on from one row group to the next."""
    pq.write_table(pa.table({"n": list(range(3000))}), tmp_path / "a.parquet", row_group_size=700)
    rows = list(read_rows(tmp_path / "a.parquet", bad_rows=StopAtBadRow()))
    assert all(row.data == {"n": row.line - 1} for row in rows)
    assert len(rows) == 3000
