"""How much corrections change: whether they correct answers, or replace them."""

from collections.abc import Sequence
from difflib import SequenceMatcher
from typing import NamedTuple

import numpy as np


class Change(NamedTuple):
    """What a correction did to one answer; words are parted by white space."""

    identical: bool
    copied: float
    """the share of the correction's words that stand in the answer, too"""
    kept: float
    """the share of the answer's words that are still there"""
    regions: int
    """places that were edited"""
    length_ratio: float
    """characters of the correction for each of the answer"""


class Changes(NamedTuple):
    """The same of many answers."""

    total: int
    identical: int
    copied: float
    """mean share"""
    kept: float
    """mean share"""
    regions: float
    """mean number"""
    length_ratio: float
    """median"""


def change_of(answer: str, correction: str) -> Change:
    """Compare word by word (Ratcliff and Obershelp's matching, without its shortcut for frequent words)."""
    old, new = answer.split(), correction.split()
    codes = SequenceMatcher(None, old, new, autojunk=False).get_opcodes()
    same = sum(end - start for tag, start, end, _, _ in codes if tag == "equal")
    return Change(
        answer == correction,
        same / len(new) if new else 1.0,
        same / len(old) if old else 1.0,
        sum(tag != "equal" for tag, *_ in codes),
        len(correction) / max(len(answer), 1),
    )


def changes_of(changes: Sequence[Change]) -> Changes:
    """The figures of many changes; raises ValueError where there are none."""
    if not changes:
        raise ValueError("no corrections to compare")
    return Changes(
        len(changes),
        sum(change.identical for change in changes),
        copied=float(np.mean([change.copied for change in changes])),
        kept=float(np.mean([change.kept for change in changes])),
        regions=float(np.mean([change.regions for change in changes])),
        length_ratio=float(np.median([change.length_ratio for change in changes])),
    )
