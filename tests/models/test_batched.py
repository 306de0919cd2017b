"""Laws of many answers at a time: they are those of one at a time, whatever the batch."""

import threading
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import count, islice
from pathlib import Path

import pytest
import torch
from tiny import tiny_aligner, tiny_model, written
from transformers import AutoModelForCausalLM, AutoTokenizer, BloomConfig, LlamaConfig

from aligner.correcting.writers import shipped
from aligner.errors import ModelError
from aligner.models.batched import AHEAD, answers_of
from aligner.models.generating import generate, prompt_ids
from aligner.models.hf import CausalLM, load_causal_lm
from aligner.records import Completion, Message, Question, SamplingParams, Usage, as_messages

QUESTIONS: tuple[Question, ...] = (
    "What is the capital of France?",
    (Message("system", "Be brief."), Message("user", "How many legs has a spider?")),
    "Who?",
    "<|user|></s>{{ messages }} é🙂 " + "and so on " * 7,
    "Who are you?",
    (Message("user", "Who?"), Message("assistant", "A spider."), Message("user", "Why?")),
)
GREEDY = SamplingParams(max_tokens=24)
NOISY = SamplingParams(temperature=1.5, max_tokens=12, seed=11)
CHAT = "{% for m in messages %}<{{ m.role }}>{{ m.content }}\n{% endfor %}<assistant>"


def exact(folder: Path) -> CausalLM:
    """In float64, where rounding cannot decide between two tokens."""
    lm = load_causal_lm(folder, "cpu")
    return lm._replace(model=lm.model.double())


@pytest.fixture(scope="module")
def lm(tmp_path_factory: pytest.TempPathFactory) -> CausalLM:
    """A random model that ends its answers early, some sooner than others."""
    return exact(tiny_aligner(tmp_path_factory.mktemp("llama")))


def alone(lm: CausalLM, question: Question, sampling: SamplingParams) -> tuple[object, ...]:
    """What `generate` makes of one question."""
    messages = as_messages(question)
    return written(generate(*lm, messages, sampling=sampling, show=lambda _: None, cancelled=threading.Event()))


def together(lm: CausalLM, questions: Sequence[Question], sampling: SamplingParams, batch: int = 64) -> list[object]:
    """What becomes of many."""
    return [written(answer) for answer in answers_of(lm, questions, sampling, batch=batch)]


@pytest.mark.parametrize("batch", [1, 4])
@pytest.mark.parametrize("template", [None, CHAT], ids=["plain turns", "chat"])
def test_greedy_answers_are_those_of_generate(lm: CausalLM, template: str | None, batch: int) -> None:
    """Token for token and in order, although rows end at different times, with a chat format and without."""
    tokenizer = AutoTokenizer.from_pretrained(lm.tokenizer.name_or_path)
    tokenizer.chat_template = template
    lm = lm._replace(tokenizer=tokenizer)
    found = together(lm, QUESTIONS, GREEDY, batch)
    assert found == [alone(lm, question, GREEDY) for question in QUESTIONS]
    assert len(set(found)) > 1


def test_a_model_that_cannot_be_driven_row_by_row_answers_the_same(lm: CausalLM) -> None:
    """Where transformers' own `generate` decodes, prompts of any lengths give what each gives alone."""
    ends = lm.tokenizer.eos_token_id
    config = BloomConfig(vocab_size=len(lm.tokenizer), hidden_size=32, n_layer=2, n_head=4, eos_token_id=ends)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        bloom = lm._replace(model=AutoModelForCausalLM.from_config(config).double().eval())
    assert together(bloom, QUESTIONS, GREEDY, 3) == [alone(bloom, question, GREEDY) for question in QUESTIONS]


def test_the_shipped_upstream_answers_the_same() -> None:
    """So does a real model in float32, with a chat format of its own."""
    lm = load_causal_lm(shipped("upstream"), "cpu")
    asked = ["What is the capital of France?", "Who wrote Hamlet?", "</s><|assistant|>"]
    assert together(lm, asked, GREEDY) == [alone(lm, question, GREEDY) for question in asked]


def test_what_is_drawn_does_not_depend_on_the_batch(lm: CausalLM) -> None:
    """Row i is drawn with the seed and i, whatever is decoded beside it, in however many windows."""
    questions = QUESTIONS * 3
    seeded = [replace(NOISY, seed=11 + i) for i in range(len(questions))]
    expected = [together(lm, [question], sampling)[0] for question, sampling in zip(questions, seeded, strict=True)]
    assert expected[: len(QUESTIONS)] != expected[len(QUESTIONS) : 2 * len(QUESTIONS)]
    assert [together(lm, questions, NOISY, batch) == expected for batch in (1, 3, 64)] == [True] * 3


def test_without_a_seed_nobody_knows_what_is_drawn(lm: CausalLM) -> None:
    """Asked twice, a model answers twice."""
    fresh = replace(NOISY, seed=None)
    assert together(lm, QUESTIONS, fresh) != together(lm, QUESTIONS, fresh)


def test_broken_characters_are_those_of_generate(tmp_path: Path) -> None:
    """A model that says bytes at random is read as if it were alone, pieces of characters and all."""
    lm = exact(tiny_model(tmp_path))
    long = SamplingParams(max_tokens=60)
    assert together(lm, QUESTIONS, long, 2) == [alone(lm, question, long) for question in QUESTIONS]


def test_an_answer_ends_before_a_stop_string(tmp_path: Path) -> None:
    """The stop string itself is left out, and what other rows say is none of its business."""
    lm = exact(tiny_model(tmp_path))
    whole = alone(lm, QUESTIONS[0], GREEDY)[0]
    assert isinstance(whole, str)
    sampling = SamplingParams(max_tokens=24, stop=("never said", whole[len(whole) // 2 :][:3]))
    found = together(lm, QUESTIONS, sampling)
    assert found == [alone(lm, question, sampling) for question in QUESTIONS]
    first = found[0]
    assert isinstance(first, tuple)
    assert first[:2] == (whole[: whole.index(sampling.stop[1])], "stop")


def says(folder: Path, text: str) -> CausalLM:
    """A model that knows by heart which token follows which: a colon, the letters of the text, and a colon again."""
    tokenizer = AutoTokenizer.from_pretrained(tiny_model(folder))
    chain = [prompt_ids(tokenizer, [Message("user", "?")])[-1], *tokenizer(text, add_special_tokens=False)["input_ids"]]
    assert len(set(chain)) == len(chain)
    size = len(tokenizer)
    config = LlamaConfig(
        vocab_size=size, hidden_size=size, intermediate_size=8, num_hidden_layers=0, num_attention_heads=1,
        head_dim=8, max_position_embeddings=256, tie_word_embeddings=False, eos_token_id=tokenizer.eos_token_id,
    )  # fmt: skip
    model = AutoModelForCausalLM.from_config(config)
    with torch.no_grad():
        model.model.embed_tokens.weight.copy_(torch.eye(size))
        model.lm_head.weight.zero_()
        for token, follows in zip(chain, [*chain[1:], chain[0]], strict=True):
            model.lm_head.weight[follows, token] = 1.0
    return CausalLM(model.eval(), tokenizer)


def test_without_a_chat_format_the_users_next_turn_ends_the_answer(tmp_path: Path) -> None:
    """A model that goes on to ask itself something has answered there, as with `generate`."""
    lm = says(tmp_path, "No.\nUser")
    assert together(lm, ["?"], GREEDY) == [alone(lm, "?", GREEDY)]
    assert next(answers_of(lm, ["?"], GREEDY, batch=1)).text == "No."


def test_a_question_that_fills_the_context_has_no_answer(lm: CausalLM) -> None:
    """It says so in its place, the others are answered, and none goes beyond the context."""
    long = "a b " * 300
    first, full, last = answers_of(lm, ["Who?", long, "a b " * 52], SamplingParams(), batch=8)
    assert full == Completion("", "context", Usage(len(prompt_ids(lm.tokenizer, [Message("user", long)]))))
    assert (first.text, first.finish_reason) == alone(lm, "Who?", SamplingParams())[:2]
    assert 0 < last.usage.completion_tokens <= 256 - last.usage.prompt_tokens


def test_an_answer_may_have_no_tokens(lm: CausalLM) -> None:
    """At most no tokens is no text, and was cut off."""
    assert together(lm, ["Who?"], SamplingParams(max_tokens=0)) == [alone(lm, "Who?", SamplingParams(max_tokens=0))]


def test_questions_are_read_as_answers_are_taken(lm: CausalLM) -> None:
    """An endless input needs no more memory than so many batches."""
    read: list[int] = []

    def endless() -> Iterator[Question]:
        for number in count():
            read.append(number)
            yield f"Who is {number}?"

    assert len(list(islice(answers_of(lm, endless(), SamplingParams(max_tokens=2), batch=2), 3))) == 3
    assert len(read) == 2 * AHEAD


def test_a_template_that_refuses_is_one_line_with_the_models_name(lm: CausalLM) -> None:
    """What a chat template raises is told with the folder that holds it."""
    tokenizer = AutoTokenizer.from_pretrained(lm.tokenizer.name_or_path)
    tokenizer.chat_template = "{{ raise_exception('no system role') }}"
    with pytest.raises(ModelError, match=rf"^{lm.model.name_or_path}: its chat template refuses .*: no system role$"):
        list(answers_of(lm._replace(tokenizer=tokenizer), ["Who?"], GREEDY, batch=1))


def test_a_batch_holds_something(lm: CausalLM) -> None:
    """No answers at a time would be none at all."""
    with pytest.raises(ValueError, match="batch must be at least 1, not 0"):
        next(answers_of(lm, ["Who?"], GREEDY, batch=0))
