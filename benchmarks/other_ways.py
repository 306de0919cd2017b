"""An Aligner against other ways to better answers with the same upstream: best of n, Self-Refine, and critique.

python benchmarks/other_ways.py                        300 questions
python benchmarks/other_ways.py --quick                40 questions
python benchmarks/other_ways.py --reward FOLDER        best of n by that reward model, too

Called again after any end, it goes on behind the last answer in the folder --out. Delete answers.jsonl there to have
all of them answered anew.

The upstream is the shipped one at temperature 1, in the closed world, marked by its oracle. It has 1 M parameters and
has learnt nothing but to answer: it cannot follow a request to review or revise, so that what is found here of
Self-Refine and critique is what they do to an upstream that cannot follow them, and no verdict on these methods.
Best of n by the oracle itself is a bound that no real judge can pass.
"""

import argparse
import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import astuple, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from record import record

from aligner.baselines.best_of import BestOf
from aligner.baselines.calls import usage_of
from aligner.baselines.critique import published_critique
from aligner.baselines.revising import Reviser
from aligner.correct import Aligner
from aligner.correcting.writers import shipped
from aligner.evaluating.kept import Kept, key_of
from aligner.judge import load_judge
from aligner.models import load_model
from aligner.prompts import SELF_REFINE
from aligner.records import ChatModel, Completion, Message, SamplingParams, Usage
from aligner.scoring.pairs import gain, mcnemar, pairs_of
from aligner.scoring.shares import wilson
from aligner.training.card import model_hash
from aligner.world.oracle import mark
from aligner.world.questions import Asked
from aligner.world.rows import held_out_rows

_SEED = 5_000_011
_DRAWS = (2, 4, 8)
_BRIEF = replace(
    SELF_REFINE,
    review_system="",
    review="Question: {question}\nAnswer: {answer}\nIf it is good, say [[nothing to improve]]. If not, what is wrong?",
    revision_system="",
    revision="Question: {question}\nAnswer: {answer}\nIt was said: {review}\nThe better answer:",
)
"""Self-Refine in few words, since the upstream's context holds 256 tokens"""


class Way(NamedTuple):
    """A way to an answer."""

    answer: Callable[[str, SamplingParams], Awaitable[Completion]]
    by: str = ""
    """what it depends on besides its name and the upstream"""


class Found(NamedTuple):
    """What one way made of the questions."""

    answers: Sequence[Completion]
    seconds: float


def main() -> None:
    """Measure, and print one line of JSON last."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="40 questions in place of 300")
    parser.add_argument("--reward", type=Path, help="folder of a reward model that chooses, too")
    parser.add_argument("--out", type=Path, default=Path("runs/other-ways"), help="folder of the answers")
    arguments = parser.parse_args()
    asked = questions(40 if arguments.quick else 300)
    with Kept(arguments.out / "answers.jsonl") as kept:
        found = {name: asyncio.run(answered(name, way, asked, kept)) for name, way in ways(arguments.reward).items()}
    good = {
        name: [mark(one, answer.text).good for one, answer in zip(asked, run.answers, strict=True)]
        for name, run in found.items()
    }
    figures = {
        "questions": len(asked),
        "ways": {
            name: {**figures_of(good, name), "changed": changed(found["upstream"], run), **cost(run)}
            for name, run in found.items()
        },
        "seconds": round(sum(run.seconds for run in found.values()), 1),
    }
    record("other_ways_quick" if arguments.quick else "other_ways", figures)


def questions(count: int) -> list[Asked]:
    """So many different questions with names that no training saw."""
    asked = {row.asked.text: row.asked for row in held_out_rows(count, seed=_SEED)}
    # Of every profile some, since families of questions go with profiles.
    return list(asked.values())[:: max(len(asked) // count, 1)][:count]


def ways(reward: Path | None) -> Mapping[str, Way]:
    """The upstream alone, and all that is done with it."""
    upstream, aligner = load_model(f"hf:{shipped('upstream')}"), Aligner.from_pretrained("demo", device="cpu")
    judges = {"oracle": "world:", **({"reward": f"reward:{reward}"} if reward else {})}
    critique = published_critique(upstream)
    return {
        "upstream": Way(partial(asked_of, upstream)),
        **{
            f"best of {n}, {name}": Way(partial(asked_of, BestOf(model=upstream, judge=judge, n=n)), judge.name)
            for name, judge in ((name, load_judge(judge)) for name, judge in judges.items())
            for n in _DRAWS
        },
        "self-refine": Way(partial(asked_of, Reviser(upstream, _BRIEF, ("",) * 2)), repr(_BRIEF)),
        "critique": Way(partial(asked_of, critique), repr(critique.wording)),
        "aligner": Way(partial(corrected, upstream, aligner), aligner.writer.fingerprint),
    }


async def asked_of(model: ChatModel, question: str, sampling: SamplingParams) -> Completion:
    """A model's answer."""
    return await model.complete([Message("user", question)], sampling)


async def corrected(upstream: ChatModel, aligner: Aligner, question: str, sampling: SamplingParams) -> Completion:
    """The upstream's answer as the Aligner corrects it, with what both of them took."""
    answer = await asked_of(upstream, question, sampling)
    correction = await aligner.acorrect(question, answer.text)
    return Completion(correction.text, usage=usage_of([answer, Completion("", usage=correction.usage)]))


async def answered(name: str, way: Way, asked: Sequence[Asked], kept: Kept) -> Found:
    """The answers of one way, each kept at once; the first draw is the same for all ways."""
    found: list[Any] = []
    weights = model_hash(shipped("upstream"))
    for number, one in enumerate(asked):
        sampling = SamplingParams(temperature=1.0, seed=_SEED + number)
        key = key_of(name, way.by, weights, one.text, sampling.seed)
        if key not in kept:
            start, answer = time.monotonic(), await way.answer(one.text, sampling)
            took = {"text": answer.text, "usage": astuple(answer.usage), "seconds": time.monotonic() - start}
            kept.put([(key, took)])
        found.append(kept[key])
    seconds = sum(one["seconds"] for one in found)
    print(f"{name}: {seconds:.0f} s", flush=True)
    return Found([Completion(one["text"], usage=Usage(*one["usage"])) for one in found], seconds)


def figures_of(good: Mapping[str, Sequence[bool]], name: str) -> dict[str, Any]:
    """A way's share of good answers, held against the upstream's own and against the Aligner's."""
    count, total = sum(good[name]), len(good[name])
    net, pairs = gain(good["upstream"], good[name]), pairs_of(good["upstream"], good[name])
    return {
        "good": count / total,
        "good_interval": wilson(count, total),
        "fixed": pairs.fixed,
        "broken": pairs.broken,
        "net": net.value,
        "net_interval": [net.low, net.high],
        "p": mcnemar(pairs),
        "p_against_aligner": mcnemar(pairs_of(good[name], good["aligner"])),
    }


def changed(upstream: Found, run: Found) -> int:
    """How many answers are others than the upstream's."""
    return sum(before.text != after.text for before, after in zip(upstream.answers, run.answers, strict=True))


def cost(run: Found) -> dict[str, float]:
    """What an answer took on average."""
    usage, count = usage_of(run.answers), len(run.answers)
    return {
        "tokens_read": usage.prompt_tokens / count,
        "tokens_written": usage.completion_tokens / count,
        "seconds": run.seconds / count,
    }


if __name__ == "__main__":
    main()
