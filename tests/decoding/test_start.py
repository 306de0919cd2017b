"""Laws of the decoder that a model gets."""

import logging
from typing import Any

import pytest
import torch
from families import DRIVEN, UNDRIVEN, random_model

from aligner.decoding.blocks import no_drafts, whole_drafts
from aligner.decoding.decoder import Decoder, Request
from aligner.decoding.generating import GeneratingDecoder
from aligner.decoding.start import start_decoder

PROMPT = [20, 21, 22, 23]
REQUEST = Request(prompt=PROMPT, limit=15, ends=frozenset())


def generated(model: Any) -> list[int]:
    """What transformers itself decodes."""
    ids = torch.tensor([PROMPT])
    options = {"do_sample": False, "max_new_tokens": 15, "eos_token_id": None, "pad_token_id": 0}
    return model.generate(ids, attention_mask=torch.ones_like(ids), **options)[0, len(PROMPT) :].tolist()


@pytest.mark.parametrize("family", DRIVEN)
def test_a_model_that_can_be_driven_decodes_with_drafts(family: str, caplog: pytest.LogCaptureFixture) -> None:
    """Nothing is said, and the tokens are those of `generate`."""
    start = start_decoder(random_model(family), lambda _: whole_drafts)
    decoder = start(3)
    assert isinstance(decoder, Decoder)
    assert decoder.rows == 3
    assert [token for step in decoder.decode([REQUEST]) for token in step.tokens] == generated(random_model(family))
    assert not [record for record in caplog.records if record.name == "aligner"]


@pytest.mark.parametrize("family", ["bloom", "dynamic"])
def test_a_model_that_cannot_decodes_without(family: str, caplog: pytest.LogCaptureFixture) -> None:
    """The log says so once, with the reason, however many decoders are started; the tokens are those of `generate`."""
    model = random_model(family)
    start = start_decoder(model, lambda _: whole_drafts)
    for rows in (1, 5):
        decoder = start(rows)
        assert isinstance(decoder, GeneratingDecoder)
        assert decoder.rows == rows
        assert [step.tokens for step in decoder.decode([REQUEST])] == [generated(model)]
    (record,) = [record for record in caplog.records if record.name == "aligner"]
    assert record.levelno == logging.WARNING
    assert record.getMessage().startswith(f"{type(model).__name__} decodes without drafts: its ")


def test_costs_are_asked_for_only_where_drafts_can_help() -> None:
    """A model that cannot be driven is not measured; one that can is, once."""
    asked: list[object] = []
    for family in (*UNDRIVEN, "llama"):
        start = start_decoder(random_model(family), lambda driven: asked.append(driven) or no_drafts)
        start(1)
        start(2)
    assert len(asked) == 1
