"""Laws of a language model as a writer, on a tiny random one."""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny import EXCHANGES, Family, exact_writer, tiny_aligner, tiny_model, written
from transformers import AutoModelForCausalLM, AutoTokenizer, BloomConfig

from aligner.correct import Aligner
from aligner.correcting.lm_writer import LMWriter, load_checkpoint, spans_of
from aligner.correcting.writers import Writer
from aligner.errors import CheckpointError
from aligner.models.hf import load_causal_lm
from aligner.records import Completion, Exchange, Message, SamplingParams
from aligner.templates import TEMPLATES
from aligner.training.card import Card, weights_hash

GREEDY = SamplingParams()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_aligner(tmp_path_factory.mktemp("aligner"))


@pytest.fixture(scope="module")
def writer(folder: Path) -> LMWriter:
    return exact_writer(folder)


def streamed(writer: Writer, exchange: Exchange, sampling: SamplingParams = GREEDY) -> tuple[list[str], Completion]:
    """The pieces of a stream and what it returns."""
    pieces: list[str] = []
    stream = writer.stream(exchange, sampling)
    while True:
        try:
            pieces.append(next(stream))
        except StopIteration as end:
            return pieces, end.value


def test_a_batch_is_its_rows_alone(writer: LMWriter) -> None:
    """What is written together is what is written one by one, in order; some texts end, and some are cut off."""
    alone = [written(writer.write([exchange], GREEDY)[0]) for exchange in EXCHANGES]
    for batch in (1, 2, 3, 16):
        together = writer.write(EXCHANGES, GREEDY, batch=batch)
        assert list(map(written, together)) == alone
    assert {completion.finish_reason for completion in together} == {"stop", "length"}


def test_a_completion_is_the_text_of_the_ids(folder: Path, writer: LMWriter) -> None:
    """The text is what transformers decodes, without the end token, and usage counts prompt and ids."""
    model = load_causal_lm(folder, "cpu").model.double()
    for exchange in EXCHANGES:
        prompt = writer.encoder.prompt_ids(exchange.question, exchange.answer)
        given = torch.tensor([prompt])
        whole = model.generate(given, max_new_tokens=writer.context - len(prompt), do_sample=False, pad_token_id=0)
        ids = whole[0, len(prompt) :].tolist()
        (completion,) = writer.write([exchange], GREEDY)
        assert completion.text == writer.codec.decode(ids)
        assert completion.finish_reason == ("stop" if ids[-1] == writer.codec.end else "length")
        assert (completion.usage.prompt_tokens, completion.usage.completion_tokens) == (len(prompt), len(ids))


def test_doubt_is_a_figure_for_each_token_of_the_answer(writer: LMWriter) -> None:
    """Asked for, it comes with the correction, which stays the same; the lowest certainty is the confidence's bound."""
    for exchange in EXCHANGES:
        correction = Aligner(writer).correct(exchange.question, exchange.answer, doubt=True)
        assert correction.text == Aligner(writer).correct(exchange.question, exchange.answer).text
        assert correction.doubt is not None
        assert len(correction.doubt) == len(writer.encoder.text_ids(exchange.answer))
        assert all(0 <= doubt <= 1 for doubt in correction.doubt)
        assert correction.spans is not None
        assert len(correction.spans) == len(correction.doubt)
        assert correction.spans[-1][1] == len(exchange.answer)
        assert correction.confidence is not None
        assert 0 <= correction.confidence <= 1


@given(st.text(max_size=60))
def test_tokens_know_their_characters(writer: LMWriter, text: str) -> None:
    """Their spans go through the text without a gap; tokens that share a letter all have the whole of it."""
    spans = spans_of(ids := writer.encoder.text_ids(text), text, writer.codec.decode)
    assert spans is not None
    assert len(spans) == len(ids)
    whole = list(dict.fromkeys(spans))
    assert "".join(text[start:end] for start, end in whole) == text
    assert [start for start, _ in whole] == [0, *(end for _, end in whole)][: len(whole)]
    assert spans_of(ids, text + "x", writer.codec.decode) is None


@pytest.mark.parametrize("sampling", [GREEDY, SamplingParams(temperature=2.0, seed=5), SamplingParams(max_tokens=3)])
def test_a_stream_adds_up_to_what_is_written(writer: LMWriter, sampling: SamplingParams) -> None:
    """The pieces are the text of the completion, which is the one written at once."""
    for exchange in EXCHANGES[:4]:
        pieces, completion = streamed(writer, exchange, sampling)
        assert "".join(pieces) == completion.text
        assert written(completion) == written(writer.write([exchange], sampling)[0])


def test_a_stop_string_ends_the_text(writer: LMWriter) -> None:
    """The text ends before it, streamed or not, and was not cut off."""
    whole = max((writer.write([exchange], GREEDY)[0].text, exchange) for exchange in EXCHANGES)
    text, exchange = whole
    stop = text[len(text) // 2 :][:3]
    sampling = SamplingParams(stop=("never said", stop))
    (completion,) = writer.write([exchange], sampling)
    assert (completion.text, completion.finish_reason) == (text[: text.index(stop)], "stop")
    pieces, end = streamed(writer, exchange, sampling)
    assert "".join(pieces) == end.text == completion.text
    assert end.finish_reason == "stop"


def test_what_does_not_fit_the_context_is_not_written(writer: LMWriter) -> None:
    """A prompt that fills the context writes nothing and says so, without harm to those beside it."""
    long = Exchange("why " * 300, "so")
    completions = writer.write([EXCHANGES[0], long, EXCHANGES[1]], GREEDY)
    assert [completion.finish_reason == "context" for completion in completions] == [False, True, False]
    assert list(map(written, [completions[0], completions[2]])) == list(
        map(written, writer.write(EXCHANGES[:2], GREEDY))
    )
    assert streamed(writer, long) == ([], completions[1])
    assert completions[1].text == ""
    assert completions[1].usage.prompt_tokens > writer.context


@pytest.mark.parametrize("free", [0, 1])
def test_the_context_is_used_to_its_last_token(writer: LMWriter, free: int) -> None:
    """Prompt and correction together fill the context and never pass it."""
    prompt = writer.encoder.prompt_ids("What?", "no.")
    narrow = replace(writer, context=len(prompt) + free)
    (completion,) = narrow.write([Exchange("What?", "no.")], GREEDY)
    assert completion.usage.completion_tokens == free
    assert (completion.finish_reason == "context") == (free == 0)


@pytest.mark.parametrize("family", ["llama", "qwen3", "gemma"])
def test_every_family_corrects(tmp_path: Path, family: Family) -> None:
    """A checkpoint of any family is loaded and corrects, and a conversation may be the question."""
    tiny_model(tmp_path, family)
    card(tmp_path).save(tmp_path)
    writer = load_checkpoint(str(tmp_path), "cpu")
    asked = (Message("user", "Hi"), Message("assistant", "Ho"), Message("user", "Who are you?"))
    correction = Aligner(writer).correct(asked, "Me.", sampling=SamplingParams(max_tokens=8))
    assert correction.usage.prompt_tokens == len(writer.encoder.prompt_ids(asked, "Me."))
    assert correction.usage.completion_tokens in range(1, 9)
    assert (correction.text != "Me.") == correction.changed


def test_a_family_that_names_no_context_corrects_too(tmp_path: Path) -> None:
    """The tokenizer's limit counts then."""
    tokenizer = AutoTokenizer.from_pretrained(tiny_model(tmp_path, context=100))
    AutoModelForCausalLM.from_config(
        BloomConfig(vocab_size=len(tokenizer), hidden_size=32, n_layer=1, n_head=4, eos_token_id=tokenizer.eos_token_id)
    ).save_pretrained(tmp_path)
    card(tmp_path).save(tmp_path)
    writer = load_checkpoint(str(tmp_path), "cpu")
    assert writer.context == 100
    assert writer.write(EXCHANGES[:1], SamplingParams(max_tokens=4))[0].usage.completion_tokens in range(1, 5)


def card(folder: Path, **fields: Any) -> Card:
    """A card for the weights in a folder."""
    empty: dict[str, Any] = {"data": {}, "training": {}, "measured": {}, "packages": {}}
    made = Card(template=TEMPLATES["sealed"], base="new", weights=weights_hash(folder), **empty)
    return replace(made, **fields)


def test_a_fingerprint_is_that_of_weights_and_template(folder: Path, tmp_path: Path) -> None:
    """Other weights or another template have another fingerprint; loaded again, it is the same."""
    copies = [shutil.copytree(folder, tmp_path / name / "a") for name in ("same", "template", "weights")]
    card(folder, template=replace(TEMPLATES["sealed"], text="<|question|>{question}{answer}")).save(copies[1])
    card(folder, weights="others").save(copies[2])
    same, template, weights = (load_checkpoint(str(copy), "cpu").fingerprint for copy in copies)
    assert same == load_checkpoint(str(copies[0]), "cpu").fingerprint
    assert len({same, template, weights}) == 3


def test_a_folder_without_a_card_is_no_aligner(tmp_path: Path) -> None:
    """A plain model is told apart, before its weights are loaded, and a damaged card is named."""
    tiny_model(tmp_path)
    with pytest.raises(CheckpointError, match=r"not an Aligner, it has no aligner\.json; an Aligner's folder is what"):
        load_checkpoint(str(tmp_path), "cpu")
    for text in ("{", "[]", "{}", '{"template": {"name": "x"}}'):
        (tmp_path / "aligner.json").write_text(text)
        with pytest.raises(CheckpointError, match=r"aligner\.json: damaged, or of another version of this package"):
            load_checkpoint(str(tmp_path), "cpu")
