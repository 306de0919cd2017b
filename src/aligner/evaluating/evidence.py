"""What the cases of a run prove: the figures of the report, and nothing but figures."""

from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import combinations, groupby
from typing import NamedTuple, TypeVar

import numpy as np

from aligner.evaluating.cases import Case, Opinion
from aligner.scoring.agreement import kappa
from aligner.scoring.changes import Changes, change_of, changes_of
from aligner.scoring.intervals import Interval, mean_interval
from aligner.scoring.lengths import length_controlled, of_like_length
from aligner.scoring.pairs import Pairs, gain, holm, mcnemar, pairs_of

T = TypeVar("T")
_ENOUGH = 30
"""pairs from which on a fit of length says something"""
_BINS = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """One quality of one upstream's answers to one task, as one judge sees it."""

    upstream: str
    task: str
    quality: str
    judge: str
    wins: int
    losses: int
    ties: int
    net: Interval
    """(wins - losses) / all: Aligner, eq. 5"""
    p: float
    """of wins and losses being equally likely"""
    p_adjusted: float
    """the same, for all upstreams of that task, quality and judge together (Holm)"""
    controlled: float | None
    """win rate in per cent at equal length, by our own fit; none for few pairs"""
    like_length: Interval | None
    """the net rate of pairs whose lengths differ by at most a tenth"""
    asked: int
    """pairs that differ: of equal answers nobody is asked"""
    flips: float
    """share of those that were asked and read where the judge said otherwise in the other order"""
    unread: float
    """share of those that were asked where its words could not be read"""

    @property
    def total(self) -> int:
        """Pairs."""
        return self.wins + self.losses + self.ties


@dataclass(frozen=True, slots=True, kw_only=True)
class Marked:
    """How many of one upstream's answers to one task were right, before and after."""

    upstream: str
    task: str
    pairs: Pairs
    gain: Interval
    p: float
    """of fixing and breaking being equally likely (McNemar)"""
    p_adjusted: float
    """the same, for all upstreams of that task together (Holm)"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Edited:
    """How much of one upstream's answers to one task was changed."""

    upstream: str
    task: str
    changes: Changes
    untouched: float
    """share"""
    copied: tuple[int, ...]
    """corrections by the share of their words that were copied, in ten equal steps"""
    kept_reasons: tuple[tuple[str, int], ...]
    """why answers stayed although the Aligner wrote something else, the most frequent first"""
    tokens: int
    """that the Aligner read and wrote"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Timed:
    """Seconds that one upstream's answers to one task took, as they were measured."""

    upstream: str
    task: str
    answer: tuple[float, float]
    """median and 95th percentile"""
    correct: tuple[float, float]
    """the same for the correction"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreed:
    """How far two judges agree on the winners among one task's pairs that differ."""

    task: str
    quality: str
    judges: tuple[str, str]
    pairs: int
    same: float
    """share"""
    kappa: float | None
    """Cohen's; none where chance alone would have them agree always"""


class Evidence(NamedTuple):
    """All figures of a run; times apart, they are the same whenever the same cases are weighed."""

    judged: tuple[Judged, ...]
    marked: tuple[Marked, ...]
    edited: tuple[Edited, ...]
    timed: tuple[Timed, ...]
    agreed: tuple[Agreed, ...] = ()


def weigh(cases: Sequence[Case], *, seed: int = 0) -> Evidence:
    """The figures of the cases, upstreams and tasks in the order in which they first come."""
    arms = _grouped(cases, lambda case: (case.upstream, case.task))
    judged = [
        _judged(arm, judge, quality, seed=seed)
        for arm in arms
        for judge, quality in dict.fromkeys((o.judge, o.quality) for case in arm for o in case.opinions)
    ]
    marked = [_marked(arm, seed=seed) for arm in arms if any(case.before is not None for case in arm)]
    return Evidence(
        tuple(_adjusted(judged, lambda row: (row.task, row.quality, row.judge))),
        tuple(_adjusted(marked, lambda row: row.task)),
        tuple(map(_edited, arms)),
        tuple(map(_timed, arms)),
        tuple(_agreements(cases)),
    )


def _judged(arm: Sequence[Case], judge: str, quality: str, *, seed: int) -> Judged:
    said = [
        (case, opinion)
        for case in arm
        for opinion in case.opinions
        if (opinion.judge, opinion.quality) == (judge, quality)
    ]
    counts = Counter(opinion.outcome for _, opinion in said)
    wins, losses = counts["win"], counts["loss"]
    answers = np.array([float(len(case.answer)) for case, _ in said])
    corrections = np.array([float(len(case.correction)) for case, _ in said])
    preferences = np.array([opinion.preference for _, opinion in said])
    alike = [pair for pair, is_alike in zip(said, of_like_length(corrections, answers), strict=True) if is_alike]
    return Judged(
        upstream=arm[0].upstream,
        task=arm[0].task,
        quality=quality,
        judge=judge,
        wins=wins,
        losses=losses,
        ties=counts["tie"],
        net=_net(said, seed),
        p=(p := mcnemar(Pairs(wins, losses, 0, 0))),
        p_adjusted=p,
        controlled=length_controlled(preferences, corrections, answers).controlled
        if wins + losses >= _ENOUGH
        else None,
        like_length=_net(alike, seed) if alike else None,
        asked=sum(case.changed for case, _ in said),
        flips=_share(opinion.flipped for case, opinion in said if case.changed and opinion.parsed),
        unread=_share(not opinion.parsed for case, opinion in said if case.changed),
    )


def _net(said: Sequence[tuple[Case, Opinion]], seed: int) -> Interval:
    return mean_interval([opinion.net for _, opinion in said], [case.item for case, _ in said], seed=seed)


def _marked(arm: Sequence[Case], *, seed: int) -> Marked:
    scored = [(case.item, case.before.right, case.after.right) for case in arm if case.before and case.after]
    items, before, after = ([row[place] for row in scored] for place in range(3))
    pairs = pairs_of([bool(right) for right in before], [bool(right) for right in after])
    p = mcnemar(pairs)
    return Marked(
        upstream=arm[0].upstream,
        task=arm[0].task,
        pairs=pairs,
        gain=gain([bool(right) for right in before], [bool(right) for right in after], items, seed=seed),
        p=p,
        p_adjusted=p,
    )


def _agreements(cases: Sequence[Case]) -> Iterator[Agreed]:
    """All judges by two, where both saw the same pairs; of equal answers nobody has to be asked."""
    for arm in _grouped([case for case in cases if case.changed], lambda case: case.task):
        for quality in dict.fromkeys(o.quality for case in arm for o in case.opinions):
            said = [{o.judge: o.outcome for o in case.opinions if o.quality == quality} for case in arm]
            for ours, theirs in combinations(dict.fromkeys(judge for seen in said for judge in seen), 2):
                pairs = [(seen[ours], seen[theirs]) for seen in said if ours in seen and theirs in seen]
                if pairs:
                    same = _share(one == other for one, other in pairs)
                    yield Agreed(
                        task=arm[0].task,
                        quality=quality,
                        judges=(ours, theirs),
                        pairs=len(pairs),
                        same=same,
                        kappa=kappa(pairs),
                    )


def _edited(arm: Sequence[Case]) -> Edited:
    changes = [change_of(case.answer, case.correction) for case in arm]
    steps = Counter(min(int(change.copied * _BINS), _BINS - 1) for change in changes)
    reasons = Counter(case.kept_reason for case in arm if case.kept_reason)
    return Edited(
        upstream=arm[0].upstream,
        task=arm[0].task,
        changes=changes_of(changes),
        untouched=_share(not case.changed for case in arm),
        copied=tuple(steps[step] for step in range(_BINS)),
        kept_reasons=tuple(sorted(reasons.items(), key=lambda item: (-item[1], item[0]))),
        tokens=sum(case.tokens for case in arm),
    )


def _timed(arm: Sequence[Case]) -> Timed:
    def quantiles(what: str) -> tuple[float, float]:
        found = np.quantile([case.seconds.get(what, 0.0) for case in arm], [0.5, 0.95])
        return float(found[0]), float(found[1])

    return Timed(upstream=arm[0].upstream, task=arm[0].task, answer=quantiles("answer"), correct=quantiles("correct"))


Row = TypeVar("Row", Judged, Marked)


def _adjusted(rows: Sequence[Row], family: Callable[[Row], Hashable]) -> list[Row]:
    """The rows with p-values for looking at all of their family."""
    families: dict[Hashable, list[int]] = {}
    for place, row in enumerate(rows):
        families.setdefault(family(row), []).append(place)
    found = list(rows)
    for places in families.values():
        for place, p in zip(places, holm([rows[place].p for place in places]), strict=True):
            found[place] = replace(rows[place], p_adjusted=p)
    return found


def _grouped(items: Iterable[T], key: Callable[[T], Hashable]) -> list[list[T]]:
    """The items in lists of the same key, in the order in which the keys first come."""
    groups: dict[Hashable, list[T]] = {}
    for name, group in groupby(items, key):
        groups.setdefault(name, []).extend(group)
    return list(groups.values())


def _share(flags: Iterable[bool]) -> float:
    seen = list(flags)
    return sum(seen) / len(seen) if seen else 0.0
