"""Laws of the losses on edited and on copied tokens."""

from pathlib import Path

import pytest
import torch
from tiny import Family, tiny_model

from aligner.models.hf import load_causal_lm
from aligner.records import Triple
from aligner.templates import TEMPLATES, PromptEncoder
from aligner.training.encode import edited, encode_row
from aligner.training.losses import row_losses
from aligner.training.measuring import TokenLoss

_TRIPLES = [
    Triple("What?", "It is no.", "It is yes."),
    Triple("Who are you?", "I am a model.", "I am a model."),
    Triple("Why so long?", "Because it is very, very long.", "Because."),
    Triple("Where?", "There " * 60, "Here."),
]


@pytest.mark.parametrize("family", ["llama", "gemma"])
def test_the_losses_are_those_of_a_plain_implementation(tmp_path: Path, family: Family) -> None:
    """Row by row and token by token, the model itself gives the same; rows that are too long have none."""
    lm = load_causal_lm(tiny_model(tmp_path, family), "cpu")
    encoder, eos_id = PromptEncoder(TEMPLATES["sealed"], lm.tokenizer), lm.tokenizer.eos_token_id
    model = lm.model.double().train()
    found = row_losses(model, encoder, eos_id, _TRIPLES, max_length=100)
    assert model.training
    assert found[-1] == TokenLoss()
    model.eval()
    for triple, loss in zip(_TRIPLES[:-1], found, strict=False):
        row = encode_row(encoder, eos_id, triple)
        is_edit = edited(encoder.text_ids(triple.answer), row.ids[row.prompt_length :])
        with torch.no_grad():
            scores = model(input_ids=torch.tensor([row.ids])).logits[0].log_softmax(-1)
        lost = [-float(scores[place - 1, row.ids[place]]) for place in range(row.prompt_length, len(row.ids))]
        edit = [one for one, is_one in zip(lost, is_edit, strict=True) if is_one]
        copy = [one for one, is_one in zip(lost, is_edit, strict=True) if not is_one]
        assert (loss.edited_tokens, loss.copied_tokens) == (len(edit), len(copy))
        assert loss.edited == pytest.approx(sum(edit), rel=1e-5)
        assert loss.copied == pytest.approx(sum(copy), rel=1e-5)
    assert found[1].edited_tokens == 0 < found[2].edited_tokens


def test_no_rows_have_no_losses(tmp_path: Path) -> None:
    """Nothing is read where nothing is to be scored."""
    lm = load_causal_lm(tiny_model(tmp_path), "cpu")
    encoder = PromptEncoder(TEMPLATES["sealed"], lm.tokenizer)
    assert row_losses(lm.model, encoder, lm.tokenizer.eos_token_id, [], max_length=100) == []
    assert row_losses(lm.model, encoder, lm.tokenizer.eos_token_id, _TRIPLES[:1], max_length=3) == [TokenLoss()]
