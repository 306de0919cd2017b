"""How far two annotators agree who corrected the same answers."""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from itertools import groupby, product
from statistics import median

from rapidfuzz.distance import Levenshtein

from aligner.building.nouns import Annotated, Choice
from aligner.scoring.agreement import kappa

_TOKEN = re.compile(r"\w+|[^\w\s]")
Pair = tuple[Annotated, Annotated]


def pairs_of(rows: Iterable[Annotated]) -> Iterator[Pair]:
    """The first correction of each answer with each second one, from rows in the order of their answers."""
    for _, group in groupby(rows, key=lambda row: row.answer):
        by_turn: dict[bool, list[Annotated]] = {False: [], True: []}
        for row in group:
            by_turn[row.second].append(row)
        yield from product(by_turn[False][:1], by_turn[True])


def agreement(pairs: Iterable[Pair]) -> Mapping[str, object]:
    """Figures of pairs for a manifest: how many, the share with the same choice, Cohen's kappa, and distances.

    A distance is the number of words and signs to insert, delete or replace (Levenshtein) between the two texts; its
    share is of the longer one. Kappa is None where chance alone would have the two agree always, and everything but
    the counts is None without pairs.
    """
    choices: Counter[tuple[Choice, Choice]] = Counter()
    annotators: Counter[tuple[str, str]] = Counter()
    distances: list[int] = []
    shares: list[float] = []
    for first, second in pairs:
        choices[first.choice, second.choice] += 1
        annotators[first.annotator, second.annotator] += 1
        distance, longest = distance_between(first.text, second.text)
        distances.append(distance)
        shares.append(distance / longest if longest else 0.0)
    whole = choices.total()
    return {
        "pairs": whole,
        "annotators": {f"{one} / {other}": count for (one, other), count in sorted(annotators.items())},
        "same_choice": sum(n for (one, other), n in choices.items() if one == other) / whole if whole else None,
        "kappa": kappa(choices.elements()) if whole else None,
        "median_token_distance": median(distances) if whole else None,
        "median_token_distance_share": median(shares) if whole else None,
    }


def distance_between(one: str, other: str) -> tuple[int, int]:
    """The distance of two texts in words and signs, and how many of these the longer one has."""
    tokens = _TOKEN.findall(one), _TOKEN.findall(other)
    return Levenshtein.distance(*tokens), max(map(len, tokens))
