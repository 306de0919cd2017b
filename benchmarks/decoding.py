"""What drafted decoding costs, side by side with its peers in one process on the same pairs.

    python benchmarks/decoding.py           everything: 64, 256 and 1,000 tokens, batches of 4 and 16
    python benchmarks/decoding.py --quick   256 tokens, four workloads, three pairs each

Arms: plain `generate`, prompt lookup by `generate` (the best of a grid), ours, our decoder with drafting off, and the
floor, one forward pass over prompt, answer and answer. The 33 M Llama has random weights and is driven by a script: in
every arm the token that the correction has next gets the same finite bonus, so edits are exact and the work is real.
Edited means substituted: that share of the answer's tokens, at random places, one by one. Mixed means that so many
edits replace, put in or leave out one to four tokens. `generate` refuses prompt lookup for more than one row.
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


class Plan(NamedTuple):
    """One workload to compare the arms on."""

    workload: str
    size: int = 256
    """tokens of the answer"""
    pairs: int = 3
    grid: Sequence[tuple[int, int]] = ()
    """settings of prompt lookup"""
    batch: int = 1

    @property
    def name(self) -> str:
        """What its figures are called: 256 tokens alone go without saying."""
        size = "" if self.size == 256 else f"n{self.size}_"
        batch = "" if self.batch == 1 else f"batch{self.batch}_"
        return f"{batch}{size}{self.workload}"


def main() -> None:
    """Measure all arms, print a table, and one line of JSON last."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="ends within 4 minutes")
    parser.add_argument("--only", nargs="+", help="some cases of all, such as edit8 or n64_unchanged")
    options = parser.parse_args()
    model = llama_33m()
    driven = packed(model)
    costs = measure(driven)
    print(
        "ms a pass:", {size: round(1000 * s, 1) for size, s in zip(costs.sizes, costs.seconds, strict=True)}, flush=True
    )
    figures: dict[str, Any] = {"equal": True}
    blocks = MeasuredBlocks(costs)
    chosen = [plan for plan in FULL if options.only is None or plan.name in options.only]
    for plan in QUICK if options.quick else chosen:
        pairs = [WORKLOADS[plan.workload](Random(f"{plan.workload} {i}"), plan.size) for i in range(plan.pairs)]
        if plan.batch == 1:
            found = compare(plan.name, pairs, driven, blocks, plan.grid)
        else:
            found = compare_batch(plan.name, pairs, driven, blocks, plan.batch)
        figures["equal"] = figures["equal"] and found.pop("same")
        figures |= found
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


def compare_batch(
    name: str, pairs: Sequence[Pair], driven: PackedModel, blocks: MeasuredBlocks, batch: int
) -> dict[str, Any]:
    """The figures of one workload, all pairs of it at a time, by `generate` and by ours."""
    notes: list[Decoded] = []
    started = time.perf_counter()
    expected = generated_together(driven.model, pairs)
    middle = time.perf_counter()
    tokens = decoded_together(Decoder(driven, blocks, batch), pairs, notes)
    times = {"ours": time.perf_counter() - middle, "greedy": middle - started}
    passes = sum(note.passes for note in notes) / len(notes)
    show(name, times, passes, sum(pair.least_passes for pair in pairs) / len(pairs))
    same = tokens == expected == [pair.correction for pair in pairs]
    return {"same": same, f"{name}_vs_greedy": round(times["greedy"] / times["ours"], 3)}


def ratios(name: str, middle: Mapping[str, float], passes: float, least: float) -> dict[str, float]:
    """How many times faster ours is; for the floor, how many times slower."""
    mine = middle["ours"]
    lookups = [seconds for arm, seconds in middle.items() if arm.startswith("lookup")]
    found = {f"{name}_vs_greedy": middle["greedy"] / mine, f"{name}_vs_plain": middle["plain"] / mine}
    if lookups:
        found[f"{name}_vs_lookup"] = min(lookups) / mine
    if name.endswith("unchanged"):
        found |= {f"{name}_vs_floor": mine / middle["floor"], f"{name}_passes": passes}
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


class Scripts(LogitsProcessor):
    """A script for each row of a batch whose prompts are equally long."""

    def __init__(self, pairs: Sequence[Pair]) -> None:
        self._scripts = [Script(pair) for pair in pairs]

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> Any:
        """Scores, [rows, vocabulary], with each row's bonus."""
        for i, script in enumerate(self._scripts):
            script(input_ids[i : i + 1], scores[i : i + 1])
        return scores


@torch.inference_mode()
def generated_together(model: Any, pairs: Sequence[Pair]) -> list[list[int]]:
    """What `generate` decodes for a batch; each row up to its end."""
    ids = torch.tensor([pair.prompt for pair in pairs])
    whole = model.generate(
        ids,
        attention_mask=torch.ones_like(ids),
        max_new_tokens=max(len(pair.correction) for pair in pairs),
        do_sample=False,
        logits_processor=LogitsProcessorList([Scripts(pairs)]),
    )
    rows: list[list[int]] = whole[:, ids.shape[1] :].tolist()
    return [row[: row.index(END) + 1] if END in row else row for row in rows]


def ours(decoder: Decoder, pair: Pair, notes: list[Decoded]) -> list[int]:
    """What our decoder gives, with the answer as the draft."""
    return decoded_together(decoder, [pair], notes)[0]


def decoded_together(decoder: Decoder, pairs: Sequence[Pair], notes: list[Decoded]) -> list[list[int]]:
    """What our decoder gives for several pairs."""
    requests = (
        Request(
            prompt=pair.prompt,
            limit=len(pair.correction) + 8,
            ends=frozenset({END}),
            draft=Draft((*pair.answer, END)),
            adjust=partial(scripted, pair.correction),
        )
        for pair in pairs
    )
    decoded = {step.number: step.end for step in decoder.decode(requests) if step.end is not None}
    notes += decoded.values()
    return [decoded[number].tokens for number in range(len(pairs))]


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


def mixed(random: Random, size: int, *, share: float) -> Pair:
    """So many edits, each of which replaces, puts in or leaves out one to four tokens."""
    answer = words(random, size)
    correction, passes, places = list[int](), 0, set(random.sample(range(size - 4), round(share * size)))
    place = 0
    while place < size:
        count = random.choice((1, 1, 2, 3, 4)) if place in places else 0
        kind = random.choice(("replace", "insert", "delete"))
        if count:
            passes += 1 if kind == "delete" else count
            correction += [] if kind == "delete" else words(random, count)
            place += 0 if kind == "insert" else count
        if not count or kind == "insert":
            correction.append(answer[place])
            place += 1
    return pair_of(random, answer, correction, edits=passes)


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
    "mixed1": partial(mixed, share=0.01),
    "mixed3": partial(mixed, share=0.03),
    "rewrite": rewritten,
    "prefix": prefixed,
    "disjoint": disjoint,
}

QUICK = (*(Plan(name, grid=QUICK_GRID) for name in ("unchanged", "edit1", "edit3")), Plan("disjoint"))
FULL = (
    *(Plan(name, grid=GRID) for name in ("unchanged", "edit1", "edit3", "edit8")),
    *(Plan(name, grid=QUICK_GRID) for name in ("mixed1", "mixed3", "rewrite", "prefix")),
    Plan("disjoint"),
    *(Plan(name, 64, grid=() if name == "disjoint" else QUICK_GRID) for name in WORKLOADS),
    *(Plan(name, 1000, 1, grid=() if name == "disjoint" else QUICK_GRID[::2]) for name in WORKLOADS),
    *(Plan(name, pairs=batch, batch=batch) for batch in (4, 16) for name in ("unchanged", "edit3", "disjoint")),
)

if __name__ == "__main__":
    main()
