"""Laws of recorded answers."""

import asyncio
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from aligner.errors import AlignerError, InputFileError, MisuseError, ModelError
from aligner.models import load_model
from aligner.records import ChatModel, Message, SamplingParams

ROWS = [
    {"question": "How many?", "answer": "Three  or\nfour."},
    {"question": "Who?", "answer": "Anna."},
    {"question": "How many?", "answer": "Five."},
]
TALK = [Message("user", "Hello"), Message("assistant", "Hi"), Message("user", "Who?")]


def recording(path: Path, rows: Sequence[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def answer(model: ChatModel, asked: str | Sequence[Message], seed: int | None = None) -> str:
    messages = [Message("user", asked)] if isinstance(asked, str) else asked
    sampling = SamplingParams(seed=seed)
    text = asyncio.run(model.complete(messages, sampling)).text

    async def pieces() -> str:
        return "".join([piece async for piece in model.stream(messages, sampling)])

    assert asyncio.run(pieces()) == text
    return text


def test_every_kind_of_file_gives_the_recorded_answers(tmp_path: Path) -> None:
    """JSONL, JSON and Parquet hold the same recording."""
    (tmp_path / "a.json").write_text(json.dumps(ROWS))
    pq.write_table(pa.Table.from_pylist(ROWS), tmp_path / "a.parquet")
    recording(tmp_path / "a.jsonl", ROWS)
    for name in ("a.jsonl", "a.json", "a.parquet"):
        model = load_model(f"replay:{tmp_path / name}")
        assert [answer(model, row["question"]) for row in ROWS[:2]] == [row["answer"] for row in ROWS[:2]]


def test_the_seed_chooses_among_several_answers(tmp_path: Path) -> None:
    """No seed is the first answer, and seeds go round."""
    model = load_model(f"replay:{recording(tmp_path / 'a.jsonl', ROWS)}")
    first, second = ROWS[0]["answer"], ROWS[2]["answer"]
    assert [answer(model, "How many?", seed) for seed in (None, 0, 1, 2)] == [first, first, second, first]
    assert answer(model, "Who?", 7) == "Anna."


def test_a_system_message_need_not_be_recorded(tmp_path: Path) -> None:
    """The question is what counts, but one recorded with its system message comes first."""
    system = Message("system", "Be brief.")
    whole = {
        "question": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Who?"}],
        "answer": "A.",
    }
    model = load_model(f"replay:{recording(tmp_path / 'a.jsonl', [*ROWS, whole])}")
    assert answer(model, [system, Message("user", "How many?")]) == ROWS[0]["answer"]
    assert answer(model, [system, Message("user", "Who?")]) == "A."


def test_a_conversation_is_matched_as_a_whole(tmp_path: Path) -> None:
    """The same last turn after other turns is another question."""
    talk = [{"role": message.role, "content": message.content} for message in TALK]
    model = load_model(f"replay:{recording(tmp_path / 'a.jsonl', [{'messages': talk, 'answer': 'Me.'}])}")
    assert answer(model, TALK) == "Me."
    with pytest.raises(ModelError, match="no answer is recorded"):
        answer(model, "Who?")


def test_fields_can_have_any_name(tmp_path: Path) -> None:
    """The name of the model says where question and answer stand, and dots reach inside."""
    rows = [{"q": {"text": "Who?"}, "a.b": "Anna.", "c d": "Bert."}]
    path = recording(tmp_path / "a.jsonl", rows)
    assert answer(load_model(f"replay:{path}?question=q.text&answer=a.b"), "Who?") == "Anna."
    assert answer(load_model(f"replay:{path}?answer=c+d&question=q.text"), "Who?") == "Bert."


def test_a_question_that_is_not_recorded_is_a_clear_error(tmp_path: Path) -> None:
    """The error names the file and the start of the question on one line."""
    path = recording(tmp_path / "a.jsonl", ROWS)
    with pytest.raises(ModelError) as caught:
        answer(load_model(f"replay:{path}"), "Why\nis " + "x" * 100)
    assert str(caught.value) == f'{path}: no answer is recorded for "Why is {"x" * 53}…"'


@pytest.mark.parametrize(
    ("options", "error", "problem"),
    [
        ("?anser=x", MisuseError, 'did you mean "answer"'),
        ("?answer=x", InputFileError, 'a.jsonl:1: no "x"'),
        ("?answer=", InputFileError, 'a.jsonl:1: no ""'),
    ],
)
def test_a_wrong_field_is_told_at_once(tmp_path: Path, options: str, error: type[AlignerError], problem: str) -> None:
    """A misspelt option is misuse, and a field that is not there names file and line."""
    with pytest.raises(error) as caught:
        load_model(f"replay:{recording(tmp_path / 'a.jsonl', ROWS)}{options}")
    assert problem in str(caught.value)


def test_a_file_without_answers_is_told_at_once(tmp_path: Path) -> None:
    """No file, no name and no rows are errors before the first question."""
    with pytest.raises(MisuseError, match=r"none\.jsonl: no such file"):
        load_model(f"replay:{tmp_path / 'none.jsonl'}")
    with pytest.raises(MisuseError, match="replay:FILE"):
        load_model("replay:")
    with pytest.raises(InputFileError, match="holds no answers"):
        load_model(f"replay:{recording(tmp_path / 'a.jsonl', [])}")


@pytest.mark.realdata
@pytest.mark.skipif("ALIGNER_REAL_DATA" not in os.environ, reason="ALIGNER_REAL_DATA names no folder")
@pytest.mark.parametrize(("model", "right"), [("6b_finetuning", 286), ("175b_finetuning", 458)])
def test_both_recorded_models_can_be_replayed(model: str, right: int) -> None:
    """The recording of GSM8K is used as it is, and gives the answer of every row."""
    path = Path(os.environ["ALIGNER_REAL_DATA"]) / "gsm8k" / "recorded_answers.jsonl"
    replay = load_model(f"replay:{path}?answer={model}.solution")
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    answers = [asyncio.run(replay.complete([Message("user", row["question"])])).text for row in rows]
    assert answers == [row[model]["solution"] for row in rows]
    assert sum(row[model]["is_correct"] for row in rows) == right
