"""The rounds of a study as its report sees them: which upstream stood when, arm by arm and seed by seed."""

from collections.abc import Iterator, Mapping, Sequence
from math import isfinite
from typing import NamedTuple

from aligner.bootstrapping.intervals import NOTHING, difference, gain_over_seeds, pooled, share_over_seeds
from aligner.bootstrapping.nouns import Found, Verdict
from aligner.config.bootstrapping import BootstrapArm, BootstrapConfig
from aligner.scoring.intervals import Interval


class RoundShown(NamedTuple):
    """One round of an arm and a seed, and what came of it; round 0 is the first upstream, whatever arm it names."""

    arm: str
    seed: int
    number: int
    found: Found
    verdict: Verdict
    fates: Mapping[str, int] = {}
    """how many corrections the gate gave each fate"""
    audit: str = ""
    """one sentence: how far another judge agrees with the gate"""
    model: str = ""
    """SHA-256 of the upstream that came out"""
    upstream: str = ""
    """SHA-256 of the one that went in"""

    @property
    def is_noted(self) -> bool:
        """Whether the guards would have rolled it back, but were not asked."""
        return self.verdict.accepted and any(guard.tripped for guard in self.verdict.guards)


class Run(NamedTuple):
    """The rounds of one arm with one seed, in their order."""

    seed: int
    first: RoundShown | None
    rounds: Sequence[RoundShown]

    def standing(self, number: int) -> RoundShown | None:
        """The round whose upstream stands after so many: the last accepted one, or round 0."""
        accepted = [one for one in self.rounds if one.verdict.accepted and one.number <= number]
        return accepted[-1] if accepted else self.first

    def has_come_to(self, number: int, patience: int) -> bool:
        """Whether it is known what stands after so many rounds: they are done, or the run has ended before."""
        return number <= self.last or has_ended([one.verdict.accepted for one in self.rounds], patience)

    @property
    def last(self) -> int:
        """The last round that is done; 0 for none."""
        return self.rounds[-1].number if self.rounds else 0


class Mean(NamedTuple):
    """The figure of the upstreams that stand after so many rounds, over seeds."""

    number: int
    seeds: int
    figure: Interval


class ArmShown(NamedTuple):
    """An arm with the runs of all its seeds."""

    arm: BootstrapArm
    runs: Sequence[Run]

    @property
    def rounds(self) -> list[RoundShown]:
        """All its rounds but the first upstream's, seed by seed."""
        return [one for run in self.runs for one in run.rounds]

    @property
    def last(self) -> int:
        """The last round that is done with any seed; 0 for none."""
        return max((run.last for run in self.runs), default=0)


def has_ended(verdicts: Sequence[bool], patience: int) -> bool:
    """Whether an arm is at its end: its last `patience` rounds were not accepted; 0 never ends it."""
    return 0 < patience <= len(verdicts) and not any(verdicts[-patience:])


def arms_of(config: BootstrapConfig, rounds: Sequence[RoundShown]) -> list[ArmShown]:
    """The rounds by arm and seed, in the order of the configuration."""
    firsts = {one.seed: one for one in rounds if not one.number}
    later = sorted((one for one in rounds if one.number), key=lambda one: one.number)
    return [
        ArmShown(
            arm,
            [
                Run(seed, firsts.get(seed), [one for one in later if (one.arm, one.seed) == (arm.name, seed)])
                for seed in config.seeds
            ],
        )
        for arm in config.arms
    ]


def main_figure(one: RoundShown, *, oracle: bool) -> Interval | None:
    """What the curves show: the share of good answers, or where nothing marks them the net rate against round 0.

    None where that was not measured.
    """
    figure = one.found.good if oracle else one.found.net_first.get("all") if one.number else NOTHING
    return figure if figure and all(map(isfinite, figure)) else None


def change(one: RoundShown) -> float:
    """What a token of the watched corrections gained in likelihood in the round, in nats; maybe not a number."""
    return one.found.chosen - one.found.chosen_before


def mean_curve(shown: ArmShown, patience: int, *, oracle: bool) -> Iterator[Mean]:
    """After each round the figure of every seed's standing upstream, as far as all seeds have come."""
    for number in range(shown.last + 1):
        if not all(run.has_come_to(number, patience) for run in shown.runs):
            return
        standing = [one for run in shown.runs if (one := run.standing(number)) and main_figure(one, oracle=oracle)]
        if figure := over_seeds(standing, oracle=oracle):
            yield Mean(number, len(standing), figure)


def over_seeds(rounds: Sequence[RoundShown], *, oracle: bool) -> Interval | None:
    """The figure of one round of each seed, all together; none where it was measured in none of them."""
    if oracle and (marks := _marks(rounds)):
        return share_over_seeds(marks)
    return pooled([figure for one in rounds if (figure := main_figure(one, oracle=oracle))])


def gain_of(arm: ArmShown, *, oracle: bool) -> Interval | None:
    """What the last accepted rounds gained over round 0, over seeds; none where no seed has come so far.

    Where single answers were marked, those to the same prompt are compared, and a prompt is drawn with all its seeds.
    """
    ends = [(run.first, last) for run in arm.runs if run.rounds and run.first and (last := run.standing(run.last))]
    if oracle and any(last is not first for first, last in ends):
        marks = _marks([one for both in ends for one in both])
        if marks:
            return gain_over_seeds(marks[::2], marks[1::2])
    return pooled([gain for first, last in ends if (gain := _gain(first, last, oracle=oracle)) is not None])


def _marks(rounds: Sequence[RoundShown]) -> list[str] | None:
    """The oracle's marks of each round's answers; none where some are missing, or not of as many prompts."""
    marks = [str(one.found.figures.get("good_marks", "")) for one in rounds]
    return marks if marks and all(marks) and len({*map(len, marks)}) == 1 else None


def _gain(first: RoundShown, last: RoundShown, *, oracle: bool) -> Interval | None:
    if last is first:
        return NOTHING
    before, after = (main_figure(one, oracle=oracle) for one in (first, last))
    if after is None or before is None:
        return None
    return difference(after, before) if oracle else after
