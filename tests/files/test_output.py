"""Laws of small files: whole or as they were."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aligner.errors import OutputFileError
from aligner.files import write_json_atomic, write_text_atomic


@given(text=st.text(st.characters(exclude_categories=["Cs"])))
def test_text_reads_back_the_same(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    """Any text is written as UTF-8, with its line ends as they are."""
    path = tmp_path_factory.getbasetemp() / "a.txt"
    write_text_atomic(path, text)
    assert path.read_bytes() == text.encode()


def test_json_is_sorted_and_indented(tmp_path: Path) -> None:
    """The same value gives the same text, whatever the order of its keys."""
    write_json_atomic(tmp_path / "a.json", {"b": [1, "é"], "a": None})
    assert (tmp_path / "a.json").read_text() == '{\n  "a": null,\n  "b": [\n    1,\n    "é"\n  ]\n}\n'


def test_failure_leaves_what_was_there(tmp_path: Path) -> None:
    """A text that cannot be encoded or placed leaves the earlier file, and nothing beside it."""
    (tmp_path / "a.txt").write_text("earlier")
    (tmp_path / "folder").mkdir()
    with pytest.raises(UnicodeEncodeError):
        write_text_atomic(tmp_path / "a.txt", "\ud800")
    with pytest.raises(OutputFileError, match=r"folder: cannot be written: Is a directory"):
        write_text_atomic(tmp_path / "folder", "text")
    with pytest.raises(OutputFileError, match=r"none/a\.txt: cannot be written: No such file or directory"):
        write_text_atomic(tmp_path / "none" / "a.txt", "text")
    assert (tmp_path / "a.txt").read_text() == "earlier"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.txt", "folder"]
