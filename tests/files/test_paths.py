"""Laws of paths: what a name tells about a file."""

from pathlib import Path

import pytest

from aligner.errors import MisuseError
from aligner.files.paths import beside, is_stream, kind_of


def test_streams_are_no_files_and_files_no_streams(tmp_path: Path) -> None:
    """`-` and devices are streams; files, folders and what is not there are none."""
    (tmp_path / "a.jsonl").write_text("")
    assert is_stream(Path("-"))
    assert is_stream(Path("/dev/null"))
    assert not any(map(is_stream, (tmp_path, tmp_path / "a.jsonl", tmp_path / "none")))


def test_kind_is_the_known_ending_in_any_case() -> None:
    """The ending decides, in capitals too, and what has none of them is refused with the list of them."""
    assert kind_of(Path("A.JSONL.GZ"), [".jsonl", ".jsonl.gz"]) == ".jsonl.gz"
    with pytest.raises(MisuseError, match=r'^a\.txt: unknown kind of file "\.txt" \(known: \.jsonl, \.parquet\)$'):
        kind_of(Path("a.txt"), [".jsonl", ".parquet"])


def test_beside_is_in_the_same_folder() -> None:
    """Only the name grows."""
    assert beside(Path("x/a.jsonl"), ".partial") == Path("x/a.jsonl.partial")
