"""The cases that a report shows: all kinds of them, those that speak against the Aligner first."""

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import NamedTuple

from aligner.evaluating.breakdowns import new_words, withheld
from aligner.evaluating.cases import Case

QUOTAS: Mapping[str, int] = {
    "broken": 120,
    "worse": 70,
    "fixed": 70,
    "better": 40,
    "changed": 30,
    "kept": 20,
    "untouched": 20,
}
"""kinds of outcome in the order in which they are shown, and how many of each at most"""
MEANINGS: Mapping[str, str] = {
    "broken": "was right, is wrong",
    "worse": "more judges' verdicts for the answer",
    "fixed": "was wrong, is right",
    "better": "more judges' verdicts for the correction",
    "changed": "changed, for no better and no worse",
    "kept": "the answer stayed although the Aligner wrote something else",
    "untouched": "came back as it was",
}


@dataclass(frozen=True, slots=True)
class Example:
    """A case, and what became of it."""

    case: Case
    outcome: str
    new_words: float
    """share of the correction's words"""


class Examples(NamedTuple):
    """Some cases, and how many there are of each outcome."""

    shown: Sequence[Example]
    totals: Mapping[str, int]


def choose(cases: Sequence[Case]) -> Examples:
    """A sample of each outcome: all upstreams and tasks in turn, drawn by a hash of their names."""
    kinds: dict[str, list[Case]] = {outcome: [] for outcome in QUOTAS}
    for case in cases:
        kinds[outcome_of(case)].append(case)
    shown = [
        Example(case, outcome, 0.0 if withheld(case) else new_words(case))
        for outcome, quota in QUOTAS.items()
        for case, _ in zip(_in_turn(kinds[outcome]), range(quota), strict=False)
    ]
    return Examples(shown, {outcome: len(kinds[outcome]) for outcome in QUOTAS})


def outcome_of(case: Case) -> str:
    """What became of a case; whether it is right counts for more than what judges say."""
    if case.broken or case.fixed:
        return "broken" if case.broken else "fixed"
    said = Counter(opinion.outcome for opinion in case.opinions)
    if said["loss"] != said["win"]:
        return "worse" if said["loss"] > said["win"] else "better"
    return "changed" if case.changed else "kept" if case.kept_reason else "untouched"


def _in_turn(cases: Iterable[Case]) -> Iterator[Case]:
    arms: dict[tuple[str, str], list[Case]] = {}
    for case in cases:
        arms.setdefault((case.upstream, case.task), []).append(case)
    drawn = [sorted(arm, key=_draw) for arm in arms.values()]
    return (case for row in zip_longest(*drawn) for case in row if case is not None)


def _draw(case: Case) -> bytes:
    name = f"{case.upstream}\0{case.task}\0{case.item}"
    return hashlib.sha256(name.encode(errors="backslashreplace")).digest()
