"""Laws of encoding triples for training."""

from collections import Counter
from functools import partial
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny import tiny_model
from transformers import AutoTokenizer

from aligner.records import Triple
from aligner.templates import TEMPLATES, PromptEncoder
from aligner.training.encode import (
    IGNORED,
    EncodedRow,
    edit_weights,
    edited,
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


_IDS = st.lists(st.integers(0, 3), max_size=12)


@given(_IDS, _IDS)
def test_what_is_no_edit_is_the_answers(answer: list[int], correction: list[int]) -> None:
    """Learnt ids that are no edits stand in the answer in the same order, and an answer that is copied has no edits."""
    marks = edited(answer, [*correction, 9])
    kept = [i for i, is_edit in zip(correction, marks, strict=False) if not is_edit]
    left = iter(answer)
    assert len(marks) == len(correction) + 1
    assert all(i in left for i in kept)
    assert any(marks) == (answer != correction)


@pytest.mark.parametrize(
    ("answer", "correction", "edits"),
    [
        ([1, 2, 3], [1, 5, 3], [0, 1, 0, 0]),  # replaced
        ([1, 2, 3], [1, 3], [0, 1, 0]),  # taken out: the first one behind
        ([1, 2, 3], [1, 2], [0, 0, 1]),  # at the very end: the end of the text
        ([1, 2, 3], [1, 2, 4, 5, 3], [0, 0, 1, 1, 0, 0]),  # put in
        ([1, 2, 3, 4], [1, 5, 4], [0, 1, 0, 0]),  # two for one: nothing behind it
        ([1, 2], [3, 4, 5], [1, 1, 1, 0]),  # all of it
        ([1, 2], [], [1]),
        ([], [1], [1, 0]),
    ],
)
def test_edits_are_what_is_new_or_follows_a_gap(answer: list[int], correction: list[int], edits: list[int]) -> None:
    """Replaced and added ids are edits, and the first one behind a deletion, which may be the end of the text."""
    assert edited(answer, [*correction, 9]) == tuple(map(bool, edits))
    assert edit_weights(answer, [*correction, 9], edit=3.0, copy=0.5) == tuple(3.0 if i else 0.5 for i in edits)


def test_a_row_carries_the_weights_of_its_learnt_ids(tokenizer: Any) -> None:
    """Each id of the correction and the end of the text has a weight, and rows that are not weighed have none."""
    encoder = PromptEncoder(TEMPLATES["sealed"], tokenizer)
    weigh = partial(edit_weights, edit=4.0, copy=1.0)
    triple = Triple("Who?", "I am a spider.", "I am a model.")
    row = encode_row(encoder, tokenizer.eos_token_id, triple, weigh)
    weighty = [i for i, weight in zip(row.ids[row.prompt_length :], row.weights, strict=True) if weight == 4.0]
    assert tokenizer.decode(weighty).strip() in "model"
    assert encode_rows(encoder, tokenizer.eos_token_id, [triple], max_length=99, weigh=weigh).rows == [row]
    assert encode_row(encoder, tokenizer.eos_token_id, triple).weights == ()


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
