"""How far people agree who judge the same things: Cohen's kappa for two, Krippendorff's alpha for any number."""

from collections import Counter
from collections.abc import Hashable, Iterable, Mapping, Sequence
from itertools import combinations
from typing import Generic, NamedTuple, TypeVar

R = TypeVar("R", bound=Hashable)
Labels = Mapping[R, Hashable]
"""what each who judged a unit called it"""


class Pair(NamedTuple, Generic[R]):
    """How far two agree."""

    a: R
    b: R
    both: int
    """units that both judged"""
    agree: float
    """the share of these on which they agree"""
    kappa: float | None


def alpha(units: Iterable[Sequence[Hashable]]) -> float | None:
    """Krippendorff's alpha for names, of the labels of each unit: 1 for agreement, 0 for chance; those may be few.

    None where no unit has two labels, or where all labels are the same, so that nothing tells agreement from habit.
    """
    totals: Counter[Hashable] = Counter()
    disagreement = 0.0
    for labels in units:
        if len(labels) < 2:
            continue
        counts = Counter(labels)
        totals += counts
        disagreement += (len(labels) ** 2 - sum(n * n for n in counts.values())) / (len(labels) - 1)
    whole = totals.total()
    expected = whole**2 - sum(n * n for n in totals.values())
    return 1 - (whole - 1) * disagreement / expected if expected else None


def kappa(pairs: Iterable[tuple[Hashable, Hashable]]) -> float | None:
    """Cohen's kappa of two who judged the same units; None where chance alone would have them agree always."""
    counts = Counter(pairs)
    whole = counts.total()
    ours, theirs = Counter[Hashable](), Counter[Hashable]()
    for (a, b), n in counts.items():
        ours[a] += n
        theirs[b] += n
    by_chance = sum(n * theirs[label] for label, n in ours.items())
    if by_chance == whole**2:
        return None
    agreed = sum(n for (a, b), n in counts.items() if a == b)
    return (agreed * whole - by_chance) / (whole**2 - by_chance)


def pairs(units: Sequence[Labels[R]], most: int = 50) -> list[Pair[R]]:
    """How far each two agree who have judged units in common, of those `most` who judged most; most units first."""
    judged = Counter(name for labels in units for name in labels)
    busy = {name for name, _ in judged.most_common(most)}
    common: dict[tuple[R, R], Counter[tuple[Hashable, Hashable]]] = {}
    for labels in units:
        for a, b in combinations(sorted(busy & labels.keys(), key=repr), 2):
            common.setdefault((a, b), Counter())[labels[a], labels[b]] += 1
    found = [Pair(a, b, both.total(), _share(both), kappa(both.elements())) for (a, b), both in common.items()]
    return sorted(found, key=lambda pair: -pair.both)


def _share(both: Counter[tuple[Hashable, Hashable]]) -> float:
    return sum(n for (a, b), n in both.items() if a == b) / both.total()
