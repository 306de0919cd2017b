"""One answer and its correction, with everything that was found out about the two."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from aligner.records import Question
from aligner.tasks import Score


class Opinion(NamedTuple):
    """What one judge says of one quality."""

    judge: str
    quality: str
    preference: float
    """for the correction: 1 is better, 0 is worse, one half is a tie"""
    flipped: bool = False
    """the judge said otherwise when the answers changed places"""
    parsed: bool = True
    """whether its words could be read; if not, it is a tie"""
    said: str = ""
    halves: bool = False
    """whether each order of the answers is half a vote of its own"""

    @property
    def net(self) -> float:
        """What it adds to the net rate, from -1 to 1."""
        sign = (self.preference > 0.5) - (self.preference < 0.5)
        return 2 * self.preference - 1 if self.halves else float(sign)

    @property
    def outcome(self) -> str:
        """For the correction: win, loss or tie."""
        return "win" if self.preference > 0.5 else "loss" if self.preference < 0.5 else "tie"


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """An upstream's answer to one item of a task, and its correction; both arms come from the one answer."""

    upstream: str
    task: str
    item: str
    category: str
    question: Question
    answer: str
    correction: str
    kept_reason: str | None = None
    """why the answer stayed although the Aligner wrote something else"""
    before: Score | None = None
    after: Score | None = None
    opinions: tuple[Opinion, ...] = ()
    is_private: bool = False
    """whether its texts stay out of reports"""
    tokens: int = 0
    """that the Aligner read and wrote"""
    seconds: Mapping[str, float] = field(default_factory=dict[str, float])
    """`answer` and `correct`: measured, and so not the same in two runs"""

    @property
    def changed(self) -> bool:
        """Whether the correction differs from the answer."""
        return self.correction != self.answer

    @property
    def broken(self) -> bool:
        """Whether a right answer became wrong."""
        return self.before is not None and self.after is not None and self.before.right and not self.after.right

    @property
    def fixed(self) -> bool:
        """Whether a wrong answer became right."""
        return self.before is not None and self.after is not None and self.after.right and not self.before.right
