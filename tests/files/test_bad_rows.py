"""Laws of bad rows: they stop the work or are kept in a file, and never vanish."""

from pathlib import Path

import orjson
import pytest

from aligner.errors import InputFileError, MisuseError, OutputFileError
from aligner.files import bad_rows_named
from aligner.files.bad_rows import BadRow, SkipBadRows, StopAtBadRow

BAD = BadRow("answers.jsonl", 17, 'no "answer"', {"question": "what?"})


def test_stop_is_an_error_that_names_file_and_line(tmp_path: Path) -> None:
    """The first bad row stops the work, and nothing is written."""
    policy = bad_rows_named("stop", tmp_path / "out.jsonl")
    with pytest.raises(InputFileError, match=r'^answers\.jsonl:17: no "answer"$'):
        policy(BAD)
    policy.finish()
    assert policy.reasons == {}
    assert list(tmp_path.iterdir()) == []


def test_skip_keeps_rows_beside_the_output_and_counts_reasons(tmp_path: Path) -> None:
    """Skipped rows stand in order in a file beside the output; what follows a colon does not make a new reason."""
    policy = bad_rows_named("skip", tmp_path / "out.parquet")
    assert list(tmp_path.iterdir()) == []
    rows = [
        BAD,
        BadRow("a.jsonl", 18, "invalid JSON: at column 3", "{]"),
        BadRow("a.jsonl", 20, "invalid JSON: at 9", "[}"),
    ]
    for row in rows:
        policy(row)
    policy.finish()
    assert policy.reasons == {'no "answer"': 1, "invalid JSON": 2}
    kept = [orjson.loads(line) for line in (tmp_path / "out.parquet.skipped.jsonl").read_bytes().splitlines()]
    assert kept == [row._asdict() for row in rows]
    assert list(kept[0]) == ["file", "line", "problem", "row"]


def test_each_run_begins_the_file_anew(tmp_path: Path) -> None:
    """The same work again leaves the same file, and work that skips nothing leaves none."""
    policy = SkipBadRows(tmp_path / "out.jsonl")
    for again in (SkipBadRows(tmp_path / "out.jsonl"), policy):
        again(BAD)
        again.finish()
    assert len(policy.path.read_bytes().splitlines()) == 1
    SkipBadRows(tmp_path / "out.jsonl").finish()
    assert not policy.path.exists()


def test_skipped_rows_that_cannot_be_written_are_an_error(tmp_path: Path) -> None:
    """A row that cannot be kept stops the work instead of vanishing."""
    with pytest.raises(OutputFileError, match=r"out\.jsonl\.skipped\.jsonl: cannot be written"):
        SkipBadRows(tmp_path / "none" / "out.jsonl")(BAD)


def test_output_that_is_a_stream_has_its_skipped_rows_in_the_working_folder() -> None:
    """Beside standard output there is no place, so they go to stdout.skipped.jsonl."""
    assert SkipBadRows("-").path == Path("stdout.skipped.jsonl")
    assert SkipBadRows("/dev/null").path == Path("stdout.skipped.jsonl")


def test_unknown_policy_is_misuse() -> None:
    """A name that is no policy is refused."""
    assert isinstance(bad_rows_named("stop", "out.jsonl"), StopAtBadRow)
    with pytest.raises(MisuseError, match='did you mean "skip"'):
        bad_rows_named("skp", "out.jsonl")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
