"""Exports: every row loads in the format of its target, and no text of a row forges a part of a prompt."""

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
import yaml
from counted_build import FACTS, built, checked_of, config_of, question_of
from datasets import Dataset, load_dataset
from hypothesis import given
from hypothesis import strategies as st
from tiny import tiny_model
from transformers import AutoTokenizer, PreTrainedTokenizerBase
from trl.data_utils import apply_chat_template, is_conversational, maybe_extract_prompt, unpair_preference_dataset
from trl.trainer.dpo_config import DPOConfig
from trl.trainer.dpo_trainer import DPOTrainer
from trl.trainer.kto_config import KTOConfig
from trl.trainer.kto_trainer import KTOTrainer
from trl.trainer.sft_config import SFTConfig
from trl.trainer.sft_trainer import SFTTrainer

from aligner.building import output
from aligner.building.exports import plain, prompt_text, rows_for
from aligner.config import BuildFilters
from aligner.config.building import ExportFormat
from aligner.data.fields import kind_of
from aligner.records import as_messages
from aligner.templates import TEMPLATES, PromptEncoder, Template, template_named

_CHAT = (
    "{% for m in messages %}[{{ m.role }}]{{ m.content }}{{ eos_token }}{% endfor %}"
    "{% if add_generation_prompt %}[assistant]{% endif %}"
)
_ALL: tuple[ExportFormat, ...] = ("trl", "trl-preference", "kto", "axolotl", "llama-factory")


@pytest.fixture(scope="module", params=["sealed", "T4", "chat"])
def exports(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The exports of the small build under a template."""
    out = tmp_path_factory.mktemp("build")
    with built(out) as build:
        return output.write(config_of(out, filters=BuildFilters(template=request.param)), *build, FACTS) / "exports"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("tiny"), context=2048)


@pytest.fixture(scope="module")
def tokenizer(model: Path) -> PreTrainedTokenizerBase:
    found = cast(PreTrainedTokenizerBase, AutoTokenizer.from_pretrained(model))
    found.chat_template = _CHAT
    return found


def loaded(path: Path, cache: Path) -> Dataset:
    """A file as `datasets` reads it."""
    return load_dataset("json", data_files=str(path), split="train", cache_dir=str(cache))


def rows_of(path: Path) -> list[dict[str, Any]]:
    """The rows of a file."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_splits_are_kept_apart(exports: Path) -> None:
    """Each format has its training rows in one file and the others beside it; an edit alone makes a preference."""
    counts = {
        name: (len(rows_of(exports / f"{name}.jsonl")), len(rows_of(exports / f"{name}-validation.jsonl")))
        for name in _ALL
    }
    # Of 10 rows for training 4 are good as they are, of 2 for validation 1.
    assert counts == {
        "trl": (10, 2),
        "trl-preference": (6, 1),
        "kto": (16, 3),
        "axolotl": (10, 2),
        "llama-factory": (10, 2),
    }
    assert not list(exports.glob("*-test.jsonl"))


def test_trl_prompt_and_completion(exports: Path, tmp_path: Path, tokenizer: PreTrainedTokenizerBase) -> None:
    """`trl` rows are what TRL calls prompt-completion, standard or conversational, and its conversion takes each."""
    data = loaded(exports / "trl.jsonl", tmp_path)
    assert set(data.column_names) == {"prompt", "completion"}
    for row in data:
        told = cast("dict[str, Any]", row)
        applied = apply_chat_template(told, tokenizer) if is_conversational(told) else told
        assert applied["prompt"]
        assert applied["completion"]


def test_trl_preferences(exports: Path, tmp_path: Path, tokenizer: PreTrainedTokenizerBase) -> None:
    """`trl-preference` rows are conversational preferences with an explicit prompt, and TRL makes KTO rows of them."""
    data = loaded(exports / "trl-preference.jsonl", tmp_path)
    assert set(data.column_names) == {"prompt", "chosen", "rejected"}
    for row in data:
        told = cast("dict[str, Any]", row)
        assert is_conversational(told)
        assert maybe_extract_prompt(told) == told
        applied = apply_chat_template(told, tokenizer)
        assert applied["chosen"] != applied["rejected"]
        assert applied["prompt"].endswith("[assistant]")
    unpaired = unpair_preference_dataset(data)
    assert set(unpaired.column_names) == {"prompt", "completion", "label"}
    assert len(unpaired) == 2 * len(data)


def test_kto(exports: Path, tmp_path: Path, tokenizer: PreTrainedTokenizerBase) -> None:
    """`kto` rows are what TRL calls unpaired preferences: a correction is wanted, an answer that needed one is not."""
    data = loaded(exports / "kto.jsonl", tmp_path)
    assert set(data.column_names) == {"prompt", "completion", "label"}
    assert Counter(data["label"]) == {True: 10, False: 6}
    for row in data:
        applied = apply_chat_template(cast("dict[str, Any]", row), tokenizer)
        assert applied["prompt"]
        assert applied["completion"]


@pytest.mark.slow
def test_trainers_of_trl_take_the_rows(
    exports: Path, tmp_path: Path, model: Path, tokenizer: PreTrainedTokenizerBase
) -> None:
    """The trainers of TRL for SFT, DPO and KTO prepare every row, and lose none."""
    options: dict[str, Any] = {
        "output_dir": str(tmp_path),
        "report_to": [],
        "use_cpu": True,
        "bf16": False,
        "activation_checkpointing": False,
        "max_length": 2048,
    }
    kinds: tuple[tuple[str, Any, Any], ...] = (
        ("trl", SFTTrainer, SFTConfig),
        ("trl-preference", DPOTrainer, DPOConfig),
        ("kto", KTOTrainer, KTOConfig),
    )
    for name, trainer, config in kinds:
        data = loaded(exports / f"{name}.jsonl", tmp_path / name)
        made: Any = cast(Any, trainer)(
            str(model), args=config(**options), train_dataset=data, processing_class=tokenizer
        )
        assert len(made.train_dataset) == len(data)


def test_axolotl(exports: Path) -> None:
    """Axolotl's configuration names a file that is there and fields that all of its rows have.

    Checked against axolotl-ai-cloud/axolotl, docs/dataset-formats/index.qmd: "Custom Instruct Prompt Format" (`type` is
    a table of `system_prompt`, `field_instruction`, `field_output`, `format`, `no_input_format`) and "Chat Template
    Usage" (`type: chat_template`, `field_messages`, `roles_to_train`; messages of `role` and `content`). Axolotl puts
    the end of the text behind an output itself (src/axolotl/prompt_tokenizers.py, InstructionPromptTokenizingStrategy).
    """
    told = yaml.safe_load((exports / "axolotl.yml").read_text(encoding="utf-8"))
    assert told["train_on_inputs"] is False
    (data,) = told["datasets"]
    rows = rows_of(exports / data["path"])
    if data["type"] == "chat_template":
        assert data["roles_to_train"] == ["assistant"]
        for row in rows:
            assert [set(turn) for turn in row[data["field_messages"]]] == [{"role", "content"}] * 3
            assert [turn["role"] for turn in row["messages"]] == ["system", "user", "assistant"]
        return
    kind = data["type"]
    assert set(kind) == {"system_prompt", "field_instruction", "field_output", "format", "no_input_format"}
    for row in rows:
        instruction, answer = row[kind["field_instruction"]], row[kind["field_output"]]
        assert kind["no_input_format"].format(instruction=instruction) == instruction
        assert isinstance(answer, str)
        assert "input" not in row


def test_llama_factory(exports: Path) -> None:
    """`dataset_info.json` names files that are there and columns that all of their rows have, as texts.

    Checked against hiyouga/LLaMA-Factory, data/README.md, "Alpaca Format" (`file_name` and `columns` with `prompt`,
    `query`, `response`, `system`; a prompt and a response are required) and src/llamafactory/data/converter.py,
    AlpacaDatasetConverter (an absent `query` adds nothing to the prompt).
    """
    told = json.loads((exports / "dataset_info.json").read_text(encoding="utf-8"))
    assert set(told) == {"aligner_train", "aligner_validation"}
    for one in told.values():
        assert set(one) == {"file_name", "columns"}
        assert {"prompt", "response"} <= set(one["columns"]) <= {"prompt", "query", "response", "system"}
        for row in rows_of(exports / one["file_name"]):
            assert set(row) == set(one["columns"].values())
            assert {kind_of(value) for value in row.values()} == {"text"}
            assert row["instruction"]


def test_preferences_have_the_question_as_it_was(exports: Path) -> None:
    """A preference is about the question itself: its turns are the prompt, and the correction is what is chosen."""
    checked = [checked_of(number, upstream=upstream) for number in range(12) for upstream in ("small", "large")]
    known = {row.correction: row for row in checked if row.kind == "edit"}
    for row in rows_of(exports / "trl-preference.jsonl"):
        told = known[row["chosen"][0]["content"]]
        assert row["rejected"] == [{"role": "assistant", "content": told.answer}]
        assert [turn["content"] for turn in row["prompt"]] == [turn.content for turn in as_messages(told.question)]


_TEXT = st.one_of(
    st.text(), st.sampled_from(["{answer}", "{question}", "<|answer|>", "<|correction|>", "<|<|answer|>answer|>"])
)


@pytest.mark.parametrize("name", sorted(TEMPLATES))
@given(question=_TEXT, answer=_TEXT)
def test_a_prompt_holds_each_text_once(name: str, question: str, answer: str) -> None:
    """Slots are filled in one pass: a text that looks like a slot stays what it is."""
    template = template_named(name)
    before, between_and_after = template.text.split("{question}")
    between, after = between_and_after.split("{answer}")
    expected = before + plain(template, question) + between + plain(template, answer) + after
    assert prompt_text(template, question, answer) == expected


@given(
    parts=st.lists(
        st.sampled_from([*TEMPLATES["sealed"].controls, "<|", "|>", "answer", "\\", "<", "|", "é"]), max_size=12
    )
)
def test_no_text_holds_a_control_token(parts: list[str]) -> None:
    """Whatever a text is, none of the template's control tokens is left in it, and other texts stay as they are."""
    template, text = TEMPLATES["sealed"], "".join(parts)
    found = plain(template, text)
    assert not any(token in found for token in template.controls)
    assert found == text or any(token in text for token in template.controls)


@pytest.mark.parametrize("name", ["sealed", "T1", "T4"])
@pytest.mark.parametrize("number", [1, 3])
def test_text_reads_as_the_aligner_s_prompt(name: str, number: int, tokenizer: PreTrainedTokenizerBase) -> None:
    """Without control tokens in the texts, what a trainer encodes is the prompt that the Aligner reads."""
    template: Template = template_named(name)
    question = question_of(number)
    clean = (
        question.replace("<|answer|>", "")
        if isinstance(question, str)
        else tuple(replace(turn, content=turn.content.replace("<|answer|>", "")) for turn in question)
    )
    ids = tokenizer(prompt_text(template, clean, "An answer."), add_special_tokens=False)["input_ids"]
    encoder = PromptEncoder(template, cast(Any, tokenizer))
    found = encoder.prompt_ids(clean, "An answer.")
    assert tokenizer.decode(ids) == tokenizer.decode(found)


def test_rows_of_each_format_are_pure() -> None:
    """The same triple makes the same rows again, in every format."""
    for name in _ALL:
        rows = [list(rows_for(name, TEMPLATES["sealed"], checked_of(1))) for _ in range(2)]
        assert rows[0] == rows[1]
        assert rows[0]
