"""The charts of a study's report: its figure after each round, and what the guards watch."""

from collections.abc import Callable, Iterator, Sequence
from math import isfinite
from statistics import fmean
from typing import NamedTuple

from aligner.bootstrapping.curves import Bound, Chart, Curve, Point
from aligner.bootstrapping.rounds import ArmShown, RoundShown, Run, change, main_figure, mean_curve
from aligner.bootstrapping.wording import net, number, per_cent, share, short, signed, verdict
from aligner.config.bootstrapping import BootstrapGuards
from aligner.scoring.intervals import Interval


class _Watched(NamedTuple):
    """A figure that a guard watches, and the guard's bounds; 0 is none."""

    title: str
    figure: Callable[[RoundShown], float]
    written: Callable[[float], str]
    ticks: Callable[[float], str]
    bounds: Sequence[Bound]


def main_chart(arms: Sequence[ArmShown], guards: BootstrapGuards, *, oracle: bool) -> Chart:
    """The figure of the study: each seed's line, and their mean."""
    title = "Share of good answers after each round" if oracle else "Net rate against round 0 after each round"
    curves = [
        curve
        for place, shown in enumerate(arms)
        for curve in (*_seeds(place, shown, oracle=oracle), _mean(place, shown, guards.patience, oracle=oracle))
    ]
    return Chart(title, curves, _in_per_cent if oracle else _in_points)


def panels(arms: Sequence[ArmShown], guards: BootstrapGuards) -> Iterator[Chart]:
    """What the guards watch: each seed's line, and the bounds."""
    for watched in _watched_by(guards, _refused(arms)):
        curves = [
            Curve(_name(shown, run), place, list(_points(run, watched)))
            for place, shown in enumerate(arms)
            for run in shown.runs
        ]
        bounds = [bound for bound in watched.bounds if bound.figure and isfinite(bound.figure)]
        yield Chart(watched.title, curves, watched.ticks, bounds)


def _seeds(place: int, shown: ArmShown, *, oracle: bool) -> Iterator[Curve]:
    written = share if oracle else net
    for run in shown.runs:
        found = ((one, main_figure(one, oracle=oracle)) for one in _every(run))
        yield Curve(_name(shown, run), place, [_point(one, value, written(value)) for one, value in found if value])


def _mean(place: int, shown: ArmShown, patience: int, *, oracle: bool) -> Curve:
    written = share if oracle else net
    means = mean_curve(shown, patience, oracle=oracle)
    points = [Point(mean.number, mean.figure, f"round {mean.number}, {written(mean.figure)}") for mean in means]
    return Curve(f"{shown.arm.name}, mean over seeds", place, points, is_mean=True)


def _watched_by(guards: BootstrapGuards, refused: float) -> tuple[_Watched, ...]:
    lengths = [Bound(guards.shortest, is_least=True), Bound(guards.longest)]
    refusals = [Bound(refused + guards.refusals)] if guards.refusals else []
    fall = [Bound(-guards.chosen, is_least=True)]
    return (
        _Watched("Length, against the corrections of round 0", _length, number, short, lengths),
        _Watched("Divergence from round 0, nats a token", _divergence, _to_three, short, [Bound(guards.kl)]),
        _Watched("Needless refusals", _refusals, per_cent, _in_per_cent, refusals),
        _Watched("Likelihood of corrections: change in the round", change, signed, _with_sign, fall),
    )


def _length(one: RoundShown) -> float:
    return one.found.length


def _divergence(one: RoundShown) -> float:
    return one.found.kl


def _refusals(one: RoundShown) -> float:
    return one.found.refusals


def _refused(arms: Sequence[ArmShown]) -> float:
    """The share of needless refusals in round 0, as a mean of seeds."""
    return fmean([run.first.found.refusals for shown in arms for run in shown.runs if run.first] or [0.0])


def _points(run: Run, watched: _Watched) -> Iterator[Point]:
    for one in _every(run):
        value = watched.figure(one)
        if isfinite(value):
            yield _point(one, Interval(value, value, value), watched.written(value))


def _point(one: RoundShown, value: Interval, written: str) -> Point:
    return Point(one.number, value, f"round {one.number}, {written}, {verdict(one)}", one.verdict.accepted)


def _every(run: Run) -> list[RoundShown]:
    return [*([run.first] if run.first else []), *run.rounds]


def _name(shown: ArmShown, run: Run) -> str:
    return f"{shown.arm.name}, seed {run.seed}"


def _to_three(value: float) -> str:
    return number(value, 3)


def _in_per_cent(value: float) -> str:
    return f"{short(100 * value)} %"


def _in_points(value: float) -> str:
    return _with_sign(100 * value)


def _with_sign(value: float) -> str:
    return short(value, "+")
