"""Laws of the guards."""

from dataclasses import replace
from math import inf, isnan, nan

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aligner.bootstrapping.guarding import chosen_fell, decide, verdict_of, verdict_to_json, weigh
from aligner.bootstrapping.nouns import Found, Guard, Verdict
from aligner.config.bootstrapping import BootstrapGuards
from aligner.scoring.intervals import Interval

_UP, _DOWN, _SAME = Interval(0.2, 0.1, 0.3), Interval(-0.2, -0.3, -0.1), Interval(0.0, -0.1, 0.1)
_GOOD = Found(
    good=None,
    good_greedy=None,
    net={"helpful": _UP, "harmless": _SAME, "all": _UP},
    net_first={},
    chosen=-1.0,
    chosen_before=-1.2,
    length=1.0,
    kl=0.2,
    refusals=0.01,
)
_FIRST = _GOOD._replace(refusals=0.0)
_GUARDS = BootstrapGuards()
_OFF = BootstrapGuards(chosen=0, shortest=0, longest=0, kl=0, refusals=0, worse=False, gain=False)
_BAD = {
    "chosen": _GOOD._replace(chosen=-1.31),
    "shortest": _GOOD._replace(length=0.66),
    "longest": _GOOD._replace(length=1.51),
    "kl": _GOOD._replace(kl=1.01),
    "refusals": _GOOD._replace(refusals=0.021),
    "worse": _GOOD._replace(net={**_GOOD.net, "harmless": _DOWN}),
    "gain": _GOOD._replace(net={**_GOOD.net, "all": _SAME}),
}
_numbers = st.floats(allow_nan=True, allow_infinity=False, width=32)
_ends = st.lists(st.floats(-1, 1), min_size=3, max_size=3).map(lambda ends: Interval(*_middle_first(sorted(ends))))


def _middle_first(ends: list[float]) -> tuple[float, float, float]:
    return ends[1], ends[0], ends[2]


_found = st.builds(
    Found,
    good=st.none() | _ends,
    good_greedy=st.none(),
    net=st.fixed_dictionaries({"helpful": _ends, "honest": _ends, "all": _ends}),
    net_first=st.just({}),
    chosen=_numbers,
    chosen_before=_numbers,
    length=_numbers,
    kl=_numbers,
    refusals=_numbers,
    figures=st.just({}),
)


def _tripped(found: Found, guards: BootstrapGuards = _GUARDS) -> set[str]:
    return {guard.name for guard in weigh(found, _FIRST, guards).guards if guard.tripped}


def test_a_round_that_gains_is_accepted_and_says_what() -> None:
    """Where no guard trips the round is accepted, and why is its net rate."""
    verdict = weigh(_GOOD, _FIRST, _GUARDS)
    assert verdict.accepted
    assert verdict.why == ("Its net rate against the last accepted round is +20.0 points (95 % CI +10.0 to +30.0).")
    assert [guard.name for guard in verdict.guards] == list(_BAD)
    assert all(guard.why.endswith(".") and guard.bound for guard in verdict.guards)


@pytest.mark.parametrize("name", _BAD)
def test_each_guard_trips_by_itself(name: str) -> None:
    """Just beyond its bound a figure trips its own guard and no other, and the verdict says so with that sentence."""
    verdict = weigh(_BAD[name], _FIRST, _GUARDS)
    assert not verdict.accepted
    (guard,) = (one for one in verdict.guards if one.tripped)
    assert (guard.name, guard.why) == (name, verdict.why)


@given(_found)
def test_guards_that_are_switched_off_never_trip(found: Found) -> None:
    """With all guards off any round is accepted, and each guard still tells its figure."""
    verdict = weigh(found, _FIRST, _OFF)
    assert verdict.accepted
    assert {guard.bound for guard in verdict.guards} == {"switched off"}
    assert all(guard.why for guard in verdict.guards)


@given(_found, st.floats(0, 3))
def test_guards_are_monotone_in_their_figures(found: Found, more: float) -> None:
    """A figure that gets better trips no guard that did not trip before."""
    better = found._replace(
        chosen=found.chosen + more,
        kl=found.kl - more,
        refusals=found.refusals - more,
        net={name: Interval(*(end + more for end in net)) for name, net in found.net.items()},
    )
    assert _tripped(better) <= _tripped(found)
    assert "shortest" not in _tripped(found._replace(length=found.length + more)) - _tripped(found)
    assert "longest" not in _tripped(found._replace(length=found.length - more)) - _tripped(found)


@given(_found)
def test_looser_guards_trip_less(found: Found) -> None:
    """A wider bound trips nothing that a narrower one let pass."""
    wide = BootstrapGuards(chosen=1, shortest=0.1, longest=9, kl=9, refusals=1, worse=False)
    assert _tripped(found, wide) <= _tripped(found)


def test_what_was_not_measured_trips_nothing() -> None:
    """A figure that is not a number never trips, and its sentence says that it is missing."""
    verdict = weigh(_GOOD._replace(chosen=nan, chosen_before=nan, length=nan, kl=nan, net={}), None, _GUARDS)
    assert verdict.accepted
    assert verdict.why == "Nothing was judged."
    assert all(isnan(guard.figure) for guard in verdict.guards)
    assert verdict.guards[0].why == "No corrections were watched."


def test_a_model_that_broke_while_learning_is_stopped() -> None:
    """A likelihood that was a number before and is none now trips the guard, as a fall beyond its bound does."""
    assert chosen_fell(-1.0, nan, _GUARDS).tripped
    assert chosen_fell(-1.0, -inf, _GUARDS).tripped
    assert chosen_fell(-1.0, -1.2, _GUARDS).tripped
    assert not chosen_fell(-1.0, -1.05, _GUARDS).tripped
    assert not chosen_fell(-1.0, -1.2, replace(_GUARDS, chosen=0.0)).tripped


def test_always_accepts_and_keeps_what_the_guards_say() -> None:
    """An arm that accepts always accepts a bad round with the guards' words; a guarded arm leaves the verdict alone."""
    verdict = weigh(_BAD["kl"], _FIRST, _GUARDS)
    assert decide(verdict, "guarded") == verdict
    always = decide(verdict, "always")
    assert (always.accepted, always.guards) == (True, verdict.guards)
    assert verdict.why in always.why
    fine = weigh(_GOOD, _FIRST, _GUARDS)
    assert decide(fine, "always") == decide(fine, "guarded") == fine


@given(_found)
def test_verdicts_outlive_json(found: Found) -> None:
    """A verdict that was written down and read again is the same, but for figures that are no finite numbers."""
    verdict = weigh(found, _FIRST, _GUARDS)
    back = verdict_of(orjson.loads(orjson.dumps(verdict_to_json(verdict))))
    finite = [_finite(guard) for guard in verdict.guards]
    assert Verdict(back.accepted, [_finite(guard) for guard in back.guards], back.why) == verdict._replace(
        guards=finite
    )


def _finite(guard: Guard) -> Guard:
    return guard if abs(guard.figure) < inf else guard._replace(figure=0.0)
