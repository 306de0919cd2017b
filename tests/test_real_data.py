"""Real answers go through from end to end, and nothing is lost."""

from pathlib import Path
from typing import Any

import orjson
import pytest

from aligner.config import ConvertConfig, CorrectConfig
from aligner.convert import convert
from aligner.correct import correct_answers

_GSM8K = "gsm8k/recorded_answers.jsonl"


def _lines(path: Path) -> list[dict[str, Any]]:
    return [orjson.loads(line) for line in path.read_bytes().splitlines()]


def _gsm8k(real_data: Path, folder: Path, model: str) -> Path:
    out = folder / f"{model}.jsonl"
    convert(ConvertConfig(source=real_data / _GSM8K, out=out, answer=f"{model}.solution", correction="ground_truth"))
    return out


@pytest.mark.parametrize("model", ["6b_finetuning", "175b_finetuning"])
def test_all_recorded_answers_go_through(real_data: Path, tmp_path: Path, model: str) -> None:
    """The 1,319 answers of each recorded model come back in order, each with its own text."""
    answers = _gsm8k(real_data, tmp_path, model)
    correct_answers(CorrectConfig(answers=answers, out=tmp_path / "out.jsonl", aligner="echo:"))
    before, after = _lines(answers), _lines(tmp_path / "out.jsonl")
    assert len(before) == len(after) == 1319
    assert [row["answer"] for row in before] == [row["correction"] for row in after]
    assert [row["correction"] for row in before] == [row["given_correction"] for row in after]


def test_conversations_go_through(real_data: Path, tmp_path: Path) -> None:
    """All usable HH-RLHF answers come back, with the conversation that they end."""
    triples = tmp_path / "triples.jsonl"
    source = real_data / "hh_rlhf/harmless-base_test.jsonl.gz"
    convert(ConvertConfig(source=source, out=triples, format="hh-rlhf", on_bad_row="skip"))
    correct_answers(CorrectConfig(answers=triples, out=tmp_path / "out.jsonl", aligner="echo:"))
    after = _lines(tmp_path / "out.jsonl")
    assert len(after) == 2308
    assert any(len(row["messages"]) > 1 for row in after if "messages" in row)
    assert not any(row["changed"] for row in after)


def test_the_shipped_aligner_loses_no_real_answer(real_data: Path, tmp_path: Path) -> None:
    """An Aligner that knows only the closed world keeps what it cannot read, says why, and drops nothing."""
    answers = _gsm8k(real_data, tmp_path, "6b_finetuning")
    few = tmp_path / "few.jsonl"
    few.write_bytes(b"\n".join(answers.read_bytes().splitlines()[:40]) + b"\n")
    correct_answers(CorrectConfig(answers=few, out=tmp_path / "out.jsonl", device="cpu"))
    after = _lines(tmp_path / "out.jsonl")
    assert len(after) == 40
    assert all(row["correction"] for row in after)
    assert all(row["correction"] == row["answer"] for row in after if row["kept_reason"])
    assert any("do not fit" in (row["kept_reason"] or "") for row in after)
