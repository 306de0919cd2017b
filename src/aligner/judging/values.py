"""Whether a correction is worth learning, as a judge sees it."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from aligner.jobs import map_ordered
from aligner.judging.verdicts import Verdict
from aligner.prompts import Quality
from aligner.records import Question, Triple

Compare = Callable[[Question, str, str, Quality], Awaitable[Verdict]]
"""How a judge compares two answers by a quality."""

_AT_A_TIME = 8


def value_of(
    compare: Compare, qualities: Sequence[Quality], *, at_a_time: int = _AT_A_TIME
) -> Callable[[Sequence[tuple[Triple, str]]], list[bool]]:
    """The value that a judge gives to corrections of answers: worse by none of the qualities, and better by one.

    Raises what the judge raises: nothing is learnt from corrections that were not judged.
    """

    async def is_worth(pair: tuple[Triple, str]) -> bool:
        row, text = pair
        return better([await compare(row.question, row.answer, text, quality) for quality in qualities])

    async def every(pairs: Sequence[tuple[Triple, str]]) -> list[bool]:
        return [worth async for worth in map_ordered(is_worth, pairs, limit=at_a_time)]

    return lambda pairs: asyncio.run(every(pairs))


def better(verdicts: Sequence[Verdict]) -> bool:
    """Whether the second answer wins at least once, and never loses."""
    winners = {verdict.winner for verdict in verdicts}
    return "b" in winners and "a" not in winners
