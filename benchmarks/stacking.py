"""What an Aligner's second and third pass over its own corrections bring, and what the order of several Aligners does.

python benchmarks/stacking.py           trains three specialists (see seconds.training)
python benchmarks/stacking.py --quick   the shipped Aligner's passes alone, over fewer answers

Called again after any end, it goes on in the folder --out: training from its last checkpoint, and all else behind the
last run over the answers that was through. Delete runs.jsonl there to measure anew.

All in the closed world, marked by its oracle. Passes are over held-out answers of the 15 profiles, and over answers
that the shipped upstream, a language model, samples at temperature 1, in whose flaws no Aligner was trained.
"""

import argparse
from collections.abc import Mapping, Sequence
from functools import partial
from itertools import takewhile
from pathlib import Path
from typing import Any

from record import record
from stacking_runs import Answer, Run, held_out_answers, sampled_answers, timed
from stacking_specialists import SPECIALISTS, specialist

from aligner.correct import Aligner
from aligner.correcting.stacking import Stacked
from aligner.evaluating.kept import Kept
from aligner.scoring.pairs import gain, mcnemar, pairs_of
from aligner.scoring.shares import wilson

_SEED = 3_000_017
"""of the answers that are corrected, which nothing was trained on or chosen by"""
_PASSES = 3
_WORTH = 0.01
"""more good answers, as a share, for which a pass belongs to the default"""


def main() -> None:
    """Measure, and print one line of JSON last."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="the shipped Aligner's passes alone, over fewer answers")
    parser.add_argument("--out", type=Path, default=Path("runs/stacking"), help="folder of specialists and runs")
    arguments = parser.parse_args()
    count = 60 if arguments.quick else 200
    with Kept(arguments.out / "runs.jsonl") as kept:
        held_out, sampled = held_out_answers(count, seed=_SEED), sampled_answers(count, kept, seed=_SEED)
        passes = {
            name: passes_over(name, answers, kept) for name, answers in (("held_out", held_out), ("sampled", sampled))
        }
        figures = {**passes, "default": default_of(list(passes.values()))}
        if not arguments.quick:
            figures |= orders_over(held_out, arguments.out, kept)
    record("stacking_quick" if arguments.quick else "stacking", figures)


def passes_over(name: str, answers: Sequence[Answer], kept: Kept) -> list[dict[str, Any]]:
    """The shipped Aligner's passes, each held against the one before it; what they cost is of all passes so far."""
    aligner = Aligner.from_pretrained("demo", device="cpu")
    figures, before = [unaligned(answers)], [answer.text for answer in answers]
    for passes in range(1, _PASSES + 1):
        run = timed(f"{name}, passes: {passes}", [aligner], answers, kept, passes=passes)
        after = [stacked.text for stacked in run.stacked]
        last = [step for stacked in run.stacked for step in stacked.steps if step.number == passes]
        changed = sum(step.correction.changed for step in last)
        said = {"passes": passes, "asked": len(last), "changed": changed}
        figures.append({**said, **against(answers, before, after), **cost(run)})
        before = after
    return figures


def default_of(tables: Sequence[Sequence[Mapping[str, Any]]]) -> int:
    """How many passes to take unless somebody says otherwise: those that are each worth it on all kinds of answers."""
    worth = (all(table[passes]["net"] >= _WORTH for table in tables) for passes in range(2, _PASSES + 1))
    return 1 + len(list(takewhile(bool, worth)))


def orders_over(answers: Sequence[Answer], out: Path, kept: Kept) -> dict[str, Any]:
    """Three specialists in a row, in three orders, and what the one Aligner for all does with the same answers."""
    made = {name: specialist(name, out) for name in SPECIALISTS}
    row = [Aligner.from_pretrained(str(one.checkpoint), device="cpu") for one in made.values()]
    runs = {
        "given": timed("given", row, answers, kept),
        "reversed": timed("reversed", row[::-1], answers, kept),
        "gate": timed("gate", row, answers, kept, order="gate"),
        "gate, two passes": timed("gate, two passes", row, answers, kept, order="gate", passes=2),
        "given, two passes": timed("given, two passes", row, answers, kept, passes=2),
        "one for all": timed("one for all", [Aligner.from_pretrained("demo", device="cpu")], answers, kept),
    }
    texts = {name: [stacked.text for stacked in run.stacked] for name, run in runs.items()}
    return {
        "specialists": list(SPECIALISTS),
        "gates": {name: one.wanted for name, one in made.items()},
        "seconds": {"training": {name: round(one.seconds) for name, one in made.items()}},
        "orders": {name: [*steps_of(answers, run.stacked), cost(run)] for name, run in runs.items()},
        "gate_against_given": against(answers, texts["given"], texts["gate"]),
        "reversed_against_given": against(answers, texts["given"], texts["reversed"]),
        "two_passes_against_one": against(answers, texts["given"], texts["given, two passes"]),
    }


def steps_of(answers: Sequence[Answer], stacked: Sequence[Stacked]) -> list[dict[str, Any]]:
    """What each step of a row did, held against the step before it; whoever has no such step stays as he was."""
    figures, before = [unaligned(answers)], [answer.text for answer in answers]
    for number in range(1, max(len(one.steps) for one in stacked) + 1):
        texts = partial(text_after, number)
        after = [texts(answer, one) for answer, one in zip(answers, stacked, strict=True)]
        asked = sum(len(one.steps) >= number for one in stacked)
        figures.append({"step": number, "asked": asked, **against(answers, before, after)})
        before = after
    return figures


def text_after(number: int, answer: Answer, stacked: Stacked) -> str:
    """The text after so many steps."""
    had = stacked.steps[:number]
    return had[-1].correction.text if had else answer.text


def unaligned(answers: Sequence[Answer]) -> dict[str, Any]:
    """The answers as they were."""
    good = sum(answer.is_good(answer.text) for answer in answers)
    return {"answers": len(answers), "good": good / len(answers), "good_interval": wilson(good, len(answers))}


def against(answers: Sequence[Answer], before: Sequence[str], after: Sequence[str]) -> dict[str, Any]:
    """The share of good answers now, and what was fixed and broken, with McNemar's p and an interval over questions."""
    was, now = (
        [answer.is_good(text) for answer, text in zip(answers, texts, strict=True)] for texts in (before, after)
    )
    pairs, net = pairs_of(was, now), gain(was, now, [answer.asked.text for answer in answers])
    return {
        "good": pairs.after / pairs.total,
        "good_interval": wilson(pairs.after, pairs.total),
        "fixed": pairs.fixed,
        "broken": pairs.broken,
        "net": net.value,
        "net_interval": [net.low, net.high],
        "p": mcnemar(pairs),
    }


def cost(run: Run) -> Mapping[str, float]:
    """What an answer took on average: the model's passes, tokens read and written, and seconds."""
    looks = [look for stacked in run.stacked for look in stacked.looks]
    usages = [*(step.correction.usage for one in run.stacked for step in one.steps), *looks]
    count = len(run.stacked)
    return {
        "model_passes": sum(usage.passes for usage in usages) / count,
        "tokens_read": sum(usage.prompt_tokens for usage in usages) / count,
        "tokens_written": sum(usage.completion_tokens for usage in usages) / count,
        "seconds": run.seconds / count,
    }


if __name__ == "__main__":
    main()
