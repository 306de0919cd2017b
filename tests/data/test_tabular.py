"""Laws of tables: rows of CSV come as those of any other file, and what is wrong with one says file:line."""

import csv
import gzip
import io
from pathlib import Path

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aligner.data.tabular import ENDINGS, read, read_rows
from aligner.errors import InputFileError, MisuseError
from aligner.files import RowError, bad_rows_named
from aligner.files.bad_rows import StopAtBadRow

CELL = st.text(st.characters(codec="utf-8", exclude_characters="\x00\r"), max_size=12)


@given(
    rows=st.lists(st.tuples(CELL, CELL, CELL), max_size=8),
    delimiter=st.sampled_from(",;\t"),
    name=st.sampled_from(["a.csv", "a.tsv", "a.csv.gz", "A.CSV"]),
)
def test_rows_come_back_as_they_were_written(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, str, str]], delimiter: str, name: str
) -> None:
    """Cells with delimiters, quotes and line ends come back whole, each row with its first line."""
    file = tmp_path_factory.mktemp("csv") / name
    text = io.StringIO(newline="")
    writer = csv.writer(text, delimiter=delimiter, lineterminator="\n", quoting=csv.QUOTE_ALL)
    writer.writerows([("question", "best answer", "n"), *rows])
    data = text.getvalue().encode()
    file.write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    found = list(read_rows(file, bad_rows=StopAtBadRow()))
    assert [tuple(row.data.values()) for row in found] == rows
    lines = data.decode().split("\n")
    assert all(lines[row.line - 1].startswith('"') for row in found)


def test_other_files_are_read_as_ever(tmp_path: Path) -> None:
    """JSONL goes through unchanged, and an unknown kind of file is named."""
    (tmp_path / "a.jsonl").write_text('{"q": 1}\n')
    assert [row.data for row in read_rows(tmp_path / "a.jsonl", bad_rows=StopAtBadRow())] == [{"q": 1}]
    (tmp_path / "a.txt").touch()
    with pytest.raises(MisuseError, match="unknown kind of file"):
        read_rows(tmp_path / "a.txt", bad_rows=StopAtBadRow())
    with pytest.raises(MisuseError, match=r"none\.csv: no such file"):
        read_rows(tmp_path / "none.csv", bad_rows=StopAtBadRow())
    assert {".jsonl", ".parquet", ".csv", ".tsv"} <= set(ENDINGS)


def test_rows_of_another_length_are_bad_rows(tmp_path: Path) -> None:
    """Missing and superfluous cells stop the reading at their line, or are kept apart; empty superfluous ones pass."""
    file = tmp_path / "a.csv"
    file.write_text("q,a\n1,2\n\n3\n4,5,6\n7,8,\n")
    with pytest.raises(InputFileError, match=r"a\.csv:4: has 1 cells, where the header has 2"):
        list(read_rows(file, bad_rows=StopAtBadRow()))
    kept = bad_rows_named("skip", tmp_path / "out.jsonl")
    assert [row.data for row in read_rows(file, bad_rows=kept)] == [{"q": "1", "a": "2"}, {"q": "7", "a": "8"}]
    assert sum(kept.reasons.values()) == 2


def test_files_of_other_encodings_are_read(tmp_path: Path) -> None:
    """A byte order mark is no part of the first column's name, and what is not UTF-8 is taken for cp1252."""
    file = tmp_path / "a.csv"
    file.write_bytes("\ufeffq;a\ncafé;2\n".encode())
    assert next(read_rows(file, bad_rows=StopAtBadRow())).data == {"q": "café", "a": "2"}
    file.write_bytes("q;a\ncafé\u2019s;2\n".encode("cp1252"))
    assert next(read_rows(file, bad_rows=StopAtBadRow())).data == {"q": "café\u2019s", "a": "2"}


@pytest.mark.parametrize(
    ("name", "data", "problem"),
    [
        ("a.csv", b'q,a\n1,"open\n', r"a\.csv:2: invalid CSV"),
        ("a.csv", b'q,"a"b\n1,2\n', r"a\.csv:1: invalid CSV"),
        ("a.csv", b"q,a, q\n1,2,3\n", r'a\.csv:1: the header has the name "q" twice: give each column'),
        ("a.csv", b"q,a\n\x81,\xff\n", "is neither UTF-8 nor cp1252"),
        ("a.csv.gz", b"no gzip", r"a\.csv\.gz: cannot be read"),
    ],
)
def test_damaged_tables_say_where(tmp_path: Path, name: str, data: bytes, problem: str) -> None:
    """A table that cannot be read is one line that names the file."""
    (tmp_path / name).write_bytes(data)
    with pytest.raises(InputFileError, match=problem):
        list(read_rows(tmp_path / name, bad_rows=StopAtBadRow()))


def test_a_stray_quote_costs_its_row_alone(tmp_path: Path) -> None:
    """A quote that is not closed, or not written twice, is a bad row with its line and a cure; the next is read."""
    file = tmp_path / "a.csv"
    file.write_text('q,a\n"1","2"\n"open,3\n"4","5\nand 6"\n"a "word" here",7\n8,9\n10,"end\n11,12\n')
    kept = bad_rows_named("skip", tmp_path / "out.jsonl")
    rows = [(row.line, *row.data.values()) for row in read_rows(file, bad_rows=kept)]
    assert rows == [(2, "1", "2"), (4, "4", "5\nand 6"), (7, "8", "9"), (9, "11", "12")]
    assert kept.reasons == {"invalid CSV": 3}
    bad = [orjson.loads(line) for line in (tmp_path / "out.jsonl.skipped.jsonl").read_bytes().splitlines()]
    assert [row["line"] for row in bad] == [3, 6, 8]
    assert bad[0]["row"] == '"open,3'
    assert all(row["problem"].endswith('write a quote inside it twice ("")') for row in bad)


def test_a_broken_header_ends_the_reading(tmp_path: Path) -> None:
    """The row behind it is none, even where bad rows are skipped."""
    (tmp_path / "a.csv").write_text('q,"a"b\n1,2\n')
    with pytest.raises(InputFileError, match=r"a\.csv:1: the header is invalid CSV"):
        list(read_rows(tmp_path / "a.csv", bad_rows=bad_rows_named("skip", tmp_path / "out.jsonl")))


def test_long_cells_are_read(tmp_path: Path) -> None:
    """A cell is as long as it is: 131,072 characters are no limit."""
    (tmp_path / "a.csv").write_text(f"q,a\n{'x' * 300_000},2\n")
    assert [len(str(row.data["q"])) for row in read_rows(tmp_path / "a.csv", bad_rows=StopAtBadRow())] == [300_000]


def test_an_empty_table_has_no_rows(tmp_path: Path) -> None:
    """Neither a file without anything nor one with a header alone has rows."""
    for text in ("", "q,a\n"):
        (tmp_path / "a.csv").write_text(text)
        assert list(read_rows(tmp_path / "a.csv", bad_rows=StopAtBadRow())) == []


def test_what_a_parser_refuses_is_a_bad_row(tmp_path: Path) -> None:
    """A RowError of the parser stands with the row's file and line."""
    (tmp_path / "a.csv").write_text("q\n1\nx\n")

    def parse(row: dict[str, object]) -> int:
        if row["q"] != "1":
            raise RowError('"q" is no 1')
        return 1

    with pytest.raises(InputFileError, match=r'a\.csv:3: "q" is no 1'):
        list(read(tmp_path / "a.csv", parse, bad_rows=StopAtBadRow()))
    kept = bad_rows_named("skip", tmp_path / "out.jsonl")
    assert [value for _, value in read(tmp_path / "a.csv", parse, bad_rows=kept)] == [1]
