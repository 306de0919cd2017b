"""The best of several answers to one question, as a judge finds."""

import asyncio
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext

from aligner.judge import Judge, MarkJudge
from aligner.judging.values import better
from aligner.prompts import Quality
from aligner.records import Question


async def best(
    judge: Judge,
    question: Question,
    answers: Sequence[str],
    qualities: Sequence[Quality],
    *,
    marking: AbstractContextManager[object] | None = None,
) -> int:
    """The place of the best answer, the first of equal ones; raises what the judge raises.

    A judge that marks answers marks each once, in a thread that holds `marking` meanwhile: a lock for those whose
    tokenizer serves one thread at a time. One that compares them holds each against the best so far, in both
    orders, and a later answer takes its place that is worse by no quality and better by one: for n answers n - 1
    comparisons by each quality, where a round robin would take n (n - 1) / 2.
    """
    if len(answers) == 1:
        return 0
    if isinstance(judge, MarkJudge):
        return await asyncio.to_thread(_highest, judge, question, answers, qualities, marking or nullcontext())
    champion = 0
    for place in range(1, len(answers)):
        one, other = answers[champion], answers[place]
        if better([await judge.compare(question, one, other, quality) for quality in qualities]):
            champion = place
    return champion


def _highest(
    judge: MarkJudge,
    question: Question,
    answers: Sequence[str],
    qualities: Sequence[Quality],
    marking: AbstractContextManager[object],
) -> int:
    """The first answer whose mean mark over the qualities the judge does not tell from the highest."""
    with marking:
        marks = [sum(judge.mark(question, text, one) for one in qualities) / len(qualities) for text in answers]
    return next(place for place, mark in enumerate(marks) if mark >= max(marks) - judge.margin)
