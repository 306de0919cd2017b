"""Rows of Aligners over answers of the closed world: each run is kept when it is through, with the time it took."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import astuple
from typing import Any, NamedTuple

from aligner.correct import Aligner
from aligner.correcting.stacking import Order, Stacked, Step, steps_many
from aligner.correcting.writers import shipped
from aligner.evaluating.kept import Kept, key_of
from aligner.models.batched import answers_of
from aligner.models.hf import load_causal_lm
from aligner.records import Correction, Exchange, SamplingParams, Usage
from aligner.training.card import model_hash
from aligner.world.oracle import mark
from aligner.world.questions import Asked
from aligner.world.rows import held_out_rows

_BATCH = 64


class Answer(NamedTuple):
    """An answer to a question of the world."""

    asked: Asked
    text: str

    def is_good(self, text: str) -> bool:
        """Whether a text is a good answer to the same question."""
        return mark(self.asked, text).good


class Run(NamedTuple):
    """What became of the answers, and how long it took."""

    stacked: Sequence[Stacked]
    seconds: float


def held_out_answers(count: int, *, seed: int) -> list[Answer]:
    """So many answers of each profile to questions with names that training never saw."""
    return [Answer(row.asked, row.answer) for row in held_out_rows(count, seed=seed)]


def sampled_answers(count: int, kept: Kept, *, seed: int) -> list[Answer]:
    """The shipped upstream's answers to as many unseen questions, without those that it did not finish."""
    questions = list({row.asked.text: row.asked for row in held_out_rows(count, seed=seed + 1)}.values())
    texts, key = [asked.text for asked in questions], key_of("sampled", count, seed, model_hash(shipped("upstream")))
    if key not in kept:
        start, sampling = time.monotonic(), SamplingParams(temperature=1.0, seed=seed)
        drawn = answers_of(load_causal_lm(shipped("upstream"), "cpu"), texts, sampling, batch=_BATCH)
        kept.put([(key, {"answers": [one.text if one.finish_reason == "stop" else "" for one in drawn]})])
        print(f"answers sampled: {time.monotonic() - start:.0f} s", flush=True)
    pairs = zip(questions, kept[key]["answers"], strict=True)
    return [Answer(asked, text) for asked, text in pairs if text.strip()]


def timed(
    name: str,
    aligners: Sequence[Aligner],
    answers: Sequence[Answer],
    kept: Kept,
    *,
    passes: int = 1,
    order: Order = "given",
) -> Run:
    """Correct the answers by the row of Aligners, or read back what that has given."""
    said = [(answer.asked.text, answer.text) for answer in answers]
    key = key_of([aligner.writer.fingerprint for aligner in aligners], passes, order, _BATCH, said)
    if key not in kept:
        start, exchanges = time.monotonic(), (Exchange(*one) for one in said)
        rows = [_to_json(one) for one in steps_many(aligners, exchanges, passes=passes, order=order, batch=_BATCH)]
        kept.put([(key, {"seconds": time.monotonic() - start, "rows": rows})])
    found = kept[key]
    print(f"{name}: {found['seconds']:.0f} s", flush=True)
    return Run([_of_json(answer, row) for answer, row in zip(answers, found["rows"], strict=True)], found["seconds"])


def _to_json(stacked: Stacked) -> Mapping[str, Any]:
    steps = [
        (step.number, step.aligner, step.correction.text, astuple(step.correction.usage)) for step in stacked.steps
    ]
    return {"steps": steps, "looks": [astuple(look) for look in stacked.looks]}


def _of_json(answer: Answer, row: Mapping[str, Any]) -> Stacked:
    """The same steps, without what is not counted: edits, reasons and confidence."""
    texts = [answer.text, *(text for _, _, text, _ in row["steps"])]
    steps = [
        Step(number, place, Correction(exchange=Exchange(answer.asked.text, before), text=text, usage=Usage(*usage)))
        for before, (number, place, text, usage) in zip(texts, row["steps"], strict=False)
    ]
    return Stacked(texts[-1], tuple(steps), tuple(Usage(*look) for look in row["looks"]))
