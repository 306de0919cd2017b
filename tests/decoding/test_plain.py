"""Laws of plain decoding, on tiny random models of real families."""

from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import Any, get_args

import pytest
import torch
from tiny import Family, tiny_model
from transformers import AutoModelForCausalLM, BloomConfig, GPT2Config

from aligner.decoding.plain import decode, token_steps
from aligner.records import SamplingParams

GREEDY = SamplingParams()
PROMPTS = [[5, 6, 7], [20, 21, 22, 23, 24, 25, 26, 27, 28], [40], [9, 9, 9, 9, 9, 9]]
Load = Callable[[Family], Any]


@pytest.fixture(scope="module")
def load(tmp_path_factory: pytest.TempPathFactory) -> Load:
    """The model of a family, in float64, where rounding cannot decide between two tokens."""
    models: dict[str, Any] = {}

    def get(family: Family) -> Any:
        if family not in models:
            folder = tiny_model(tmp_path_factory.mktemp(family), family)
            models[family] = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float64).eval()
        return models[family]

    return get


def generated(model: Any, prompt: Sequence[int], limit: int, end: int | None) -> list[int]:
    """What transformers itself decodes."""
    ids = torch.tensor([prompt])
    options = {"do_sample": False, "max_new_tokens": limit, "eos_token_id": end, "pad_token_id": 0}
    return model.generate(ids, attention_mask=torch.ones_like(ids), **options)[0, len(prompt) :].tolist()


def alone(model: Any, prompt: Sequence[int], limit: int, ends: frozenset[int] = frozenset()) -> list[int]:
    """One prompt, decoded by itself."""
    (row,) = decode(model, [prompt], limits=[limit], ends=ends, sampling=GREEDY)
    return row


@pytest.mark.parametrize("family", get_args(Family))
@pytest.mark.parametrize("prompt", PROMPTS, ids=len)
def test_greedy_decoding_is_that_of_transformers(load: Load, family: Family, prompt: list[int]) -> None:
    """Token for token what `generate` gives, up to the limit or an end token."""
    model = load(family)
    whole = generated(model, prompt, 24, None)
    assert alone(model, prompt, 24) == whole
    end = whole[10]
    assert alone(model, prompt, 24, frozenset({end})) == generated(model, prompt, 24, end)


@pytest.mark.parametrize("family", get_args(Family))
def test_a_batch_is_its_rows_alone(load: Load, family: Family) -> None:
    """Prompts of any lengths, decoded together to limits of their own, give what each gives alone."""
    model, limits = load(family), [30, 5, 12, 1]
    singles = [alone(model, prompt, limit) for prompt, limit in zip(PROMPTS, limits, strict=True)]
    assert decode(model, PROMPTS, limits=limits, ends=frozenset(), sampling=GREEDY) == singles
    assert [len(row) for row in singles] == limits
    ends = frozenset({singles[0][7], singles[1][2]})
    together = decode(model, PROMPTS, limits=limits, ends=ends, sampling=GREEDY)
    assert together == [alone(model, prompt, limit, ends) for prompt, limit in zip(PROMPTS, limits, strict=True)]
    assert min(map(len, together)) < max(map(len, together))


def test_an_end_token_is_the_last_one(load: Load) -> None:
    """A row ends with the first end token that it has, which is part of it, or is cut off at its limit."""
    model = load("llama")
    for prompt in PROMPTS:
        whole = alone(model, prompt, 40)
        for ends in (frozenset({whole[0]}), frozenset({whole[20], whole[39]}), frozenset({10**6})):
            first = next((place for place, token in enumerate(whole) if token in ends), len(whole))
            assert alone(model, prompt, 40, ends) == whole[: first + 1]


def test_a_row_may_have_no_tokens(load: Load) -> None:
    """At most no tokens is no tokens, and no prompts are no rows."""
    model = load("llama")
    assert decode(model, PROMPTS[:2], limits=[0, 3], ends=frozenset(), sampling=GREEDY) == [
        [],
        alone(model, PROMPTS[1], 3),
    ]
    assert decode(model, [], limits=[], ends=frozenset(), sampling=GREEDY) == []


def test_steps_have_one_token_for_every_prompt(load: Load) -> None:
    """The steps are the columns of what `decode` gives."""
    model = load("qwen3")
    steps: Iterator[list[int]] = token_steps(model, PROMPTS, sampling=GREEDY)
    rows = decode(model, PROMPTS, limits=[6] * len(PROMPTS), ends=frozenset(), sampling=GREEDY)
    assert [list(row) for row in zip(*islice(steps, 6), strict=True)] == rows


@pytest.mark.parametrize("family", get_args(Family))
def test_without_choice_sampling_is_greedy(load: Load, family: Family) -> None:
    """Keeping only the likeliest token leaves nothing to chance."""
    model, limits = load(family), [20] * len(PROMPTS)
    greedy = decode(model, PROMPTS, limits=limits, ends=frozenset(), sampling=GREEDY)
    for narrow in (SamplingParams(temperature=5.0, top_k=1), SamplingParams(temperature=5.0, top_p=1e-9)):
        assert decode(model, PROMPTS, limits=limits, ends=frozenset(), sampling=narrow) == greedy


def test_the_seed_decides_the_sample(load: Load) -> None:
    """One seed gives one sample, another one another, no seed a new one, and nobody else's noise is moved."""
    model = load("llama")

    def sample(seed: int | None) -> list[list[int]]:
        noisy = SamplingParams(temperature=1.0, seed=seed)
        return decode(model, PROMPTS, limits=[30] * 4, ends=frozenset(), sampling=noisy)

    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    assert sample(1) == sample(1)
    assert sample(1) != sample(2)
    assert sample(None) != sample(None)
    assert torch.equal(torch.rand(3), expected)


def test_samples_follow_the_probabilities(load: Load) -> None:
    """Among the likeliest tokens that are kept, each comes about as often as the model says."""
    model, rows, kept = load("llama"), 4000, 3
    with torch.inference_mode():
        logits = model(torch.tensor([PROMPTS[0]])).logits[0, -1]
    probabilities, tokens = (logits / 0.5).softmax(-1).topk(kept)
    sampling = SamplingParams(temperature=0.5, top_k=kept, seed=0)
    drawn = decode(model, [PROMPTS[0]] * rows, limits=[1] * rows, ends=frozenset(), sampling=sampling)
    for share, token in zip(probabilities / probabilities.sum(), tokens.tolist(), strict=True):
        assert drawn.count([token]) / rows == pytest.approx(float(share), abs=0.04)
    assert all(row[0] in tokens.tolist() for row in drawn)


@pytest.mark.parametrize(
    "config",
    [
        GPT2Config(vocab_size=60, n_positions=20, n_embd=32, n_layer=1, n_head=4, bos_token_id=1, eos_token_id=2),
        BloomConfig(vocab_size=60, hidden_size=32, n_layer=1, n_head=4, bos_token_id=1, eos_token_id=2),
    ],
    ids=["learnt-positions", "no-positions"],
)
def test_other_ways_to_tell_positions_are_decoded_too(config: Any) -> None:
    """A long prompt and a short one share a batch up to the end of the context, also where positions are a table."""
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config).double().eval()
    prompts, limits = [[5, 6, 7], [4] * 15], [17, 5]
    together = decode(model, prompts, limits=limits, ends=frozenset(), sampling=GREEDY)
    assert together == [generated(model, prompt, limit, None) for prompt, limit in zip(prompts, limits, strict=True)]
