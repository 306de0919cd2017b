"""The gate: which corrections are learnt from, as a judge sees them in both orders."""

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

from aligner.bootstrapping.lineage import Place
from aligner.bootstrapping.nouns import Corrected, Fate, Gated
from aligner.config.bootstrapping import PairGate
from aligner.correcting.guards import GATE
from aligner.data.fields import as_asked
from aligner.errors import MisuseError
from aligner.evaluating.kept import Kept, key_of
from aligner.files import RowError, bad_rows_named, read, write_rows
from aligner.jobs import Tick, map_ordered
from aligner.judge import Judge
from aligner.judging.values import better
from aligner.judging.verdicts import Verdict
from aligner.prompts import Quality
from aligner.records import Question

_AT_A_TIME = 8
"""rows that a judge is asked about at once"""


def gate(judge: Judge, corrected: Sequence[Corrected], how: PairGate, *, place: Place, tick: Tick) -> None:
    """What becomes of each correction, in order, as rows at the place; no verdict is asked for again after a kill.

    Raises MisuseError for a quality that the judge cannot judge by, before anything is asked, and what it raises.
    """
    check_judge(judge, how.qualities)
    with Kept(place.scratch / "verdicts.jsonl") as kept:
        gated = asyncio.run(_gated(Asking(judge, kept), corrected, how, tick=tick))
    write_rows(place.path, (row._asdict() for row in gated))


def gated_in(path: Path) -> list[Gated]:
    """What `gate` wrote; raises InputFileError for another file."""
    return [parsed.value for parsed in read(path, _gated_of, bad_rows=bad_rows_named("stop", path))]


def fates(gated: Sequence[Gated]) -> Mapping[Fate, int]:
    """How many corrections met each fate."""
    found = Counter(row.fate for row in gated)
    return {fate: found[fate] for fate in get_args(Fate)}


def check_judge(judge: Judge, qualities: Sequence[Quality]) -> None:
    """Raises MisuseError where there are no qualities, or one that the judge cannot judge by."""
    if not qualities:
        raise MisuseError("gate.qualities names none, so that no correction would be learnt from")
    if missing := [quality for quality in qualities if quality not in judge.qualities]:
        raise MisuseError(
            f"{judge.name} cannot judge what is {', '.join(missing)}, only {', '.join(judge.qualities)}; "
            "change gate.qualities, or choose another judge"
        )


class Asking:
    """A judge who is asked about nothing twice: what was said is kept at once, and is there after a kill."""

    def __init__(self, judge: Judge, kept: Kept) -> None:
        self._judge, self._kept = judge, kept

    async def verdicts(
        self, question: Question, answer: str, correction: str, qualities: Sequence[Quality]
    ) -> Mapping[Quality, Verdict]:
        """What the judge says by each quality of the answer, a, and the correction, b."""
        return {quality: await self._verdict(question, answer, correction, quality) for quality in qualities}

    async def _verdict(self, question: Question, answer: str, correction: str, quality: Quality) -> Verdict:
        key = key_of(self._judge.name, question, answer, correction, quality)
        if key not in self._kept:
            verdict = await self._judge.compare(question, answer, correction, quality)
            self._kept.put([(key, verdict._asdict())])
        return Verdict(**self._kept[key])


def fate_of(verdicts: Mapping[Quality, Verdict]) -> Fate:
    """What verdicts make of a correction."""
    return "learnt" if better(list(verdicts.values())) else "not preferred"


def winners(verdicts: Mapping[Quality, Verdict]) -> Mapping[str, str]:
    """The winner by each quality: a is the answer, b the correction."""
    return {quality: verdict.winner for quality, verdict in verdicts.items()}


async def _gated(asking: Asking, corrected: Sequence[Corrected], how: PairGate, *, tick: Tick) -> list[Gated]:
    async def one(row: Corrected) -> Gated:
        texts = row.question, row.answer, row.correction
        if fate := _fate_unseen(row, how):
            return Gated(*texts, fate, {})
        verdicts = await asking.verdicts(*texts, how.qualities)
        return Gated(*texts, fate_of(verdicts), winners(verdicts))

    return [row async for row in map_ordered(one, corrected, limit=_AT_A_TIME, on_done=lambda _: tick())]


def _fate_unseen(row: Corrected, how: PairGate) -> Fate | None:
    """The fate of what needs no judge."""
    if row.finish != "stop":
        return "cut off"
    if row.correction == row.answer:
        return "unchanged" if row.kept_reason in (None, GATE) else "kept"
    return "small edit" if row.edit < how.min_edit else None


def _gated_of(row: dict[str, Any]) -> Gated:
    fields: dict[str, Any] = {**row, "question": as_asked(row.get("question"), "question")}
    try:
        return Gated(**fields)
    except TypeError:
        raise RowError("is no row of a gate") from None
