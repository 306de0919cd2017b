"""Laws of decoding with `generate`, on models whose passes cannot be driven row by row."""

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from families import random_model

from aligner.decoding.decoder import Request
from aligner.decoding.drafts import Draft
from aligner.decoding.generating import GeneratingDecoder
from aligner.decoding.sampling import sampler_of
from aligner.records import SamplingParams

PROMPTS = ([5, 6, 7], [20, 21, 22, 23, 24, 25, 26, 27, 28], [30], [9, 9, 9, 9, 9, 9])
FAMILIES = ["bloom", "dynamic"]


def request(prompt: Sequence[int], **others: Any) -> Request:
    """A request without end."""
    usual: dict[str, Any] = {"limit": 20, "ends": frozenset()}
    return Request(prompt=prompt, **(usual | others))


def decode(family: str, requests: Sequence[Request], rows: int = 64) -> list[list[int]]:
    """The tokens of all requests, so many at a time."""
    steps = list(GeneratingDecoder(random_model(family), rows).decode(requests))
    assert [step.number for step in steps] == list(range(len(requests)))
    assert all(step.end is not None and step.end.tokens == step.tokens for step in steps)
    return [step.tokens for step in steps]


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("rows", [1, 2, 3, 4])
def test_a_batch_is_its_rows_alone(family: str, rows: int) -> None:
    """Prompts of any lengths, decoded together to limits of their own, give what each gives alone."""
    requests = [request(prompt, limit=limit) for prompt, limit in zip(PROMPTS, (30, 5, 12, 1), strict=True)]
    singles = [decode(family, [each])[0] for each in requests]
    assert [len(tokens) for tokens in singles] == [30, 5, 12, 1]
    assert decode(family, requests, rows) == singles


@pytest.mark.parametrize("family", FAMILIES)
def test_greedy_decoding_is_that_of_transformers(family: str) -> None:
    """Token for token what `generate` gives by itself."""
    model, ids = random_model(family), torch.tensor([PROMPTS[1]])
    options = {"do_sample": False, "max_new_tokens": 20, "eos_token_id": None, "pad_token_id": 0}
    expected = model.generate(ids, attention_mask=torch.ones_like(ids), **options)[0, ids.shape[1] :].tolist()
    assert decode(family, [request(PROMPTS[1])]) == [expected]


def test_an_end_token_is_the_last_one() -> None:
    """A row ends with the first end token that it has, which is part of it, or is cut off at its limit."""
    whole = decode("bloom", [request(PROMPTS[1])])[0]
    ends = frozenset({whole[7]})
    first = whole.index(whole[7])
    assert decode("bloom", [request(PROMPTS[1], ends=ends)]) == [whole[: first + 1]]
    assert decode("bloom", [request(PROMPTS[1], ends=ends), request(PROMPTS[1])]) == [whole[: first + 1], whole]


def test_the_model_s_own_end_ends_nothing() -> None:
    """Only the tokens that the request names end its text, also where the model's configuration names others."""

    def always_its_end(logits: torch.Tensor, _: int) -> torch.Tensor:
        return torch.nn.functional.one_hot(torch.tensor([2] * len(logits)), logits.shape[1]).to(logits)

    assert decode("bloom", [request(PROMPTS[0], adjust=always_its_end, limit=5)]) == [[2] * 5]


def test_a_stop_ends_its_row_alone() -> None:
    """The function is told every token in order, and none behind the one that it stops at."""
    told: list[int] = []

    def stops(token: int) -> bool:
        told.append(token)
        return len(told) == 6

    whole = decode("bloom", [request(PROMPTS[0])])[0]
    assert decode("bloom", [request(PROMPTS[0], stops=stops), request(PROMPTS[0])]) == [whole[:6], whole]
    assert told == whole[:6]


def test_drafts_change_nothing() -> None:
    """Whatever the draft, the tokens are those without one, and each takes a pass."""
    requests = [request(PROMPTS[0]), request(PROMPTS[0], draft=Draft((9, 9, 9)))]
    without, drafted = (step.end for step in GeneratingDecoder(random_model("bloom")).decode(requests))
    assert without == drafted
    assert drafted is not None
    assert (drafted.passes, drafted.drafted, drafted.accepted) == (20, 0, 0)
    assert (drafted.confidence, drafted.doubt) == (None, None)


def test_the_seed_decides_the_sample() -> None:
    """One seed gives one sample whatever is decoded beside it, and another one another."""

    def sample(*seeds: int) -> list[list[int]]:
        samplers = [sampler_of(SamplingParams(temperature=1.0, seed=seed)) for seed in seeds]
        return decode("bloom", [request(PROMPTS[0], sampler=sampler) for sampler in samplers])

    first, second = sample(1, 2)
    assert first != second
    assert sample(2, 1) == [second, first]


def test_no_requests_are_no_steps() -> None:
    """Nothing comes of nothing."""
    assert decode("bloom", []) == []


def test_learnt_positions_are_used_up_to_the_last() -> None:
    """A long prompt that fills the context shares a batch with a short one that has far to go."""
    requests = [request([4, 5, 6] * 30, limit=6), request([5], limit=60)]
    assert decode("gpt2", requests) == [decode("gpt2", [each])[0] for each in requests]
