"""What drafted decoding costs, side by side with its peers in one process on the same pairs.

    python benchmarks/decoding.py           everything
    python benchmarks/decoding.py --quick   the 33 M model, 256 tokens, four workloads, three pairs each

Arms: plain `generate`, prompt lookup by `generate` (the best of a grid), ours, our decoder with drafting off, and the
floor, one forward pass over prompt, answer and answer. The 33 M Llama has random weights and is driven by a script: in
every arm the token that the correction has next gets the same finite bonus, so edits are exact and the work is real.
Edited means substituted: that share of the answer's tokens, at random places, one by one.
Time a pair with nothing else on the machine; the figures are ratios of medians within one run.
"""

import argparse
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from random import Random
from statistics import median
from typing import Any, NamedTuple, cast

import torch
from record import record
from transformers import AutoModelForCausalLM, LlamaConfig, LogitsProcessor, LogitsProcessorList

from aligner.decoding.blocks import MeasuredBlocks, no_drafts
from aligner.decoding.costs import measure
from aligner.decoding.decoder import Decoded, Decoder, Request
from aligner.decoding.drafts import Draft
from aligner.decoding.packed import PackedModel, packed

BONUS = 50.0
END = 2
QUESTION = 50
VOCABULARY = 16_000
GRID = tuple((k, n) for k in (10, 16, 32, 64, 128, 256) for n in (2, 3, 5))
QUICK_GRID = ((10, 2), (16, 2), (32, 3), (64, 3), (128, 3), (256, 3))


class Pair(NamedTuple):
    """A prompt with an answer in it, and the correction that the script asks for, END included."""

    prompt: list[int]
    answer: list[int]
    correction: list[int]
    least_passes: int
    """1 + the sum over edits of max(1, inserted tokens)"""


class Timing(NamedTuple):
    """One arm on one pair."""

    seconds: float
    tokens: list[int]


def main() -> None:
    """Measure all arms, print a table, and one line of JSON last."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="ends within 4 minutes")
    parser.add_argument("--pairs", type=int, default=3, help="pairs for each workload")
    options = parser.parse_args()
    model = llama_33m()
    driven = packed(model)
    costs = measure(driven)
    print(
        "ms a pass:", {size: round(1000 * s, 1) for size, s in zip(costs.sizes, costs.seconds, strict=True)}, flush=True
    )
    figures: dict[str, Any] = {"equal": True}
    names = ("unchanged", "edit1", "edit3", "disjoint") if options.quick else tuple(WORKLOADS)
    for name in names:
        grid = () if name == "disjoint" else QUICK_GRID if options.quick else GRID
        pairs = [WORKLOADS[name](Random(f"{name} {i}"), 256) for i in range(options.pairs)]
        figures |= compare(name, pairs, driven, MeasuredBlocks(costs), grid)
        figures["equal"] = figures["equal"] and figures.pop("same")
    record("decoding_quick" if options.quick else "decoding", figures)


def compare(
    name: str, pairs: Sequence[Pair], driven: PackedModel, blocks: MeasuredBlocks, grid: Sequence[tuple[int, int]]
) -> dict[str, Any]:
    """The figures of one workload; the arms take turns pair by pair, in an order that moves on."""
    model = driven.model
    notes: list[Decoded] = []
    arms: dict[str, Callable[[Pair], list[int]]] = {
        "greedy": partial(generated, model),
        "ours": lambda pair: ours(Decoder(driven, blocks), pair, notes),
        "plain": lambda pair: ours(Decoder(driven, no_drafts), pair, []),
        "floor": partial(floor, model),
    }
    arms |= {f"lookup {k},{n}": partial(generated, model, lookup=(k, n)) for k, n in grid}
    for arm in ("ours", "floor"):
        arms[arm](pairs[0])  # once for nothing: memory is handed out, kernels are chosen
    notes.clear()
    order = list(arms)
    times: dict[str, list[float]] = {arm: [] for arm in arms}
    same = True
    for i, pair in enumerate(pairs):
        turn = i * len(order) // len(pairs)
        for arm in order[turn:] + order[:turn]:
            timing = timed(arms[arm], pair)
            times[arm].append(timing.seconds)
            if arm != "floor" and timing.tokens != pair.correction:
                same = False
                print(f"{name}: {arm} gives other tokens", file=sys.stderr)
    middle = {arm: median(seconds) for arm, seconds in times.items()}
    passes = sum(note.passes for note in notes) / len(notes)
    least = sum(pair.least_passes for pair in pairs) / len(pairs)
    show(name, middle, passes, least)
    return {"same": same} | ratios(name, middle, passes, least)


def ratios(name: str, middle: Mapping[str, float], passes: float, least: float) -> dict[str, float]:
    """How many times faster ours is; for the floor, how many times slower."""
    mine = middle["ours"]
    lookups = [seconds for arm, seconds in middle.items() if arm.startswith("lookup")]
    found = {f"{name}_vs_greedy": middle["greedy"] / mine, f"{name}_vs_plain": middle["plain"] / mine}
    if lookups:
        found[f"{name}_vs_lookup"] = min(lookups) / mine
    if name == "unchanged":
        found |= {"unchanged_vs_floor": mine / middle["floor"], "unchanged_passes": passes}
    else:
        found[f"{name}_passes_vs_least"] = passes / least
    return {key: round(value, 3) for key, value in found.items()}


def show(name: str, middle: Mapping[str, float], passes: float, least: float) -> None:
    """One workload as lines of a table, the fastest arm first."""
    print(f"\n{name}: {passes:.1f} passes, {least:.1f} at least", flush=True)
    for arm, seconds in sorted(middle.items(), key=lambda item: item[1]):
        print(f"  {arm:14} {1000 * seconds:8.0f} ms  {seconds / middle['ours']:6.2f} times ours", flush=True)


def timed(arm: Callable[[Pair], list[int]], pair: Pair) -> Timing:
    """One arm on one pair."""
    started = time.perf_counter()
    tokens = arm(pair)
    return Timing(time.perf_counter() - started, tokens)


def llama_33m() -> Any:
    """A Llama of 512 by 8 with a vocabulary of 16,000 and random weights."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=512,
        intermediate_size=1376,
        num_hidden_layers=8,
        num_attention_heads=8,
        max_position_embeddings=4096,
        eos_token_id=END,
        pad_token_id=0,
        tie_word_embeddings=True,
    )
    return cast("Any", AutoModelForCausalLM).from_config(config).eval()


class Script(LogitsProcessor):
    """Gives the next token of the correction its bonus, in `generate`."""

    def __init__(self, pair: Pair) -> None:
        self._pair = pair

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> Any:
        """Scores, [1, vocabulary], with the bonus."""
        position = input_ids.shape[1] - len(self._pair.prompt)
        if position < len(self._pair.correction):
            scores[:, self._pair.correction[position]] += BONUS
        return scores


def scripted(correction: Sequence[int], logits: torch.Tensor, position: int) -> torch.Tensor:
    """The same bonus for the tokens from a position on, in our decoder."""
    count = min(len(logits), len(correction) - position)
    logits[torch.arange(count), torch.tensor(correction[position : position + count])] += BONUS
    return logits


@torch.inference_mode()
def generated(model: Any, pair: Pair, lookup: tuple[int, int] | None = None) -> list[int]:
    """What `generate` decodes, plain or with prompt lookup."""
    drafting: dict[str, int] = {}
    if lookup is not None:
        drafting = {"prompt_lookup_num_tokens": lookup[0], "max_matching_ngram_size": lookup[1]}
    ids = torch.tensor([pair.prompt])
    whole = model.generate(
        ids,
        attention_mask=torch.ones_like(ids),
        max_new_tokens=len(pair.correction) + 8,
        do_sample=False,
        logits_processor=LogitsProcessorList([Script(pair)]),
        **drafting,
    )
    return whole[0, len(pair.prompt) :].tolist()


def ours(decoder: Decoder, pair: Pair, notes: list[Decoded]) -> list[int]:
    """What our decoder gives, with the answer as the draft."""
    request = Request(
        prompt=pair.prompt,
        limit=len(pair.correction) + 8,
        ends=frozenset({END}),
        draft=Draft((*pair.answer, END)),
        adjust=partial(scripted, pair.correction),
    )
    decoded = [step.end for step in decoder.decode([request]) if step.end is not None]
    notes += decoded
    return decoded[0].tokens


@torch.inference_mode()
def floor(model: Any, pair: Pair) -> list[int]:
    """One forward pass over prompt, answer and answer, with the logits of the last answer."""
    ids = torch.tensor([[*pair.prompt, *pair.answer]])
    return model(ids, logits_to_keep=len(pair.answer) + 1).logits.argmax(-1)[0].tolist()


def unchanged(random: Random, size: int) -> Pair:
    """Nothing to correct."""
    return edited(random, size, share=0.0)


def edited(random: Random, size: int, *, share: float) -> Pair:
    """Some of the answer's tokens replaced by others."""
    answer = words(random, size)
    correction = list(answer)
    places = random.sample(range(size), round(share * size))
    for place in places:
        correction[place] = words(random, 1)[0]
    return pair_of(random, answer, correction, edits=len(places))


def rewritten(random: Random, size: int) -> Pair:
    """A sentence of 20 tokens rewritten as another one of 20."""
    answer = words(random, size)
    start = random.randrange(size - 20)
    return pair_of(random, answer, [*answer[:start], *words(random, 20), *answer[start + 20 :]], edits=20)


def prefixed(random: Random, size: int) -> Pair:
    """A sentence of 20 tokens put in front."""
    answer = words(random, size)
    return pair_of(random, answer, [*words(random, 20), *answer], edits=20)


def disjoint(random: Random, size: int) -> Pair:
    """Nothing shared."""
    answer = words(random, size)
    taken = set(answer)
    return pair_of(random, answer, [w for w in words(random, 2 * size) if w not in taken][:size], edits=size - 1)


def pair_of(random: Random, answer: list[int], correction: list[int], *, edits: int) -> Pair:
    """A prompt that ends with the answer between two separators, as a template has them."""
    return Pair([*words(random, QUESTION), 3, *answer, 4], answer, [*correction, END], 1 + edits)


def words(random: Random, count: int) -> list[int]:
    """Random tokens, none of which is special."""
    return [random.randrange(10, VOCABULARY) for _ in range(count)]


WORKLOADS: Mapping[str, Callable[[Random, int], Pair]] = {
    "unchanged": unchanged,
    "edit1": partial(edited, share=0.01),
    "edit3": partial(edited, share=0.03),
    "edit8": partial(edited, share=0.08),
    "rewrite": rewritten,
    "prefix": prefixed,
    "disjoint": disjoint,
}

if __name__ == "__main__":
    main()
