"""Whether the Aligner may be switched on: one line for each figure that speaks for or against it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from aligner.scoring.shares import wilson

State = Literal["pass", "look", "fail"]


@dataclass(frozen=True, slots=True)
class Check:
    """A question, the figure that answers it, and what that means."""

    question: str
    figure: str
    state: State
    wanted: str
    """when it passes"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Counted:
    """What the checks look at."""

    answers: int
    days: float
    """between the first and the last of them"""
    aligners: int
    changed: int
    large: int
    """changes that touch half of the text or more"""
    bypassed: int
    guarded: int
    """answers that a guard kept, against what the Aligner wrote"""
    p90: float | None
    """seconds that nine of ten corrections do not exceed"""
    verdicts: Mapping[str, int]
    """on changes"""


def checklist(seen: Counted) -> Sequence[Check]:
    """All checks, in the order of what has to be known first."""
    answers, changed = seen.answers, seen.changed
    return (
        _at_least("Were enough answers seen?", f"{answers:,}", answers, (1000, 200), "1,000 answers"),
        _at_least(
            "Was a whole day seen?", f"{seen.days:.1f} days", seen.days, (1.0, 0.0), "a day, quiet hours and all"
        ),
        _one_aligner(seen.aligners),
        _at_most_share("Does it answer?", "bypassed", seen.bypassed, answers, (0.01, 0.05)),
        _latency(seen.p90),
        _at_most_share("Is what it writes sound?", "kept by a guard", seen.guarded, answers, (0.01, 0.05)),
        _at_most_share("Does it mostly copy?", "changed", changed, answers, (0.5, 1.0)),
        _at_most_share("Are its edits small?", "of the changes touch half a text", seen.large, changed, (0.1, 1.0)),
        *_reviews(changed, seen.verdicts),
    )


def _reviews(changed: int, verdicts: Mapping[str, int]) -> tuple[Check, ...]:
    reviewed, disputed = sum(verdicts.values()), verdicts.get("disputed", 0)
    refused = verdicts.get("reject", 0) + verdicts.get("both_bad", 0)
    figure, limits = f"{reviewed:,} of {changed:,} changes", (max(min(50, changed), 1), 1)
    return (
        _at_least("Did people look at its changes?", figure, reviewed, limits, "50, or all that there are"),
        _accepted(verdicts.get("accept", 0), reviewed),
        _at_most_share("Are few changes refused?", "rejected or both bad", refused, reviewed, (0.1, 0.3)),
        _at_most_share("Do reviewers agree?", "disputed", disputed, reviewed, (0.1, 0.3)),
    )


def _one_aligner(aligners: int) -> Check:
    state: State = "pass" if aligners == 1 else "look"
    return Check("Do the figures speak of one Aligner?", f"{aligners:,} seen", state, "one only")


def _accepted(accepted: int, reviewed: int) -> Check:
    """Few reviews prove little: what counts are the ends of the interval."""
    question, wanted = "Are its changes accepted?", "80 % or more, at the lower end of the interval"
    interval = wilson(accepted, reviewed)
    if interval is None:
        return Check(question, "none reviewed", "fail", wanted)
    low, high = interval
    figure = f"{accepted / reviewed:.0%} accepted as they were ({low:.0%} to {high:.0%})"
    return Check(question, figure, "pass" if low >= 0.8 else "look" if high >= 0.8 else "fail", wanted)


def _latency(p90: float | None) -> Check:
    question, wanted = "Is it quick enough?", "nine of ten corrections within a second"
    if p90 is None:
        return Check(question, "no times logged", "look", wanted)
    return Check(question, f"p90 {p90:.3g} s", "pass" if p90 <= 1 else "look" if p90 <= 3 else "fail", wanted)


def _at_least(question: str, figure: str, value: float, limits: tuple[float, float], wanted: str) -> Check:
    enough, few = limits
    return Check(question, figure, "pass" if value >= enough else "look" if value >= few else "fail", wanted)


def _at_most_share(question: str, words: str, count: int, total: int, limits: tuple[float, float]) -> Check:
    little, much = limits
    wanted = f"at most {little:.0%}"
    if not total:
        return Check(question, "nothing to count", "look", wanted)
    share = count / total
    state: State = "pass" if share <= little else "look" if share <= much else "fail"
    return Check(question, f"{share:.1%} {words} ({count:,} of {total:,})", state, wanted)
