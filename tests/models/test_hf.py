"""Laws of Hugging Face models in this process, on tiny random ones of real families."""

import asyncio
import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import AsyncGenerator, Callable
from pathlib import Path
from typing import Any, cast, get_args

import pytest
import torch
from tiny import Family, tiny_model
from transformers import AutoModelForCausalLM, AutoTokenizer, BloomConfig, LlamaConfig, LlamaForSequenceClassification

from aligner.errors import CheckpointError, MisuseError, ModelError
from aligner.models import load_model
from aligner.models.generating import prompt_ids
from aligner.models.hf import HFModel, load, load_causal_lm
from aligner.records import Completion, Message, SamplingParams, Usage

ASKED = [Message("system", "Be brief."), Message("user", "What is the capital of France?")]
SHORT = SamplingParams(max_tokens=24)
NOISY = SamplingParams(temperature=1.0, max_tokens=40, seed=3)
CHAT = "{% for m in messages %}<{{ m.role }}>{{ m.content }}\n{% endfor %}<assistant>"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("llama"))


@pytest.fixture(scope="module")
def model(folder: Path) -> HFModel:
    return load(str(folder))


def complete(model: Any, sampling: SamplingParams = SHORT, messages: list[Message] = ASKED) -> Completion:
    return asyncio.run(model.complete(messages, sampling))


def streamed(model: Any, sampling: SamplingParams = SHORT, messages: list[Message] = ASKED) -> list[str]:
    async def run() -> list[str]:
        return [piece async for piece in model.stream(messages, sampling)]

    return asyncio.run(run())


def plain_greedy(folder: Path, steps: int) -> Completion:
    """The likeliest next tokens, by one full forward pass for each."""
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    prompt = prompt_ids(tokenizer, ASKED)
    ids = torch.tensor([prompt])
    with torch.inference_mode():
        while ids.shape[1] < len(prompt) + steps and ids[0, -1] != tokenizer.eos_token_id:
            ids = torch.cat([ids, model(ids).logits[:, -1:].argmax(-1)], dim=1)
    new = ids[0, len(prompt) :].tolist()
    text = tokenizer.decode(new, skip_special_tokens=True, clean_up_tokenization_spaces=False)
    return Completion(text, "stop" if tokenizer.eos_token_id in new else "length", Usage(len(prompt), len(new)))


@pytest.mark.parametrize("family", get_args(Family))
def test_greedy_answers_are_those_of_plain_decoding(tmp_path: Path, family: Family) -> None:
    """With every family, the text is the likeliest tokens', streamed or not, and usage counts them."""
    folder = tiny_model(tmp_path, family)
    model = load_model(f"hf:{folder}")
    answer = complete(model)
    assert answer == plain_greedy(folder, 24)
    assert "".join(streamed(model)) == answer.text


def test_weights_are_read_as_it_is_asked(folder: Path) -> None:
    """On a CPU that is float32 unless another kind is asked for."""
    kinds = [load_causal_lm(folder, "cpu", dtype=dtype).model.dtype for dtype in (None, torch.bfloat16, torch.float64)]
    assert kinds == [torch.float32, torch.bfloat16, torch.float64]


@pytest.mark.parametrize("seed", range(6))
def test_pieces_add_up_to_the_answer(model: HFModel, seed: int) -> None:
    """Random tokens make broken characters; the pieces add up all the same, and the same seed gives the same answer."""
    sampling = SamplingParams(temperature=3.0, max_tokens=60, seed=seed)
    answer = complete(model, sampling)
    pieces = streamed(model, sampling)
    assert "".join(pieces) == answer.text
    assert len(pieces) > 1
    assert all(pieces)


def test_the_seed_is_all_that_changes_the_noise(model: HFModel) -> None:
    """Another seed gives another answer, and nobody else's random numbers are moved."""
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    first, second = complete(model, NOISY), complete(model, SamplingParams(temperature=1.0, max_tokens=40, seed=4))
    assert torch.equal(torch.rand(3), expected)
    assert first != second
    assert first == complete(model, NOISY)


def test_sampling_without_choice_is_greedy(model: HFModel) -> None:
    """Keeping only the likeliest token leaves nothing to chance."""
    greedy = complete(model).text
    assert complete(model, SamplingParams(temperature=1.0, top_k=1, max_tokens=24)).text == greedy
    assert complete(model, SamplingParams(temperature=1.0, top_p=1e-9, max_tokens=24)).text == greedy


def test_an_answer_ends_before_a_stop_string(model: HFModel) -> None:
    """The stop string itself is left out, whether it is in one token or in several."""
    whole = complete(model, NOISY).text
    stop = whole[len(whole) // 2 : len(whole) // 2 + 3]
    sampling = SamplingParams(temperature=1.0, max_tokens=40, seed=3, stop=("never said", stop))
    answer = complete(model, sampling)
    assert answer == Completion(whole[: whole.index(stop)], "stop", answer.usage)
    assert answer.usage.completion_tokens < 40
    assert "".join(streamed(model, sampling)) == answer.text


def test_an_answer_may_have_no_tokens(model: HFModel) -> None:
    """At most no tokens is no text."""
    assert complete(model, SamplingParams(max_tokens=0)).text == ""


def test_an_answer_ends_with_the_end_of_text(tmp_path: Path) -> None:
    """A model that only ever says the end of the text answers nothing, and was not cut off."""
    folder = tiny_model(tmp_path)
    weights = AutoModelForCausalLM.from_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    with torch.no_grad():
        weights.lm_head.weight.zero_()
        weights.lm_head.weight[tokenizer.eos_token_id] = weights.model.norm.weight
        weights.model.layers = weights.model.layers[:0]
        weights.model.embed_tokens.weight.fill_(1.0)
    weights.config.num_hidden_layers, weights.config.tie_word_embeddings = 0, False
    weights.save_pretrained(folder)
    answer = complete(load(str(folder)))
    assert (answer.text, answer.finish_reason, answer.usage.completion_tokens) == ("", "stop", 1)


def test_the_context_bounds_question_and_answer(folder: Path, model: HFModel) -> None:
    """An answer ends where the context does, and a question that fills it is a clear error."""
    tokenizer = model.lm.tokenizer
    long = [Message("user", "a b " * 55)]
    room = 256 - len(prompt_ids(tokenizer, long))
    answer = complete(model, SamplingParams(), long)
    assert 0 < answer.usage.completion_tokens <= room
    assert answer.usage.prompt_tokens + answer.usage.completion_tokens <= 256
    with pytest.raises(ModelError, match=rf"^{folder}: the conversation has [\d,]+ tokens, and the context holds 256$"):
        complete(model, SHORT, [Message("user", "a b " * 500)])


@pytest.mark.parametrize(("longest", "room"), [(64, 64), (10**30, None)])
def test_a_model_without_a_context_is_bound_by_its_tokenizer(tmp_path: Path, longest: int, room: int | None) -> None:
    """Some families name no context; where the tokenizer names none either, `max_tokens` alone counts."""
    tokenizer = AutoTokenizer.from_pretrained(tiny_model(tmp_path))
    AutoModelForCausalLM.from_config(
        BloomConfig(vocab_size=len(tokenizer), hidden_size=32, n_layer=1, n_head=4, eos_token_id=None)
    ).save_pretrained(tmp_path)
    tokenizer.model_max_length = longest
    tokenizer.save_pretrained(tmp_path)
    usage = complete(load(str(tmp_path)), SamplingParams(temperature=1.0, seed=0, max_tokens=300)).usage
    assert usage.completion_tokens <= (room - usage.prompt_tokens if room else 300)
    assert room is None or usage.prompt_tokens + usage.completion_tokens <= room


def test_a_chat_template_is_used(tmp_path: Path) -> None:
    """A model that knows a chat format is asked in it, and plain turns are for the others."""
    folder = tiny_model(tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert tokenizer.decode(prompt_ids(tokenizer, ASKED)) == (
        "System: Be brief.\nUser: What is the capital of France?\nAssistant:"
    )
    tokenizer.chat_template = CHAT
    tokenizer.save_pretrained(folder)
    model = load(str(folder))
    asked = "<system>Be brief.\n<user>What is the capital of France?\n<assistant>"
    assert model.lm.tokenizer.decode(prompt_ids(model.lm.tokenizer, ASKED)) == asked
    assert complete(model) == plain_greedy(folder, 24)


def test_a_chat_template_may_refuse(tmp_path: Path) -> None:
    """What a template raises is one clear line."""
    folder = tiny_model(tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.chat_template = "{{ raise_exception('no system role') }}"
    tokenizer.save_pretrained(folder)
    with pytest.raises(ModelError, match="its chat template refuses the conversation: no system role"):
        complete(load(str(folder)))


def test_many_callers_get_their_own_answers(model: HFModel) -> None:
    """Calls at once give what calls one after the other give."""
    questions = [[Message("user", text)] for text in ("Who?", "How many?", "Why not?")]

    async def run() -> list[Completion]:
        return await asyncio.gather(*(model.complete(asked, SHORT) for asked in questions))

    assert asyncio.run(run()) == [complete(model, SHORT, asked) for asked in questions]


def test_a_reader_that_stops_ends_the_decoding(model: HFModel) -> None:
    """A stream that is closed frees the model for the next caller, and a call that is given up does too."""

    async def run() -> str:
        pieces = model.stream(ASKED, SamplingParams(temperature=2.0, seed=1))
        first = await anext(pieces)
        await cast("AsyncGenerator[str, None]", pieces).aclose()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(model.complete(ASKED, SamplingParams(temperature=2.0, seed=1)), 0.0)
        return first

    assert asyncio.run(run())
    assert complete(model).text
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("asyncio_")]


def test_an_error_while_streaming_reaches_the_reader(model: HFModel) -> None:
    """The thread's error is raised where the pieces are read."""
    with pytest.raises(ModelError, match="the context holds"):
        streamed(model, SHORT, [Message("user", "a b " * 500)])


def test_weights_are_float32_on_a_cpu(folder: Path) -> None:
    """Decoding on a CPU is exact to float32, and both parts are ready to use."""
    model, tokenizer = load_causal_lm(folder, "cpu")
    assert {weight.dtype for weight in model.parameters()} == {torch.float32}
    assert not model.training
    assert len(tokenizer) == model.config.vocab_size


def empty(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.mkdir()


def no_tokenizer(folder: Path) -> None:
    for file in folder.glob("tokenizer*"):
        file.unlink()


def torn(folder: Path) -> None:
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1000])


def no_weights(folder: Path) -> None:
    (folder / "model.safetensors").unlink()


def bad_config(folder: Path) -> None:
    (folder / "config.json").write_text("{")


def no_such_family(folder: Path) -> None:
    (folder / "config.json").write_text(json.dumps({"model_type": "no-such-family"}))


def half_the_weights(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"num_hidden_layers": 4}))


def a_classifier(folder: Path) -> None:
    config = LlamaConfig.from_pretrained(folder)
    LlamaForSequenceClassification(config).save_pretrained(folder)


def small_vocabulary(folder: Path) -> None:
    config = LlamaConfig.from_pretrained(folder)
    config.vocab_size = 280
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)


@pytest.mark.parametrize(
    ("damage", "problem"),
    [
        (empty, "not a Hugging Face model: it has no config.json"),
        (no_tokenizer, "not a causal language model, or a damaged one"),
        (torn, "not a causal language model, or a damaged one"),
        (no_weights, "not a causal language model, or a damaged one"),
        (bad_config, "not a causal language model, or a damaged one"),
        (no_such_family, "not a causal language model, or a damaged one"),
        (half_the_weights, "weights are missing"),
        (a_classifier, "weights are missing, such as"),
        (small_vocabulary, "tokens, but the model only 280"),
    ],
)
def test_a_damaged_folder_is_one_clear_line(tmp_path: Path, damage: Callable[[Path], None], problem: str) -> None:
    """Whatever is wrong with a folder is told at once, and nothing is made up at random."""
    folder = tiny_model(tmp_path / "model")
    damage(folder)
    with pytest.raises(CheckpointError) as caught:
        load_causal_lm(folder)
    assert str(caught.value).startswith(f"{folder}: ")
    assert problem in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["./none", "/none/at/all", "~/none-at-all", "two words"])
def test_a_folder_that_is_not_there_is_misuse(name: str) -> None:
    """What cannot be the name of a model on the hub is a directory that is missing."""
    with pytest.raises(MisuseError, match="no such directory"):
        load_model(f"hf:{name}")


def test_a_name_is_needed() -> None:
    """Nothing after the colon is misuse."""
    with pytest.raises(MisuseError, match="hf:PATH_OR_HUB_ID"):
        load_model("hf:")


def test_a_name_that_leads_nowhere_is_one_clear_line() -> None:
    """With the hub or without it, a model that nobody has is an error within seconds, not after many attempts."""
    with pytest.raises((MisuseError, ModelError), match=r'^"nobody/no-such-model-at-all" is no local directory, .*$'):
        load_causal_lm("nobody/no-such-model-at-all")


def test_without_the_hub_its_cache_is_used(tmp_path: Path) -> None:
    """What an earlier use of the hub left behind is loaded off line, and the rest cannot be reached."""
    cached = tmp_path / "hub" / "models--nobody--tiny"
    tiny_model(cached / "snapshots" / "1234")
    (cached / "refs").mkdir()
    (cached / "refs" / "main").write_text("1234")
    code = (
        "from aligner.models import load_model; [print(load_model(f'hf:nobody/{name}')) for name in ('tiny', 'other')]"
    )
    environ = os.environ | {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path)}
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environ, check=False)
    assert ran.stdout == "HFModel(name='nobody/tiny')\n"
    assert 'ModelError: "nobody/other" is no local directory, and the hub cannot be reached: ' in ran.stderr


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
def test_a_gpu_that_is_not_there_is_misuse(folder: Path) -> None:
    """The error names what can be chosen."""
    with pytest.raises(MisuseError, match='choose "cpu" or "auto"'):
        load_causal_lm(folder, "cuda")
