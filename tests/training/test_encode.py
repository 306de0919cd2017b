"""Laws of encoding triples for training."""

from collections import Counter
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny import tiny_model
from transformers import AutoTokenizer

from aligner.records import Triple
from aligner.templates import TEMPLATES, PromptEncoder
from aligner.training.encode import (
    IGNORED,
    EncodedRow,
    collate,
    encode_row,
    encode_rows,
    grouped_by_length,
    preview,
    shuffled,
)


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return AutoTokenizer.from_pretrained(tiny_model(tmp_path_factory.mktemp("tiny")))


_ROWS = st.lists(
    st.integers(1, 30).map(lambda size: EncodedRow(tuple(range(size)), size // 2)),
    min_size=1,
    max_size=60,
)


@given(question=st.text(), answer=st.text(), correction=st.text())
def test_the_loss_is_on_the_correction_and_the_end_alone(
    tokenizer: Any, question: str, answer: str, correction: str
) -> None:
    """What bears loss decodes to the correction and the end-of-text token, whatever the three texts hold."""
    encoder = PromptEncoder(TEMPLATES["sealed"], tokenizer)
    row = encode_row(encoder, tokenizer.eos_token_id, Triple(question, answer, correction))
    learnt = [label for label in row.labels if label != IGNORED]
    assert learnt[-1] == tokenizer.eos_token_id
    assert tokenizer.decode(learnt[:-1]) == correction
    assert list(row.ids[: row.prompt_length]) == encoder.prompt_ids(question, answer)


def test_rows_that_are_too_long_are_named(tokenizer: Any) -> None:
    """Rows beyond the limit are left out, and their places are told."""
    encoder = PromptEncoder(TEMPLATES["sealed"], tokenizer)
    triples = [Triple("a", "b", "c"), Triple("a", "b" * 400, "c"), Triple("a", "b", "c" * 400)]
    encoded = encode_rows(encoder, tokenizer.eos_token_id, triples, max_length=100)
    assert encoded.too_long == [1, 2]
    assert len(encoded.rows) == 1


@given(_ROWS, st.integers(1, 7), st.integers(0, 5))
def test_grouping_moves_rows_and_loses_none(rows: list[EncodedRow], batch: int, seed: int) -> None:
    """Grouping by length is a reordering, stays within eight batches, and is the same for the same seed."""
    grouped = grouped_by_length(rows, batch=batch, seed=seed)
    assert Counter(grouped) == Counter(rows)
    size = 8 * batch
    assert [Counter(grouped[i : i + size]) for i in range(0, len(rows), size)] == [
        Counter(rows[i : i + size]) for i in range(0, len(rows), size)
    ]
    assert grouped == grouped_by_length(rows, batch=batch, seed=seed)


@given(_ROWS, st.integers(1, 3), st.integers(0, 5))
def test_an_epoch_has_every_row_once(rows: list[EncodedRow], epochs: int, seed: int) -> None:
    """Each whole epoch is a reordering of the rows, and half an epoch has half of them."""
    order = shuffled(rows, epochs=epochs, seed=seed)
    assert all(Counter(order[i : i + len(rows)]) == Counter(rows) for i in range(0, len(order), len(rows)))
    assert len(shuffled(rows, epochs=0.5, seed=seed)) == round(len(rows) / 2)


@given(_ROWS)
def test_padding_bears_no_loss(rows: list[EncodedRow]) -> None:
    """A batch holds each row from its first column on, and every other label is ignored."""
    examples = [{"input_ids": list(row.ids), "labels": row.labels} for row in rows]
    batch = collate(examples, pad_id=99)
    for row, ids, labels in zip(rows, batch["input_ids"], batch["labels"], strict=True):
        assert ids[: len(row.ids)].tolist() == list(row.ids)
        assert labels[: len(row.ids)].tolist() == row.labels
        assert torch.all(ids[len(row.ids) :] == 99)
        assert torch.all(labels[len(row.ids) :] == IGNORED)


def test_a_preview_shows_where_the_loss_is(tokenizer: Any) -> None:
    """The part of the preview that bears loss is the correction with the end-of-text token."""
    encoder = PromptEncoder(TEMPLATES["sealed"], tokenizer)
    row = encode_row(encoder, tokenizer.eos_token_id, Triple("Who?", "I am a spider.", "I am a model."))
    shown = preview(tokenizer, row)
    assert shown.plain == "<|question|>Who?<|answer|>I am a spider.<|correction|>I am a model.</s>"
    (green,) = [span for span in shown.spans if "green" in str(span.style)]
    assert shown.plain[green.start : green.end] == "I am a model.</s>"


def test_a_preview_hides_control_characters(tokenizer: Any) -> None:
    """What a row does to a terminal is shown, not done."""
    encoder = PromptEncoder(TEMPLATES["sealed"], tokenizer)
    row = encode_row(encoder, tokenizer.eos_token_id, Triple("\x1b[2J", "\x07", "\x9b31m"))
    assert not {"\x1b", "\x07", "\x9b"} & set(preview(tokenizer, row).plain)
