"""What reading ahead is worth: from the upstream's last token to the first corrected one.

    python benchmarks/read_ahead.py           9 answers
    python benchmarks/read_ahead.py --quick   4 answers

A 33 M Llama corrects an answer of 256 tokens to a question of 250, which comes at 30 tokens a second and needs no
change. The peer is the same back end, told of the answer when it is whole. Scripted logits stand for a trained model:
the right tokens get a bonus, in both arms, and every pass is made.
"""

import argparse
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from random import Random
from statistics import median
from typing import Any, NamedTuple

from decoding import llama_33m, scripted
from record import record

from aligner.correcting.batching import Batcher
from aligner.correcting.lm_writer import LMWriter, writer_of
from aligner.correcting.work import Order, Work
from aligner.correcting.writers import shipped
from aligner.decoding.decoder import Request
from aligner.models.hf import CausalLM, load_causal_lm
from aligner.records import Completion, Exchange, SamplingParams
from aligner.serving.engine_process import Cause
from aligner.training.card import Card

TOKENS_A_SECOND = 30
QUESTION, ANSWER = 250, 256
"""tokens"""
TARGET = 1.7


class Scripted(LMWriter):
    """A writer that finds nothing to change."""

    def request(
        self,
        prompt: list[int],
        exchange: Exchange,
        sampling: SamplingParams,
        *,
        doubt: bool = False,
        gate: float | None = None,
    ) -> Request:
        """What to decode: the answer's own tokens get the bonus."""
        whole = (*self.codec.encode(exchange.answer), self.codec.end)
        plain = super().request(prompt, exchange, sampling, doubt=doubt, gate=gate)
        return replace(plain, adjust=partial(scripted, whole))


class Timed:
    """Notes when the first piece of a correction comes, and waits for its end."""

    def __init__(self) -> None:
        self.first = 0.0
        self.ended = False

    def piece(self, text: str) -> None:
        """Some of it."""
        self.first = self.first or time.perf_counter() * bool(text)

    def done(self, completion: Completion, seconds: Mapping[str, float]) -> None:
        """All of it."""
        self.ended = True

    def failed(self, cause: Cause, message: str) -> None:
        """None of it."""
        raise SystemExit(f"no correction: {cause}: {message}")


class Case(NamedTuple):
    """A question, and an answer in the pieces that come."""

    question: str
    pieces: Sequence[str]


def main() -> None:
    """Measure both arms in turns, and print one line of JSON last."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="4 answers")
    count = 4 if parser.parse_args().quick else 9
    writer = writer_33m()
    cases = [case(writer, Random(i)) for i in range(count + 1)]
    ahead, behind = list[float](), list[float]()
    for one in cases:
        back_end = Batcher(writer, 16, print)
        ahead.append(timed(back_end, one, ahead=True))
        behind.append(timed(back_end, one, ahead=False))
        back_end.close()
        print(f"with read-ahead {ahead[-1]:.0f} ms, without {behind[-1]:.0f} ms", flush=True)
    # The first is for nothing: memory is handed out, kernels are chosen.
    with_it, without = median(ahead[1:]), median(behind[1:])
    figures: dict[str, Any] = {
        "answers": count,
        "ahead_ms": round(with_it, 1),
        "behind_ms": round(without, 1),
        "times_shorter": round(without / with_it, 2),
        "target_met": without / with_it >= TARGET,
    }
    record("read_ahead", figures)


def writer_33m() -> LMWriter:
    """The 33 M model with the shipped Aligner's tokenizer and template."""
    folder = shipped("aligner")
    lm = CausalLM(llama_33m(), load_causal_lm(folder, "cpu").tokenizer)
    plain = writer_of(lm, Card.load(folder).template, fingerprint="33m")
    return Scripted(plain.start, plain.codec, plain.encoder, plain.fingerprint, 4096)


def case(writer: LMWriter, random: Random) -> Case:
    """Words that make up so many tokens."""
    words = "the capital of Norway is a town in north and it was said that no one can see".split()

    def text(tokens: int) -> str:
        said: list[str] = []
        while len(writer.codec.encode(" ".join(said))) < tokens:
            said.append(random.choice(words))
        return " ".join(said)

    answer = text(ANSWER)
    size = -(-len(answer) // ANSWER)
    return Case(text(QUESTION), [answer[at : at + size] for at in range(0, len(answer), size)])


def timed(back_end: Batcher, case: Case, *, ahead: bool) -> float:
    """Milliseconds from the last piece of the answer to the first of its correction."""
    heard = Timed()
    work = Work(case.question, heard)
    if ahead:
        back_end.open(work)
        for piece in case.pieces:
            time.sleep(1 / TOKENS_A_SECOND)
            back_end.append(work, piece)
    exchange = Exchange(case.question, "".join(case.pieces))
    last = time.perf_counter()
    work.ask(Order(exchange=exchange, sampling=SamplingParams(), gate=None))
    back_end.finish(work)
    while not heard.ended:
        time.sleep(0.001)
    return 1000 * (heard.first - last)


if __name__ == "__main__":
    main()
