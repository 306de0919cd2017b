"""A sample of the gate's decisions, for another judge and for people."""

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path
from random import Random
from typing import NamedTuple

from aligner.bootstrapping.gating import Asking, check_judge, fate_of, winners
from aligner.bootstrapping.nouns import Fate, Gated
from aligner.evaluating.formats import share
from aligner.evaluating.kept import Kept
from aligner.files import RowError, bad_rows_named, read, write_rows
from aligner.files.paths import beside
from aligner.jobs import map_ordered
from aligner.judge import Judge
from aligner.judging.verdicts import Verdict
from aligner.prompts import Quality
from aligner.scoring.agreement import kappa
from aligner.scoring.intervals import Interval
from aligner.scoring.shares import wilson

_AT_A_TIME = 8
_MEANINGS: Mapping[object, Fate] = {"correction": "learnt", "answer": "not preferred", "tie": "not preferred"}
"""what the gate would have made of a correction of which a person says that"""


class Audited(NamedTuple):
    """How far somebody else agrees with the gate, on a sample of its decisions."""

    rows: int
    """decisions that were looked at; where nobody has looked yet, those that wait for people"""
    agreement: Interval | None
    """the share on which both agree, with the interval of Wilson; of the sample, which has as many of each decision"""
    kappa: float | None
    """Cohen's; none where chance alone would have them agree always"""
    told: str
    """the same in one sentence"""


def audit(  # noqa: PLR0913  # what is looked at, by whom, and where it will lie
    judge: Judge | None,
    gated: Sequence[Gated],
    *,
    count: int,
    seed: int,
    qualities: Sequence[Quality],
    path: Path,
    named: str = "",
) -> Audited:
    """Write at most `count` of the decisions down for people, half of each kind as far as there are, and count.

    Each row has an empty field `people` for the word of a person: answer, correction or tie. With a judge, what it
    says is there too, and is counted. `named` is what people will know the file by, if not by its name at `path`.
    Raises MisuseError for a quality that the judge cannot judge by, and what it raises.
    """
    if judge is not None:
        check_judge(judge, qualities)
    rows = sample(gated, count=count, seed=seed)
    seconds = _second_verdicts(judge, rows, qualities, path) if judge is not None else None
    write_rows(path, [_row(row, seconds[i] if seconds else None) for i, row in enumerate(rows)])
    if judge is None or seconds is None:
        told = f"{len(rows):,} decisions of the gate wait for people in {named or path.name}."
        return Audited(len(rows), None, None, told)
    return _audited([(row.fate, fate_of(said)) for row, said in zip(rows, seconds, strict=True)], judge.name)


def sample(gated: Sequence[Gated], *, count: int, seed: int) -> list[Gated]:
    """At most `count` of the rows that were judged, half of each decision as far as there are, in the gate's order."""
    places: dict[Fate, list[int]] = {
        fate: [i for i, row in enumerate(gated) if row.fate == fate] for fate in ("learnt", "not preferred")
    }
    learnt, others = places["learnt"], places["not preferred"]
    first = min(len(learnt), max(count - count // 2, count - len(others)))
    random = Random(f"{seed} audit")
    drawn = [*random.sample(learnt, first), *random.sample(others, min(count - first, len(others)))]
    return [gated[i] for i in sorted(drawn)]


def audited_by_people(path: Path) -> Audited:
    """What people have put into the field `people` of a sample; rows where it is empty are not counted.

    Raises InputFileError for a row that says anything else than answer, correction or tie.
    """
    rows = read(path, _decisions, bad_rows=bad_rows_named("stop", path))
    decisions = [parsed.value for parsed in rows]
    answered: list[tuple[Fate, Fate]] = [(ours, theirs) for ours, theirs in decisions if theirs is not None]
    if not answered:
        return Audited(len(decisions), None, None, f"No person has looked at any of {len(decisions):,} decisions yet.")
    return _audited(answered, "people")


def _second_verdicts(
    judge: Judge, rows: Sequence[Gated], qualities: Sequence[Quality], path: Path
) -> list[Mapping[Quality, Verdict]]:
    async def every(asking: Asking) -> list[Mapping[Quality, Verdict]]:
        async def one(row: Gated) -> Mapping[Quality, Verdict]:
            return await asking.verdicts(row.question, row.answer, row.correction, qualities)

        return [said async for said in map_ordered(one, rows, limit=_AT_A_TIME)]

    with Kept(beside(path, ".verdicts.jsonl")) as kept:
        return asyncio.run(every(Asking(judge, kept)))


def _row(row: Gated, second: Mapping[Quality, Verdict] | None) -> Mapping[str, object]:
    said = {} if second is None else {"second": winners(second)}
    return {**row._asdict(), **said, "people": ""}


def _decisions(row: dict[str, object]) -> tuple[Fate, Fate | None]:
    """What the gate decided, and what a person would have."""
    fate, said = row.get("fate"), row.get("people")
    if fate not in ("learnt", "not preferred"):
        raise RowError('"fate" is no decision of a gate')
    if said in ("", None):
        return fate, None
    if not isinstance(said, str) or said not in _MEANINGS:
        raise RowError('"people" is none of answer, correction, tie, nor empty')
    return fate, _MEANINGS[said]


def _audited(decisions: Sequence[tuple[Fate, Fate]], who: str) -> Audited:
    same, total = sum(ours == theirs for ours, theirs in decisions), len(decisions)
    ends = wilson(same, total)
    if ends is None:
        return Audited(0, None, None, f"There was no decision of the gate that {who} could have looked at.")
    found, beyond = Interval(same / total, *ends), kappa(decisions)
    told = f"On {share(found.value)} of {total:,} decisions {who} and the gate agree"
    told += f" (95 % interval {share(found.low)} to {share(found.high)}; kappa "
    return Audited(total, found, beyond, told + (f"{beyond:.2f})." if beyond is not None else "cannot be told)."))
