"""Laws of drafted decoding: the tokens are those of plain decoding, in fewer passes."""

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import pytest
import torch
from families import CONTEXT, DRIVEN, VOCABULARY, random_model
from hypothesis import given, settings
from hypothesis import strategies as st

from aligner.decoding.blocks import BlockPolicy, MeasuredBlocks, Prospect, no_drafts, whole_drafts
from aligner.decoding.decoder import Decoded, Decoder, Request, Step
from aligner.decoding.drafts import Draft
from aligner.decoding.generating import GeneratingDecoder
from aligner.decoding.packed import PackedModel, packed
from aligner.decoding.sampling import sampler_of
from aligner.records import SamplingParams

PROMPTS = ((5, 6, 7), (20, 21, 22, 23, 24, 25, 26, 27, 28), (30,), (9, 9, 9, 9, 9, 9))
LIMIT = 24
END = VOCABULARY - 1


@dataclass(frozen=True)
class RandomBlocks:
    """Any sizes that there is room for."""

    numbers: random.Random

    def __call__(self, prospects: Sequence[Prospect], fed: int) -> list[int]:
        """Draft tokens for each row."""
        return [self.numbers.randint(0, prospect.longest) for prospect in prospects]


@cache
def driven(family: str) -> PackedModel:
    """The model of a family, tried once."""
    return packed(random_model(family))


@cache
def generated(family: str, prompt: tuple[int, ...], limit: int = LIMIT, end: int | None = None) -> list[int]:
    """What transformers itself decodes."""
    ids = torch.tensor([prompt])
    options = {"do_sample": False, "max_new_tokens": limit, "eos_token_id": end, "pad_token_id": 0}
    return random_model(family).generate(ids, attention_mask=torch.ones_like(ids), **options)[0, len(prompt) :].tolist()


def request(prompt: Sequence[int], draft: Sequence[int] = (), **others: Any) -> Request:
    """A request with the usual limit and no end."""
    usual: dict[str, Any] = {"limit": LIMIT, "ends": frozenset()}
    return Request(prompt=prompt, draft=Draft(tuple(draft)), **(usual | others))


def ends_of(steps: Iterator[Step], count: int) -> list[Decoded]:
    """What became of each request; the tokens of its steps are those of its end, and each has one end."""
    pieces: dict[int, list[int]] = {number: [] for number in range(count)}
    found: dict[int, Decoded] = {}
    for step in steps:
        assert step.number not in found
        assert step.tokens
        pieces[step.number] += step.tokens
        if step.end is not None:
            found[step.number] = step.end
    assert {number: end.tokens for number, end in found.items()} == pieces
    return [found[number] for number in range(count)]


def decode(
    family: str, requests: Sequence[Request], *, blocks: BlockPolicy = whole_drafts, rows: int = 64
) -> list[Decoded]:
    """All requests, in one decoder."""
    return ends_of(Decoder(driven(family), blocks, rows).decode(requests), len(requests))


def drafts_of(answer: list[int]) -> dict[str, list[int]]:
    """Drafts that are right, nearly right, and wrong in every way."""
    edited = [*answer[:5], 3, *answer[7:12], 4, 4, *answer[12:18], *answer[20:]]
    disjoint = [token for token in range(3, VOCABULARY) if token not in answer] * 3
    return {
        "equal": answer,
        "edited": edited,
        "empty": [],
        "disjoint": disjoint[:LIMIT],
        "longer": answer + answer,
        "shorter": answer[:9],
        "moved": answer[12:] + answer[:12],
    }


def scripted(script: Sequence[int]) -> Callable[[torch.Tensor, int], torch.Tensor]:
    """Makes any model write the script, and end tokens behind it, whatever else it would write."""

    def adjust(logits: torch.Tensor, position: int) -> torch.Tensor:
        wanted = [*script, *[END] * len(logits)][position : position + len(logits)]
        bonus = torch.zeros_like(logits)
        bonus[range(len(logits)), [*wanted, *[END] * (len(logits) - len(wanted))]] = 50
        return logits + bonus

    return adjust


@pytest.mark.parametrize("family", DRIVEN)
def test_greedy_decoding_is_that_of_transformers(family: str) -> None:
    """Token for token what `generate` gives, whatever the draft, up to the limit or an end token."""
    for prompt in PROMPTS[:2]:
        whole = generated(family, prompt)
        end = whole[10]
        until = generated(family, prompt, end=end)
        for name, draft in drafts_of(whole).items():
            for blocks in (whole_drafts, MeasuredBlocks(lambda tokens: 1 + tokens / 50)):
                (alone,) = decode(family, [request(prompt, draft)], blocks=blocks)
                assert alone.tokens == whole, name
                (alone,) = decode(family, [request(prompt, draft, ends=frozenset({end}))], blocks=blocks)
                assert alone.tokens == until, name


def mixed_requests(family: str, count: int) -> tuple[list[Request], list[list[int]]]:
    """Requests of all lengths, limits and kinds of draft, and what `generate` makes of them."""
    requests: list[Request] = []
    expected: list[list[int]] = []
    for number in range(count):
        prompt = PROMPTS[number % len(PROMPTS)]
        whole = generated(family, prompt)
        drafts = list(drafts_of(whole).values())
        limit = (LIMIT, 5, 17, 1, 12)[number % 5]
        requests.append(request(prompt, drafts[number % len(drafts)], limit=limit))
        expected.append(whole[:limit])
    return requests, expected


@pytest.mark.parametrize("family", ["llama", "gemma2", "mistral", "opt"])
@pytest.mark.parametrize("rows", [1, 2, 3, 8, 16])
def test_a_batch_is_its_rows_alone(family: str, rows: int) -> None:
    """Prompts, drafts and limits of any kind, decoded together, give what each gives alone."""
    requests, expected = mixed_requests(family, 16)
    assert [end.tokens for end in decode(family, requests, rows=rows)] == expected


@settings(max_examples=20)
@given(seed=st.integers(0, 10**6), rows=st.integers(1, 4), family=st.sampled_from(["llama", "gemma3", "gpt2"]))
def test_no_block_policy_changes_the_tokens(seed: int, rows: int, family: str) -> None:
    """However much of each draft a pass takes, the text is the same; the counts add up."""
    requests, expected = mixed_requests(family, 6)
    found = decode(family, requests, blocks=RandomBlocks(random.Random(seed)), rows=rows)
    assert [end.tokens for end in found] == expected
    for end in found:
        assert 0 <= end.accepted <= end.drafted
        assert len(end.tokens) <= end.accepted + end.passes <= len(end.tokens) + 1


@settings(max_examples=40)
@given(
    draft=st.lists(st.integers(3, 9), max_size=30),
    script=st.lists(st.integers(3, 9), max_size=30),
    seed=st.integers(0, 10**6),
)
def test_any_edit_of_any_draft_can_be_written(draft: list[int], script: list[int], seed: int) -> None:
    """Whatever the draft and whatever the model wants instead, that is what is written, up to its end."""
    wanted = request([5, 6], [*draft, END], limit=40, ends=frozenset({END}), adjust=scripted(script))
    for blocks in (whole_drafts, RandomBlocks(random.Random(seed))):
        (found,) = decode("llama", [wanted], blocks=blocks)
        assert found.tokens == [*script, END]


@settings(max_examples=8)
@given(seed=st.integers(0, 2**31), blocks=st.integers(0, 10**6), top_k=st.sampled_from([0, 5]))
def test_drafted_samples_are_those_of_plain_decoding(seed: int, blocks: int, top_k: int) -> None:
    """One seed gives one text: without drafts, with right or wrong ones, by `generate`, alone or in a batch."""
    sampling = SamplingParams(temperature=1.0, top_k=top_k, top_p=0.95, seed=seed)
    plain = [request(prompt, sampler=sampler_of(sampling)) for prompt in PROMPTS]
    expected = [end.tokens for end in decode("llama", plain, blocks=no_drafts)]
    assert [end.tokens for end in ends_of(GeneratingDecoder(random_model("llama"), 3).decode(plain), 4)] == expected
    for kind in ("equal", "edited", "disjoint"):
        drafts = [Draft(tuple(drafts_of(tokens)[kind])) for tokens in expected]
        drafted = [replace(each, draft=draft) for each, draft in zip(plain, drafts, strict=True)]
        for policy, rows in ((whole_drafts, 4), (RandomBlocks(random.Random(blocks)), 2)):
            assert [end.tokens for end in decode("llama", drafted, blocks=policy, rows=rows)] == expected


def test_learnt_positions_are_used_up_to_the_last() -> None:
    """A row may fill the context to its end, beside a short one and with a draft that would not fit."""
    prompt = [4, 5, 6] * 25
    requests = [request(prompt, limit=CONTEXT - len(prompt), draft=[7] * 200), request([5], [8, 9])]
    expected = [generated("gpt2", tuple(each.prompt), each.limit) for each in requests]
    right = [replace(each, draft=Draft((*tokens, *tokens))) for each, tokens in zip(requests, expected, strict=True)]
    for each in (requests, right):
        assert [end.tokens for end in decode("gpt2", each)] == expected
