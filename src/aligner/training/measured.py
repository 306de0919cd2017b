"""The figures of a corrector on held-out rows: counts, rates with their intervals, and losses."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from aligner.scoring.shares import wilson


class Rate(NamedTuple):
    """A share and the ends of its 95 % interval (Wilson)."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """Counts of held-out rows; an answer is good or flawed before correction, by one standard for all."""

    rows: int
    flawed: int
    fixed: int
    """flawed answers that became good"""
    unchanged: int
    """flawed answers that came back byte for byte, for whatever reason"""
    good: int
    broken: int
    """good answers that became flawed"""
    kept: int
    """good answers that came back byte for byte because the Aligner wrote them so, or its gate let them through"""
    edit_share: float | None
    """mean share of characters that were taken out or put in, among those of answer and correction together"""
    edit_share_of_changed: float | None
    """the same of the rows that were changed alone"""
    truncated: int
    """rows whose correction did not come to its end"""
    guarded: Mapping[str, int]
    """rows whose correction was thrown away, by the reason"""
    loss_edited: float | None = None
    """nats a token, over the tokens that differ from the answer and the first one behind a deletion"""
    loss_copied: float | None = None
    """nats a token, over all others"""
    by_source: Mapping[str, "Measured"] = field(default_factory=dict[str, "Measured"])
    """the same by what the answer came from, where rows say so"""
    by_quality: Mapping[str, "Measured"] = field(default_factory=dict[str, "Measured"])
    """the same where an answer is good that has this one quality, whatever else is wrong in it"""

    @property
    def fix_rate(self) -> Rate | None:
        """The share of flawed answers that became good."""
        return _rate(self.fixed, self.flawed)

    @property
    def unchanged_rate(self) -> Rate | None:
        """The share of flawed answers that came back as they were: high for a lazy copier."""
        return _rate(self.unchanged, self.flawed)

    @property
    def break_rate(self) -> Rate | None:
        """The share of good answers that became flawed."""
        return _rate(self.broken, self.good)

    @property
    def copy_rate(self) -> Rate | None:
        """The share of good answers that the Aligner returned byte for byte."""
        return _rate(self.kept, self.good)

    @property
    def score(self) -> float:
        """Fix rate less break rate, from -1 to 1: 0 for a copier, however many of the answers are good."""
        fix, broken = self.fix_rate, self.break_rate
        return (fix.value if fix else 0.0) - (broken.value if broken else 0.0)

    def figures(self) -> dict[str, Any]:
        """All of it as JSON holds it; a rate is [value, low, high], or null of nothing."""
        plain = {
            "rows": self.rows,
            "flawed": self.flawed,
            "fixed": self.fixed,
            "unchanged": self.unchanged,
            "good": self.good,
            "broken": self.broken,
            "kept": self.kept,
            "score": self.score,
            **{name: rate and list(rate) for name, rate in self.rates().items()},
            "edit_share": self.edit_share,
            "edit_share_of_changed": self.edit_share_of_changed,
            "truncated": self.truncated,
            "guarded": dict(self.guarded),
            "loss_edited": self.loss_edited,
            "loss_copied": self.loss_copied,
        }
        groups = {"by_source": self.by_source, "by_quality": self.by_quality}
        return plain | {
            name: {key: one.figures() for key, one in group.items()} for name, group in groups.items() if group
        }

    def rates(self) -> dict[str, Rate | None]:
        """The four rates by name."""
        return {
            "fix_rate": self.fix_rate,
            "break_rate": self.break_rate,
            "copy_rate": self.copy_rate,
            "unchanged_rate": self.unchanged_rate,
        }


def _rate(hits: int, total: int) -> Rate | None:
    ends = wilson(hits, total)
    return Rate(hits / total, *ends) if ends else None
