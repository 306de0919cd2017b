"""Whether drafts change a token: greedy against `generate`, sampling against drafting off, over many families.

    python benchmarks/decoding_equality.py           10,400 greedy cases in each type, 2,080 sampled ones
    python benchmarks/decoding_equality.py --quick   a tenth of them

A case is one prompt with one draft: the text that plain decoding gives (unchanged), the same with tokens replaced, put
in, left out, with a sentence in front, or nothing shared; in batches of 1, 2, 3, 8 and 16. In float64 every case must
be equal; in float32 each difference is counted, with the gap between the two best logits where it begins.
"""

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import torch
from record import record

from aligner.decoding.blocks import BlockPolicy, MeasuredBlocks, no_drafts, whole_drafts
from aligner.decoding.costs import Costs
from aligner.decoding.decoder import Decoder, Request
from aligner.decoding.drafts import Draft
from aligner.decoding.packed import PackedModel, packed
from aligner.decoding.sampling import sampler_of
from aligner.records import SamplingParams

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from families import DRIVEN, VOCABULARY, random_model

LIMIT = 24
BATCHES = (1, 2, 3, 8, 16)
POLICIES: Sequence[BlockPolicy] = (MeasuredBlocks(Costs((1, 256), (1.0, 9.0))), whole_drafts)


class Case(NamedTuple):
    """A prompt, its draft, and what plain decoding gives."""

    prompt: list[int]
    draft: list[int]
    expected: list[int]


def main() -> None:
    """Count, and print one line of JSON last."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a tenth of the cases")
    prompts = 4 if parser.parse_args().quick else 40
    figures: dict[str, Any] = {"families": len(DRIVEN), "batches": BATCHES}
    for dtype, name in ((torch.float64, "float64"), (torch.float32, "float32")):
        cases, gaps = 0, list[float]()
        for family in DRIVEN:
            made, found = greedy(family, dtype, prompts)
            cases, gaps = cases + made, gaps + found
            print(f"{name} {family}: {made} cases, {len(found)} differ", flush=True)
        figures |= {
            f"{name}_cases": cases,
            f"{name}_different": len(gaps),
            f"{name}_widest_gap": max(gaps, default=0.0),
        }
    sampled = [sampling(family, max(prompts // 5, 1)) for family in DRIVEN]
    figures |= {"sampled_cases": sum(n for n, _ in sampled), "sampled_different": sum(d for _, d in sampled)}
    record("decoding_equality", figures)


def greedy(family: str, dtype: torch.dtype, prompts: int) -> tuple[int, list[float]]:
    """How many cases were tried, and the gap of each that differs."""
    model = random_model(family).to(dtype)
    driven, random = packed(model), Random(family)
    cases = [case for _ in range(prompts) for case in cases_of(random, model)]
    gaps: list[float] = []
    for batch, policy, group in grouped(cases):
        for case, tokens in zip(group, decoded(driven, policy, batch, group), strict=True):
            if tokens != case.expected:
                gaps.append(gap(model, case, tokens))
    model.double()
    return len(cases), gaps


def sampling(family: str, prompts: int) -> tuple[int, int]:
    """How many sampled cases were tried in float64, and how many differ."""
    model = random_model(family)
    driven, random, different = packed(model), Random(family), 0
    cases = [case for _ in range(prompts) for case in cases_of(random, model)]
    for i, (batch, policy, group) in enumerate(grouped(cases)):
        how = SamplingParams(temperature=0.8, top_p=0.9, top_k=(0, 10)[i % 2], seed=i)
        plain = decoded(driven, no_drafts, batch, group, how)
        drafted = decoded(driven, policy, batch, group, how)
        different += sum(a != b for a, b in zip(plain, drafted, strict=True))
    return len(cases), different


def cases_of(random: Random, model: Any) -> Iterator[Case]:
    """26 drafts for one prompt."""
    prompt = words(random, random.randrange(4, 30))
    text = generated(model, prompt)
    for share in (0.0, 0.0, *([0.05] * 6), *([0.1] * 6), *([0.3] * 6)):
        yield Case(prompt, edited(random, text, share), text)
    for _ in range(3):
        yield Case(prompt, [*words(random, 6), *text], text)
        yield Case(prompt, words(random, len(text)), text)


def edited(random: Random, text: Sequence[int], share: float) -> list[int]:
    """The text with tokens replaced, put in and left out."""
    draft: list[int] = []
    for token in text:
        kind = random.choice(("replace", "insert", "delete")) if random.random() < share else "keep"
        draft += {"keep": [token], "replace": words(random, 1), "insert": [token, *words(random, 2)], "delete": []}[
            kind
        ]
    return draft


def grouped(cases: Sequence[Case]) -> Iterator[tuple[int, BlockPolicy, Sequence[Case]]]:
    """The cases in groups of the batch sizes in turn, with the block policies in turn."""
    start, turn = 0, 0
    while start < len(cases):
        batch = BATCHES[turn % len(BATCHES)]
        yield batch, POLICIES[turn % len(POLICIES)], cases[start : start + batch]
        start, turn = start + batch, turn + 1


def decoded(
    driven: PackedModel,
    policy: BlockPolicy,
    batch: int,
    cases: Sequence[Case],
    how: SamplingParams = SamplingParams(),
) -> list[list[int]]:
    """What drafted decoding gives."""
    requests = (
        Request(
            prompt=case.prompt,
            limit=LIMIT,
            ends=frozenset({2}),
            draft=Draft((*case.draft, 2)),
            sampler=sampler_of(how),
        )
        for case in cases
    )
    found = {step.number: step.end.tokens for step in Decoder(driven, policy, batch).decode(requests) if step.end}
    return [found[number] for number in range(len(cases))]


@torch.inference_mode()
def generated(model: Any, prompt: Sequence[int]) -> list[int]:
    """What transformers decodes."""
    ids = torch.tensor([prompt])
    whole = model.generate(
        ids, attention_mask=torch.ones_like(ids), max_new_tokens=LIMIT, do_sample=False, eos_token_id=2, pad_token_id=0
    )
    tokens: list[int] = whole[0, len(prompt) :].tolist()
    return tokens


@torch.inference_mode()
def gap(model: Any, case: Case, tokens: Sequence[int]) -> float:
    """The gap between the two best logits where two texts part."""
    same = next(i for i, (a, b) in enumerate(zip(tokens, case.expected, strict=False)) if a != b)
    logits = model(torch.tensor([[*case.prompt, *tokens[:same]]])).logits[0, -1]
    best = logits.topk(2).values
    return float(best[0] - best[1])


def words(random: Random, count: int) -> list[int]:
    """Random tokens, none of which is special."""
    return [random.randrange(3, VOCABULARY) for _ in range(count)]


if __name__ == "__main__":
    main()
