"""Laws of source masking."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny import tiny_model
from transformers import AutoTokenizer

from aligner.records import Triple
from aligner.templates import TEMPLATES, PromptEncoder
from aligner.training.encode import EncodedRow, encode_row
from aligner.training.masking import hiding_ids, kept_places, mask_source
from aligner.training.random_copies import plain_vocabulary, random_copies
from aligner.world.rows import training_rows

_HIDDEN = [0]


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return AutoTokenizer.from_pretrained(tiny_model(tmp_path_factory.mktemp("tiny")))


def _row(tokenizer: Any, triple: Triple, template: str = "sealed") -> EncodedRow:
    return encode_row(PromptEncoder(TEMPLATES[template], tokenizer), tokenizer.eos_token_id, triple)


@given(
    triple=st.builds(Triple, st.text(), st.text(), st.text(), instruction=st.sampled_from(["", "be kind"])),
    template=st.sampled_from(["sealed", "T1", "T4"]),
    seed=st.integers(0, 3),
)
def test_only_kept_tokens_of_the_answer_are_hidden(tokenizer: Any, triple: Triple, template: str, seed: int) -> None:
    """Hiding all that is kept leaves of the answer what the correction changes, and all else as it was."""
    encoder = PromptEncoder(TEMPLATES[template], tokenizer)
    row = encode_row(encoder, tokenizer.eos_token_id, triple)
    assert list(row.ids[row.answer.start : row.answer.stop]) == encoder.text_ids(triple.answer)
    (masked,) = mask_source([row], _HIDDEN, share=1.0, seed=seed)
    kept = set(kept_places(row))
    assert kept <= set(row.answer)
    assert [i for i, (old, new) in enumerate(zip(row.ids, masked.ids, strict=True)) if old != new] == sorted(kept)
    assert (masked.prompt_length, masked.weights, masked.answer) == (row.prompt_length, row.weights, row.answer)
    assert len(kept) == len(row.answer) or not triple.is_identity


def test_the_share_is_that_of_the_kept_tokens(tokenizer: Any) -> None:
    """Over many rows about that share of the kept tokens is hidden, in good answers as in flawed ones."""
    rows = [_row(tokenizer, row.triple) for row in training_rows(count=300, seed=1)]
    masked = mask_source(rows, _HIDDEN, share=0.15, seed=3)
    for good in (True, False):
        pairs = [
            (row, new)
            for row, new in zip(rows, masked, strict=True)
            if (len(kept_places(row)) == len(row.answer)) == good
        ]
        hidden = sum(new.ids.count(0) for _, new in pairs)
        assert hidden / sum(len(kept_places(row)) for row, _ in pairs) == pytest.approx(0.15, abs=0.02)
    assert masked == mask_source(rows, _HIDDEN, share=0.15, seed=3) != mask_source(rows, _HIDDEN, share=0.15, seed=4)


def test_no_share_hides_nothing_and_a_row_that_comes_again_is_masked_anew(tokenizer: Any) -> None:
    """Off, the rows are those that were given; on, the same row in two epochs has two masks."""
    row = _row(tokenizer, Triple("What is it?", "It is a long answer, indeed.", "It is a long answer, indeed."))
    assert mask_source([row, row], _HIDDEN, share=0.0, seed=1) == [row, row]
    first, second = mask_source([row, row], _HIDDEN, share=0.5, seed=1)
    assert first != second


def test_random_copies_are_never_masked(tokenizer: Any) -> None:
    """What cannot be guessed from anything else is not hidden."""
    encoder = PromptEncoder(TEMPLATES["sealed"], tokenizer)
    rows = random_copies(encoder, tokenizer.eos_token_id, plain_vocabulary(encoder, 300), count=20, seed=1)
    assert mask_source(rows, _HIDDEN, share=1.0, seed=1) == rows


@pytest.mark.parametrize(
    ("own", "expected"),
    [
        ({}, ["<pad>"]),
        ({"mask_token_id": 9, "unk_token_id": 8}, [9]),
        ({"unk_token_id": 8}, [8]),
        ({"pad_token_id": 2}, None),
        ({"pad_token_id": None}, None),
        ({"unk_token_id": 4, "pad_token_id": 1}, None),
    ],
)
def test_what_hides_a_token_has_no_other_meaning(
    tokenizer: Any, own: dict[str, int | None], expected: list[int | str] | None
) -> None:
    """A token for masks, for the unknown or for padding, unless it ends texts or stands in the template; else any."""
    encoder = PromptEncoder(TEMPLATES["sealed"], tokenizer)
    names = ("mask_token_id", "unk_token_id", "pad_token_id", "eos_token_id", "bos_token_id")
    found = hiding_ids(encoder, _Sized({name: getattr(tokenizer, name) for name in names} | own, len(tokenizer)))
    if expected is None:
        assert found == plain_vocabulary(encoder, len(tokenizer))
        assert encoder.control_ids.isdisjoint(found)
    else:
        assert found == [tokenizer.convert_tokens_to_ids(i) if isinstance(i, str) else i for i in expected]


class _Sized:
    """A tokenizer with other special tokens."""

    def __init__(self, told: dict[str, int | None], size: int) -> None:
        self.__dict__.update(told)
        self._size = size

    def __len__(self) -> int:
        return self._size
