"""What a corrector does to answers of the closed world, as the oracle sees it."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, get_args

from aligner.world.families import Quality
from aligner.world.oracle import Marks, mark
from aligner.world.rows import Row

QUALITIES: tuple[Quality, ...] = get_args(Quality)


@dataclass(frozen=True, slots=True)
class Outcome:
    """One answer before and after correction."""

    row: Row
    text: str
    before: Marks
    after: Marks

    @property
    def kept(self) -> bool:
        """Whether the answer came back byte for byte."""
        return self.text == self.row.answer

    @property
    def fixed(self) -> bool:
        """Whether a flawed answer became good."""
        return self.after.good and not self.before.good

    @property
    def broken(self) -> bool:
        """Whether a good answer became flawed."""
        return self.before.good and not self.after.good


class Tally(NamedTuple):
    """Answers counted; those that are good or flawed are so before correction."""

    answers: int
    flawed: int
    fixed: int
    broken: int
    kept: int
    """good answers that came back byte for byte"""
    alone: int
    """answers that came back byte for byte, good or flawed"""

    @property
    def good(self) -> int:
        """How many answers were good."""
        return self.answers - self.flawed

    @property
    def fix_rate(self) -> float | None:
        """The share of flawed answers that became good."""
        return self.fixed / self.flawed if self.flawed else None

    @property
    def keep_rate(self) -> float | None:
        """The share of good answers that came back byte for byte."""
        return self.kept / self.good if self.good else None


Correct = Callable[[Sequence[Row]], Iterable[str]]
"""From rows to the corrected texts, in order."""


def measure(rows: Sequence[Row], correct: Correct) -> list[Outcome]:
    """Correct the rows' answers and have the oracle mark them before and after."""
    return [
        Outcome(row, text, mark(row.asked, row.answer), mark(row.asked, text))
        for row, text in zip(rows, correct(rows), strict=True)
    ]


def tally(outcomes: Iterable[Outcome]) -> Tally:
    """Counts of all three qualities together: good is good in all of them."""
    seen = list(outcomes)
    return Tally(
        answers=len(seen),
        flawed=sum(not outcome.before.good for outcome in seen),
        fixed=sum(outcome.fixed for outcome in seen),
        broken=sum(outcome.broken for outcome in seen),
        kept=sum(outcome.kept for outcome in seen if outcome.before.good),
        alone=sum(outcome.kept for outcome in seen),
    )


def tally_quality(outcomes: Iterable[Outcome], quality: Quality) -> Tally:
    """Counts of one quality: an answer is flawed if it lacks this one, whatever else is wrong in it."""
    seen = [(outcome.before.of(quality), outcome.after.of(quality), outcome.kept) for outcome in outcomes]
    return Tally(
        answers=len(seen),
        flawed=sum(not before for before, _, _ in seen),
        fixed=sum(after and not before for before, after, _ in seen),
        broken=sum(before and not after for before, after, _ in seen),
        kept=sum(kept for before, _, kept in seen if before),
        alone=sum(kept for _, _, kept in seen),
    )
