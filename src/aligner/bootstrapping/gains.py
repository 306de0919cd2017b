"""What each arm of a study came to, in words."""

from collections.abc import Sequence
from typing import NamedTuple

from aligner.bootstrapping.rounds import ArmShown, gain_of, over_seeds
from aligner.bootstrapping.wording import net, per_cent, verdict
from aligner.evaluating.verdicts import tone
from aligner.scoring.intervals import Interval


class Told(NamedTuple):
    """What an arm came to: what was gained, and what the guards caught."""

    arm: str
    text: str
    tone: str
    """good, bad, or open where the interval holds zero"""
    caught: Sequence[str]
    """the rounds that a guard tripped on, with the reason"""
    gain: Interval | None


def told_of(shown: ArmShown, *, oracle: bool) -> Told:
    """The verdict on one arm, over its seeds."""
    gain = gain_of(shown, oracle=oracle)
    caught = [
        f"round {one.number} of seed {one.seed}: {verdict(one)}"
        for one in shown.rounds
        if one.is_noted or not one.verdict.accepted
    ]
    if not shown.rounds or gain is None:
        return Told(shown.arm.name, "no round is finished.", "open", caught, gain)
    if not any(one.verdict.accepted for one in shown.rounds):
        text = "nothing was gained: no round was accepted, and the upstream is as it was."
    else:
        text = f"{net(gain)} points from round 0 to the last accepted round, {_gained(shown, oracle=oracle)}."
    return Told(shown.arm.name, f"{text} {_rolled_back(shown)}", tone(gain), caught, gain)


def _gained(shown: ArmShown, *, oracle: bool) -> str:
    """Of what, and of how many seeds."""
    runs = [run for run in shown.runs if run.rounds]
    seeds = f"{len(runs)} {'seed' if len(runs) == 1 else 'seeds'}"
    if not oracle:
        return f"net rate by the judge, {seeds}"
    firsts, lasts = ([one for run in runs if (one := run.standing(place))] for place in (0, shown.last))
    shares = (over_seeds(rounds, oracle=True) for rounds in (firsts, lasts))
    return f"{' to '.join(per_cent(found.value if found else None) for found in shares)} of answers good, {seeds}"


def _rolled_back(shown: ArmShown) -> str:
    rolled = sum(not one.verdict.accepted for one in shown.rounds)
    return f"Rolled back: {rolled} of {len(shown.rounds)}."
