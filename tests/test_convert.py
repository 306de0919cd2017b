"""Laws of conversion: every row becomes a triple or is counted under a reason."""

import json
import os
import re
from pathlib import Path

import pytest

from aligner.config import ConvertConfig
from aligner.convert import convert
from aligner.data.fields import triple_of
from aligner.errors import InputFileError, MisuseError
from aligner.files import read, write_rows
from aligner.files.bad_rows import StopAtBadRow
from aligner.records import Message, Triple

PAIRS: list[dict[str, object]] = [
    {"chosen": "\n\nHuman: hi\n\nAssistant: hello", "rejected": "\n\nHuman: hi\n\nAssistant: what"},
    {"chosen": "\n\nHuman: hi\n\nAssistant: same", "rejected": "\n\nHuman: hi\n\nAssistant: same"},
    {"chosen": "\n\nHuman: hi\n\nAssistant: ", "rejected": "\n\nHuman: hi\n\nAssistant: what"},
    {
        "chosen": "\n\nHuman: a\n\nAssistant: b\n\nHuman: c\n\nAssistant: d",
        "rejected": "\n\nHuman: a\n\nAssistant: b\n\nHuman: c\n\nAssistant: e",
    },
]
SOURCES = ("hh-rlhf", "rejected", "chosen")
TRIPLES = [
    Triple("hi", "what", "hello", SOURCES),
    Triple((Message("user", "a"), Message("assistant", "b"), Message("user", "c")), "e", "d", SOURCES),
]


def triples_in(path: Path) -> list[Triple]:
    """All triples of a file."""
    return [value for _, value in read(path, triple_of, bad_rows=StopAtBadRow())]


@pytest.mark.parametrize("out", ["out.jsonl", "out.jsonl.gz", "out.parquet"])
@pytest.mark.parametrize("source", ["in.jsonl", "in.parquet"])
def test_rows_read_are_triples_written_and_rows_skipped(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], source: str, out: str
) -> None:
    """Every row is in the triples or in the count of its reason, and bad rows are kept beside the output."""
    write_rows(tmp_path / source, PAIRS)
    config = ConvertConfig(source=tmp_path / source, out=tmp_path / out, format="hh-rlhf", on_bad_row="skip")
    convert(config)
    assert triples_in(config.out) == TRIPLES
    assert capsys.readouterr().err == (
        '4 rows read, 2 triples written, 2 skipped (1 both replies are the same; 1 "chosen" ends with an empty reply)\n'
    )
    (kept,) = (tmp_path / f"{out}.skipped.jsonl").read_text().splitlines()
    assert json.loads(kept) == {
        "file": str(config.source),
        "line": 3,
        "problem": '"chosen" ends with an empty reply',
        "row": PAIRS[2],
    }


def test_bad_row_stops_before_anything_is_written(tmp_path: Path) -> None:
    """By default the first bad row is an error with file and line, and no file appears."""
    write_rows(tmp_path / "in.jsonl", PAIRS)
    with pytest.raises(InputFileError, match=r'in\.jsonl:3: "chosen" ends with an empty reply$'):
        convert(ConvertConfig(source=tmp_path / "in.jsonl", out=tmp_path / "out.jsonl", format="hh-rlhf"))
    assert [path.name for path in tmp_path.iterdir()] == ["in.jsonl"]


def test_triples_convert_to_themselves(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A file of triples, converted from kind to kind, keeps every one of them, sources included."""
    write_rows(tmp_path / "0.jsonl", PAIRS[::3])
    convert(ConvertConfig(source=tmp_path / "0.jsonl", out=tmp_path / "1.parquet", format="hh-rlhf"))
    convert(ConvertConfig(source=tmp_path / "1.parquet", out=tmp_path / "2.jsonl"))
    convert(ConvertConfig(source=tmp_path / "2.jsonl", out=tmp_path / "3.jsonl.gz"))
    assert triples_in(tmp_path / "3.jsonl.gz") == TRIPLES
    assert capsys.readouterr().err == "2 rows read, 2 triples written, 0 skipped\n" * 3


def test_authors_file_loads_unchanged(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One indented JSON list of question, answer and correction, as the authors publish it, needs no options."""
    rows = [{"question": f"q{i}", "answer": f"a{i}", "correction": f"c{i}"} for i in range(3)]
    (tmp_path / "in.json").write_text(json.dumps(rows, indent=4))
    convert(ConvertConfig(source=tmp_path / "in.json", out=tmp_path / "out.jsonl"))
    assert [(row.question, row.answer, row.correction) for row in triples_in(tmp_path / "out.jsonl")] == [
        ("q0", "a0", "c0"),
        ("q1", "a1", "c1"),
        ("q2", "a2", "c2"),
    ]
    assert capsys.readouterr().err == "3 rows read, 3 triples written, 0 skipped\n"


def test_fields_are_taken_by_name(tmp_path: Path) -> None:
    """Any JSONL converts with a mapping of its names."""
    write_rows(tmp_path / "in.jsonl", [{"q": "what?", "model": {"text": "that"}, "gold": ["this"]}])
    convert(
        ConvertConfig(
            source=tmp_path / "in.jsonl",
            out=tmp_path / "out.jsonl",
            question="q",
            answer="model.text",
            correction="gold.0",
        )
    )
    assert triples_in(tmp_path / "out.jsonl") == [Triple("what?", "that", "this", ("q", "model.text", "gold.0"))]


def test_unknown_format_is_misuse_before_anything_is_read(tmp_path: Path) -> None:
    """A misspelt format is answered with the nearest known one."""
    with pytest.raises(MisuseError, match='did you mean "ultrafeedback"'):
        convert(ConvertConfig(source=tmp_path / "none", out=tmp_path / "out.jsonl", format="ultra-feedback"))


@pytest.mark.realdata
@pytest.mark.skipif("ALIGNER_REAL_DATA" not in os.environ, reason="ALIGNER_REAL_DATA names no folder")
@pytest.mark.parametrize(
    ("source", "names", "rows"),
    [
        ("hh_rlhf/harmless-base_test.jsonl.gz", {"format": "hh-rlhf"}, 2312),
        ("pku_aligner/template-dataset.json", {}, 2),
        ("gsm8k/recorded_answers.jsonl", {"answer": "6b_finetuning.solution", "correction": "ground_truth"}, 1319),
    ],
)
def test_real_files_go_through_and_nothing_is_lost(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], source: str, names: dict[str, str], rows: int
) -> None:
    """Of real files every row is a triple or skipped for a reason, and nearly all are triples."""
    path = Path(os.environ["ALIGNER_REAL_DATA"]) / source
    convert(ConvertConfig(source=path, out=tmp_path / "out.jsonl", on_bad_row="skip", **names))
    read_count, written, skipped = map(int, re.findall(r"\d+", capsys.readouterr().err.replace(",", ""))[:3])
    assert (read_count, written) == (rows, len(triples_in(tmp_path / "out.jsonl")))
    assert read_count == written + skipped
    assert skipped <= 0.002 * rows
