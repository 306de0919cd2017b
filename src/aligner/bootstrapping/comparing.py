"""A judge's verdicts on the answers of two rounds, each asked for once and kept."""

import asyncio
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from aligner.evaluating.kept import Kept, key_of
from aligner.jobs import map_ordered
from aligner.judge import Judge
from aligner.judging.values import better
from aligner.judging.verdicts import Verdict
from aligner.prompts import Quality
from aligner.records import Question

_AT_A_TIME = 8
_SAME = Verdict(0.5, "the answers are the same")


class Sides(NamedTuple):
    """One question with what an older round and the new one say."""

    question: Question
    old: str
    new: str


class Compared(NamedTuple):
    """For each question the verdict by each quality; b is the new answer."""

    verdicts: Mapping[Quality, Sequence[Verdict]]
    differ: int
    """questions to which the answers are not the same"""

    @property
    def values(self) -> Mapping[str, list[float]]:
        """1 where the new answer wins, -1 where it loses, else 0: by each quality, and by "all" together."""
        by_quality = {name: [_value(one) for one in found] for name, found in self.verdicts.items()}
        rows = zip(*self.verdicts.values(), strict=True)
        return {**by_quality, "all": [float(better(row)) - better(_swapped(row)) for row in rows]}


def compare(
    judge: Judge, sides: Sequence[Sides], qualities: Sequence[Quality], kept: Path, *, at_a_time: int = _AT_A_TIME
) -> Compared:
    """What the judge says of all sides by each quality; equal answers tie unasked.

    Verdicts are written to the file `kept` as they come, and those that it holds are not asked for again. Raises what
    the judge raises.
    """
    with Kept(kept) as found:
        asyncio.run(_ask(judge, _open(judge, sides, qualities, found), found, at_a_time))
        verdicts: dict[Quality, list[Verdict]] = {
            quality: [_verdict(judge, one, quality, found) for one in sides] for quality in qualities
        }
        return Compared(verdicts, sum(one.old != one.new for one in sides))


class _Task(NamedTuple):
    key: str
    sides: Sides
    quality: Quality


def _open(judge: Judge, sides: Sequence[Sides], qualities: Sequence[Quality], found: Kept) -> Iterator[_Task]:
    """What must be asked, each thing once."""
    tasks = (_Task(_key(judge, one, quality), one, quality) for one in sides for quality in qualities)
    asked = {task.key: task for task in tasks if task.sides.old != task.sides.new and task.key not in found}
    yield from asked.values()


async def _ask(judge: Judge, tasks: Iterable[_Task], found: Kept, at_a_time: int) -> None:
    async def ask(task: _Task) -> tuple[str, Verdict]:
        return task.key, await judge.compare(*task.sides, task.quality)

    def keep(one: tuple[str, Verdict]) -> None:
        key, verdict = one
        found.put([(key, verdict._asdict())])

    async for _ in map_ordered(ask, tasks, limit=at_a_time, on_done=keep):
        pass


def _verdict(judge: Judge, sides: Sides, quality: Quality, found: Kept) -> Verdict:
    return _SAME if sides.old == sides.new else Verdict(**found[_key(judge, sides, quality)])


def _key(judge: Judge, sides: Sides, quality: Quality) -> str:
    return key_of(judge.name, *sides, quality)


def _value(verdict: Verdict) -> float:
    return {"a": -1.0, "tie": 0.0, "b": 1.0}[verdict.winner]


def _swapped(verdicts: Iterable[Verdict]) -> list[Verdict]:
    return [verdict._replace(preference=1 - verdict.preference) for verdict in verdicts]
