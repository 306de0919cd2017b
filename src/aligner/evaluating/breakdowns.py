"""The same counts by category, and by how much was changed."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple

from aligner.evaluating.cases import Case
from aligner.scoring.changes import change_of


class Counts(NamedTuple):
    """What became of some answers; a verdict is one judge's on one quality of one of them."""

    total: int = 0
    before: int = 0
    """right answers"""
    after: int = 0
    broken: int = 0
    fixed: int = 0
    losses: int = 0
    """verdicts for the answer"""
    wins: int = 0
    """verdicts for the correction"""
    ties: int = 0


class Category(NamedTuple):
    """One upstream's answers of one category of a task."""

    upstream: str
    task: str
    category: str
    counts: Counts


class Size(NamedTuple):
    """Answers to a task that were changed by so much: a share of the correction's words is new."""

    task: str
    above: float
    up_to: float
    """both ends are zero for answers that came back as they were"""
    counts: Counts


STEPS = (0.0, 0.1, 0.25, 0.5, 0.75, 1.0)
"""shares of new words that part small edits from large ones"""


def by_category(cases: Iterable[Case]) -> list[Category]:
    """Counts of each category that has a name, in the order in which they first come."""
    groups: dict[tuple[str, str, str], list[Case]] = {}
    for case in cases:
        if case.category:
            groups.setdefault((case.upstream, case.task, case.category), []).append(case)
    return [Category(*key, counts_of(group)) for key, group in groups.items()]


def by_size(cases: Iterable[Case]) -> list[Size]:
    """Counts by the size of the edit, for each task whose texts are there."""
    groups: dict[str, dict[tuple[float, float], list[Case]]] = {}
    for case in cases:
        if not withheld(case):
            steps = groups.setdefault(case.task, {step: [] for step in ((0.0, 0.0), *pairwise(STEPS))})
            steps[_step(case)].append(case)
    return [
        Size(task, above, up_to, counts_of(group))
        for task, steps in groups.items()
        for (above, up_to), group in steps.items()
    ]


def pooled(categories: Iterable[Category]) -> Mapping[str, Mapping[str, Counts]]:
    """The counts of all upstreams together, by task and category."""
    found: dict[str, dict[str, Counts]] = {}
    for _, task, category, counts in categories:
        of_task = found.setdefault(task, {})
        of_task[category] = added(of_task.get(category, Counts()), counts)
    return found


def added(one: Counts, other: Counts) -> Counts:
    """Two counts together."""
    return Counts(*map(sum, zip(one, other, strict=True)))


def counts_of(cases: Sequence[Case]) -> Counts:
    """The counts of some cases."""
    outcomes = Counter(opinion.outcome for case in cases for opinion in case.opinions)
    return Counts(
        total=len(cases),
        before=sum(case.before is not None and case.before.right for case in cases),
        after=sum(case.after is not None and case.after.right for case in cases),
        broken=sum(case.broken for case in cases),
        fixed=sum(case.fixed for case in cases),
        losses=outcomes["loss"],
        wins=outcomes["win"],
        ties=outcomes["tie"],
    )


def withheld(case: Case) -> bool:
    """Whether the texts of a case are not to be shown, as those of private tasks."""
    return case.is_private


def new_words(case: Case) -> float:
    """The share of the correction's words that do not stand in the answer."""
    return 1 - change_of(case.answer, case.correction).copied if case.changed else 0.0


def _step(case: Case) -> tuple[float, float]:
    if not case.changed:
        return (0.0, 0.0)
    size = new_words(case)
    return next(step for step in pairwise(STEPS) if size <= step[1])
