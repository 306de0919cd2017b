"""Laws of parts of a file: whole windows, each row in one of them, found again without reading what comes before."""

from pathlib import Path

import orjson
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import parquet

from aligner.errors import MisuseError
from aligner.files import RowError, read, write_rows
from aligner.files.bad_rows import BadRow, bad_rows_named
from aligner.files.reading import Place
from aligner.sharding.cutting import LeaveOut, Slice, check_cuttable, cut, shard_of


class Kept:
    """Bad rows, kept."""

    def __init__(self) -> None:
        self.reasons: dict[str, int] = {}
        self.lines: list[int] = []

    def __call__(self, row: BadRow, /) -> None:
        self.lines.append(row.line)

    def finish(self) -> None:
        pass


def number(row: dict[str, object]) -> object:
    """The number of a row."""
    if "n" not in row or row["n"] is None:
        raise RowError("no number")
    return row["n"]


def all_of(path: Path, slices: list[Slice]) -> tuple[list[list[object]], list[int]]:
    """The numbers in each part, and the lines of bad rows, as they come."""
    kept = Kept()
    parts = [[n for _, n in one.of(read(path, number, bad_rows=kept, begin=one.begin))] for one in slices]
    return parts, kept.lines


def whole(path: Path) -> tuple[list[object], list[int]]:
    """The same of the file as it is."""
    kept = Kept()
    return [n for _, n in read(path, number, bad_rows=kept)], kept.lines


@given(
    good=st.lists(st.booleans(), max_size=40),
    window=st.integers(1, 5),
    parts=st.integers(0, 9),
    kind=st.sampled_from(["jsonl", "jsonl.gz", "parquet"]),
    blank=st.booleans(),
)
def test_parts_are_whole_windows_and_together_the_file(
    tmp_path_factory: pytest.TempPathFactory, good: list[bool], window: int, parts: int, kind: str, blank: bool
) -> None:
    """Read one behind the other they are the file, bad rows included, and none but the last ends inside a window."""
    path = tmp_path_factory.mktemp("cut") / f"in.{kind}"
    write_rows(path, ({"n": i if ok else None, "é": "ü" * i} for i, ok in enumerate(good)))
    if blank and kind == "jsonl":
        path.write_bytes(b"\n\r\n" + path.read_bytes().replace(b"\n", b"\r\n\n"))
    numbers, bad = whole(path)
    lines = [row.line for row, _ in read(path, number, bad_rows=LeaveOut())]
    slices = cut(path, lines, window=window, parts=parts)
    found, bad_found = all_of(path, slices)
    assert [n for part in found for n in part] == numbers
    assert bad_found == bad
    assert [len(part) for part in found] == [one.rows for one in slices]
    assert len(slices) == (parts or max(1, -(-len(numbers) // (16 * window))))
    filled = [part for part in found if part]
    assert all(len(part) % window == 0 for part in filled[:-1])
    assert max(map(len, filled), default=0) <= window * (-(-len(numbers) // (window * len(slices))))


def test_a_part_of_parquet_begins_in_any_row_group(tmp_path: Path) -> None:
    """Whatever the size of row groups, reading from a row on gives that row and those behind it."""
    path = tmp_path / "in.parquet"
    parquet.write_table(pa.table({"n": list(range(25))}), path, row_group_size=7)
    for first in range(1, 28):
        rows = list(read(path, number, bad_rows=bad_rows_named("stop", path), begin=Place(first)))
        assert [(row.line, n) for row, n in rows] == [(line, line - 1) for line in range(first, 26)]


def test_a_place_names_lines_as_the_whole_file_does(tmp_path: Path) -> None:
    """A bad row behind the beginning of a part has its own line in the file."""
    path = tmp_path / "in.jsonl"
    path.write_bytes(b"".join(orjson.dumps({"n": i}) + b"\n" for i in range(9)) + b"{\n")
    byte = len(b"".join(path.read_bytes().splitlines(keepends=True)[:4]))
    kept = Kept()
    assert [n for _, n in read(path, number, bad_rows=kept, begin=Place(5, byte))] == [4, 5, 6, 7, 8]
    assert kept.lines == [10]


@pytest.mark.parametrize("text", ["", "1", "3/3", "-1/3", "a/b", "1/2/3", "1/", "/2", "0/0", "1 /2"])
def test_a_shard_is_i_of_n(text: str) -> None:
    """Anything but i/N, i from 0 to N-1, is misuse, and the line says how it is written."""
    with pytest.raises(MisuseError, match=r"--shard is i/N"):
        shard_of(text)
    assert shard_of("0/1") == (0, 1)
    assert shard_of("63/64") == (63, 64)


@pytest.mark.parametrize("name", ["in.json", "in.json.gz", "-", "in.txt"])
def test_what_has_no_places_is_refused(tmp_path: Path, name: str) -> None:
    """A stream, a JSON list, or a file of an unknown kind has no parts."""
    with pytest.raises(MisuseError):
        check_cuttable(Path(name) if name == "-" else tmp_path / name)
