"""What drafts are worth end to end: the shipped Aligner on held-out answers, and batches of both models.

    python benchmarks/decoding_demo.py           20 answers for each upstream
    python benchmarks/decoding_demo.py --quick   3 answers for each upstream

The peer is `generate`. Answers that the Aligner leaves, edits and rewrites (fewer than half of its tokens stand in the
answer) are reported apart; each figure is a median over answers of how many times faster ours is, in one run.
"""

import argparse
import time
from collections.abc import Callable, Sequence
from random import Random
from statistics import median
from typing import Any, NamedTuple

import torch
from decoding import Pair, decoded_together, edited, generated_together, llama_33m, prefixed
from record import record

from aligner.correct import Aligner
from aligner.correcting.lm_writer import LMWriter, load_checkpoint
from aligner.correcting.writers import shipped
from aligner.decoding.blocks import MeasuredBlocks
from aligner.decoding.costs import measure
from aligner.decoding.decoder import Decoder
from aligner.decoding.packed import packed
from aligner.demo import held_out
from aligner.models.hf import load_causal_lm
from aligner.records import Exchange, SamplingParams


class Answered(NamedTuple):
    """One answer by both arms."""

    kind: str
    times_faster: float
    same: bool
    passes: int


def main() -> None:
    """Measure, print a line for each kind, and one line of JSON last."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="3 answers for each upstream")
    each = 3 if parser.parse_args().quick else 20
    exchanges = [Exchange(row.asked.text, row.answer) for row in held_out(each)]
    figures = one_by_one(exchanges) | demo_batches(exchanges) | mixed_batches(4 if each == 3 else 16)
    record("decoding_demo", figures)


def one_by_one(exchanges: Sequence[Exchange]) -> dict[str, Any]:
    """Each answer alone, by `generate` and by ours, in turns."""
    folder = shipped("aligner")
    writer, lm = load_checkpoint(str(folder), "cpu"), load_causal_lm(folder, "cpu")
    answered = [answer_both(writer, lm.model, exchange) for exchange in [exchanges[0], *exchanges]][1:]
    figures: dict[str, Any] = {"demo_answers": len(answered), "demo_same_text": all(a.same for a in answered)}
    for kind in ("all", "unchanged", "edited", "rewritten"):
        chosen = [a for a in answered if kind in (a.kind, "all")]
        if chosen:
            figures[f"demo_{kind}"] = len(chosen)
            figures[f"demo_{kind}_vs_greedy"] = round(median(a.times_faster for a in chosen), 2)
            figures[f"demo_{kind}_passes"] = round(sum(a.passes for a in chosen) / len(chosen), 2)
    return figures


def answer_both(writer: LMWriter, model: Any, exchange: Exchange) -> Answered:
    """One answer by both arms."""
    prompt = writer.encoder.prompt_ids(exchange.question, exchange.answer)
    started = time.perf_counter()
    ids = torch.tensor([prompt])
    with torch.inference_mode():
        whole = model.generate(
            ids, attention_mask=torch.ones_like(ids), max_new_tokens=writer.context - len(prompt), do_sample=False
        )
    text = writer.codec.decode(whole[0, len(prompt) :].tolist())
    middle = time.perf_counter()
    (ours,) = writer.write([exchange], SamplingParams())
    seconds = time.perf_counter() - middle
    given, made = writer.encoder.text_ids(exchange.answer), writer.encoder.text_ids(ours.text)
    copied = sum(token in set(given) for token in made)
    kind = "unchanged" if made == given else "edited" if 2 * copied >= len(made) else "rewritten"
    return Answered(kind, (middle - started) / seconds, text == ours.text, ours.usage.passes)


def demo_batches(exchanges: Sequence[Exchange]) -> dict[str, float]:
    """Answers a second of the shipped Aligner, for several batches against one at a time."""
    aligner = Aligner.from_pretrained("demo", device="cpu")
    sizes = (1, 4, 8, 16)
    seconds: dict[int, list[float]] = {size: [] for size in sizes}
    for _ in range(3):
        for size in sizes:
            seconds[size].append(timed(lambda size=size: list(aligner.correct_many(exchanges, batch=size))))
    alone = median(seconds[1])
    return {f"demo_batch{size}_vs_alone": round(alone / median(seconds[size]), 3) for size in sizes[1:]}


def mixed_batches(count: int) -> dict[str, float]:
    """The 33 M model on a mix of 60 % unchanged answers, 30 % edited and 10 % with a sentence in front."""
    model = llama_33m()
    driven = packed(model)
    blocks = MeasuredBlocks(measure(driven))
    figures: dict[str, float] = {}
    for batch in (4, 8, 16):
        pairs = [mixed(Random(i), i, 256) for i in range(max(count, batch))]
        groups = [pairs[i : i + batch] for i in range(0, len(pairs), batch)]
        found: list[list[int]] = []
        peer = timed(lambda groups=groups, found=found: found.extend(each(model, groups)))
        check(pairs, found)
        decoder, found = Decoder(driven, blocks, batch), []
        ours = timed(
            lambda decoder=decoder, pairs=pairs, found=found: found.extend(decoded_together(decoder, pairs, []))
        )
        check(pairs, found)
        figures[f"mix_batch{batch}_vs_greedy"] = round(peer / ours, 2)
    return figures


def mixed(random: Random, number: int, size: int) -> Pair:
    """The pair of that number in the mix."""
    place = number % 10
    if place == 8:
        return prefixed(random, size)
    return edited(random, size, share=0.03 if place in {2, 4, 6} else 0.0)


def each(model: Any, groups: Sequence[Sequence[Pair]]) -> list[list[int]]:
    """The peer, a batch after the other."""
    return [tokens for group in groups for tokens in generated_together(model, group)]


def check(pairs: Sequence[Pair], found: Sequence[Sequence[int]]) -> None:
    """Both arms give what the script asks for."""
    if any(list(tokens) != pair.correction for pair, tokens in zip(pairs, found, strict=True)):
        raise AssertionError("other tokens than the script's")


def timed(run: Callable[[], object]) -> float:
    """The seconds that it takes."""
    started = time.perf_counter()
    run()
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
