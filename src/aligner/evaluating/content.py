"""What a report is made from."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from aligner.evaluating.cases import Case
from aligner.evaluating.evidence import Evidence
from aligner.evaluating.provenance import Provenance


class Overlapped(NamedTuple):
    """Corrections of one upstream's answers to one task that stand, word for word, in other texts."""

    upstream: str
    task: str
    counted: int
    """corrections that were long enough to be looked at"""
    flagged: int
    """of these, at least half stands in one text that is not the upstream's answer"""
    copied: int
    """of these, at least half stands in the upstream's answer"""
    sources: Mapping[str, int]
    """how many are flagged for each set of other texts"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """All that a report tells."""

    title: str
    evidence: Evidence
    cases: Sequence[Case]
    """for the examples; those of private tasks come without their texts"""
    overlaps: Sequence[Overlapped]
    measures: Mapping[str, str]
    """what "right" means, by task"""
    provenance: Provenance
    closed_world: bool
    """whether the figures are those of the closed world, and no result on real models"""
