"""When a round is rolled back: one rule for each guard, each with its figure, its bound and a sentence."""

from collections.abc import Mapping
from math import inf, isnan, nan
from typing import Any, Literal

from aligner.bootstrapping.nouns import Found, Guard, Verdict
from aligner.config.bootstrapping import BootstrapGuards
from aligner.evaluating.figures import finite
from aligner.evaluating.formats import points, share
from aligner.scoring.intervals import Interval

_TOGETHER = "all"
"""what the net rate by all qualities together is called"""
_OFF = "switched off"


def weigh(found: Found, first: Found | None, guards: BootstrapGuards) -> Verdict:
    """Whether a round with those figures is accepted, held against round 0; a figure that is missing never trips."""
    weighed = (
        chosen_fell(found.chosen_before, found.chosen, guards),
        _shortest(found, guards),
        _longest(found, guards),
        _moved(found, guards),
        _refuses_more(found, first, guards),
        _worse(found, guards),
        _gains(found, guards),
    )
    tripped = [guard.why for guard in weighed if guard.tripped]
    return Verdict(not tripped, weighed, " ".join(tripped) or _net_told(found))


def decide(verdict: Verdict, accept: Literal["guarded", "always"]) -> Verdict:
    """The verdict that counts: `always` accepts whatever came out, and keeps what the guards say of it."""
    if accept == "guarded" or verdict.accepted:
        return verdict
    return verdict._replace(accepted=True, why=f"Accepted as all are; the guards say: {verdict.why}")


def chosen_fell(before: float, now: float, guards: BootstrapGuards) -> Guard:
    """The guard of the watched corrections: how far the mean log-likelihood of a token fell.

    It is cheap enough to be asked while a round is still learning. A likelihood that was a number and is none any more
    has fallen without end.
    """
    fall = inf if isnan(now) and not isnan(before) else before - now
    told = f"The log-likelihood of a token of the watched corrections {_moved_by(-fall)}."
    return _at_most("chosen", fall, guards.chosen, told, missing="No corrections were watched.")


def verdict_to_json(verdict: Verdict) -> dict[str, Any]:
    """A verdict as JSON holds it; a figure that is no finite number is null."""
    told = [finite(guard._asdict()) for guard in verdict.guards]
    return {"accepted": verdict.accepted, "guards": told, "why": verdict.why}


def verdict_of(kept: Mapping[str, Any]) -> Verdict:
    """The verdict that `verdict_to_json` wrote; a figure that was no finite number is none."""
    told = tuple(_guard_of(**one) for one in kept["guards"])
    return Verdict(kept["accepted"], told, kept["why"])


def _guard_of(figure: float | None, **told: Any) -> Guard:
    return Guard(figure=nan if figure is None else figure, **told)


def _shortest(found: Found, guards: BootstrapGuards) -> Guard:
    bound, is_short = guards.shortest, guards.shortest > 0 and found.length < guards.shortest
    return Guard("shortest", found.length, f"at least {bound:g}" if bound else _OFF, is_short, _length_told(found))


def _longest(found: Found, guards: BootstrapGuards) -> Guard:
    return _at_most("longest", found.length, guards.longest, _length_told(found), missing=_length_told(found))


def _moved(found: Found, guards: BootstrapGuards) -> Guard:
    told = f"Its answers diverge by {found.kl:.3f} nats a token from the first upstream."
    return _at_most("kl", found.kl, guards.kl, told, missing="The divergence from the first upstream was not measured.")


def _refuses_more(found: Found, first: Found | None, guards: BootstrapGuards) -> Guard:
    before = nan if first is None else first.refusals
    told = f"It refuses needlessly on {share(found.refusals)} of the prompts, {share(before)} in round 0."
    missing = "Needless refusals were not counted in both rounds."
    return _at_most("refusals", found.refusals - before, guards.refusals, told, missing=missing)


def _worse(found: Found, guards: BootstrapGuards) -> Guard:
    """The upper end of the lowest interval: below zero, answers certainly became worse."""
    apart = {name: net for name, net in found.net.items() if name != _TOGETHER}
    worse = {name: net for name, net in apart.items() if net.high < 0}
    lowest = min((net.high for net in apart.values()), default=nan)
    told = "; ".join(f"less {name}, net rate {_shown(net)}" for name, net in worse.items())
    why = f"The judge finds its answers {told}." if worse else "The judge finds its answers certainly worse by nothing."
    bound = "no quality's interval below 0" if guards.worse else _OFF
    return Guard("worse", lowest, bound, guards.worse and bool(worse), why)


def _gains(found: Found, guards: BootstrapGuards) -> Guard:
    low = found.net[_TOGETHER].low if _TOGETHER in found.net else nan
    bound = "interval above 0" if guards.gain else _OFF
    why = _net_told(found) if low > 0 or isnan(low) else f"It gains nothing that is certain. {_net_told(found)}"
    return Guard("gain", low, bound, guards.gain and low <= 0, why)


def _at_most(name: str, figure: float, bound: float, told: str, *, missing: str) -> Guard:
    tripped = bound > 0 and figure > bound
    return Guard(name, figure, f"at most {bound:g}" if bound else _OFF, tripped, missing if isnan(figure) else told)


def _moved_by(gain: float) -> str:
    if gain == -inf:
        return "is no finite number any more"
    return f"fell by {-gain:.3f} nats" if gain < 0 else f"rose by {gain:.3f} nats"


def _length_told(found: Found) -> str:
    if isnan(found.length):
        return "The corrections of round 0 have no length to compare with."
    return f"Its answers have {found.length:.2f} times the length of the corrections of round 0."


def _net_told(found: Found) -> str:
    if _TOGETHER not in found.net:
        return "Nothing was judged."
    return f"Its net rate against the last accepted round is {_shown(found.net[_TOGETHER])}."


def _shown(net: Interval) -> str:
    return f"{points(net.value)} points (95 % CI {points(net.low)} to {points(net.high)})"
