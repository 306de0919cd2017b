"""What judges say of pairs of answers, and figures over many verdicts."""

from collections.abc import Sequence
from typing import Literal, NamedTuple

from aligner.records import Winner
from aligner.scoring.agreement import kappa

Votes = Literal["agree", "half"]


class Verdict(NamedTuple):
    """Which of two answers is better."""

    preference: float
    """for b: 1 if b is better, 0 if a is, 0.5 for a tie; anything between where the judge says how sure it is"""
    said: str
    """the judge's words, or why there are none"""
    flipped: bool = False
    """whether the judge, asked in the other order, said otherwise"""
    parsed: bool = True
    """whether its words could be read; where not, it is a tie"""
    calls: int = 0
    """how often a model was asked"""

    @property
    def winner(self) -> Winner:
        """The better answer."""
        return "tie" if self.preference == 0.5 else "b" if self.preference > 0.5 else "a"


class Reading(NamedTuple):
    """The verdict of one reply, in the order in which the answers were shown."""

    preference: float
    """for the second answer"""
    vote: float | None
    """the same without how sure it is: 0, 0.5 or 1; None where it could not be read"""
    said: str


def together(forward: Reading, backward: Reading, votes: Votes) -> Verdict:
    """The verdict of both orders, the second of which showed b first.

    `agree`: an answer wins that wins in both. `half`: each order is half a vote, however sure the judge is. What cannot
    be read is a tie, or half of one.
    """
    first, second = forward.vote, None if backward.vote is None else 1 - backward.vote
    parsed = first is not None and second is not None
    mean = (forward.preference + 1 - backward.preference) / 2
    halves = sum(0.5 if vote is None else vote for vote in (first, second)) / 2
    survives = parsed and first == second != 0.5
    return Verdict(
        preference=halves if votes == "half" else mean if survives else 0.5,
        said=f"{forward.said.strip()}\n\nIn the other order: {backward.said.strip()}",
        flipped=parsed and first != second,
        parsed=parsed,
        calls=2,
    )


class Rates(NamedTuple):
    """How far a judge can be relied on, as shares; None where there was nothing to count."""

    verdicts: int
    same: int
    """pairs of equal answers, which no model was asked about"""
    flip_rate: float | None
    """of the readable verdicts of a model that was asked in both orders, those that changed with the order"""
    unparsable_rate: float | None
    """of the verdicts that a model was asked for, those that could not be read"""


def rates(verdicts: Sequence[Verdict]) -> Rates:
    """The rates of one judge over its verdicts."""
    asked = [verdict for verdict in verdicts if verdict.calls]
    parsed = [verdict for verdict in asked if verdict.parsed]
    return Rates(
        len(verdicts),
        len(verdicts) - len(asked),
        sum(verdict.flipped for verdict in parsed) / len(parsed) if parsed else None,
        1 - len(parsed) / len(asked) if asked else None,
    )


class Agreement(NamedTuple):
    """How far two judges agree who saw the same pairs."""

    pairs: int
    same: float
    """the share of pairs with the same winner"""
    kappa: float | None
    """Cohen's, of win, tie and loss; None where chance alone would have them agree always"""


def agreement(ours: Sequence[Verdict], theirs: Sequence[Verdict]) -> Agreement:
    """How far two judges agree on the winners; raises ValueError for no pairs, or other pairs."""
    winners = [(one.winner, other.winner) for one, other in zip(ours, theirs, strict=True)]
    if not winners:
        raise ValueError("no verdicts to compare")
    return Agreement(len(winners), sum(one == other for one, other in winners) / len(winners), kappa(winners))


def length_ratio(pairs: Sequence[tuple[str, str]]) -> float | None:
    """The characters of all b by those of all a; None where these have none."""
    whole = sum(len(a) for a, _ in pairs)
    return sum(len(b) for _, b in pairs) / whole if whole else None
