"""What one round hands on from step to step."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

from aligner.records import Question
from aligner.scoring.intervals import Interval

Step = Literal[
    "prompts", "answers", "corrections", "gate", "lessons", "reward", "model", "held_out", "greedy", "evaluation"
]


class Asked(NamedTuple):
    """A prompt of a round, and what the upstream said."""

    question: Question
    answer: str
    finish: str
    """OpenAI's finish_reason: what was cut off is not corrected, and teaches nothing"""


class Corrected(NamedTuple):
    """The same with its correction."""

    question: Question
    answer: str
    correction: str
    finish: str
    edit: float
    """share of the answer's tokens that the correction changes"""
    kept_reason: str | None = None


Fate = Literal["learnt", "unchanged", "cut off", "kept", "small edit", "not preferred"]
"""unchanged: the Aligner left it as it was; kept: it wrote something else, which a guard did not let pass"""


class Gated(NamedTuple):
    """A correction and what the gate made of it."""

    question: Question
    answer: str
    correction: str
    fate: Fate
    """learnt: the judge prefers it in both orders, and it changes enough"""
    said: Mapping[str, str]
    """for each quality that was judged the winner: a is the answer, b the correction"""


class Pair(NamedTuple):
    """What a lesson is made of: a question with a correction, and the answer that it is preferred to."""

    question: Question
    chosen: str
    rejected: str | None
    """none where the answer was left as it was, or the row is of the upstream's original training"""


class Lesson(NamedTuple):
    """What one round learns, and what it is watched by."""

    pairs: Sequence[Pair]
    """all that is learnt from, earlier and original rows among them"""
    watched: Sequence[Pair]
    """corrections of this round that are not learnt from, whose likelihood is watched"""


class Guard(NamedTuple):
    """What one guard found."""

    name: str
    figure: float
    bound: str
    """in words, as in "at most 1.0" """
    tripped: bool
    why: str
    """one sentence with the figure, for people"""


class Found(NamedTuple):
    """What a round was measured by, on the held-out prompts; figures of round 0 are those of the first upstream."""

    good: Interval | None
    """share of good answers by the oracle, where there is one"""
    good_greedy: float | None
    """the same of greedy answers: how much is gained beyond a sharper choice of words"""
    net: Mapping[str, Interval]
    """net rate by the judge against the last accepted round, for each quality and for "all" together"""
    net_first: Mapping[str, Interval]
    """the same against round 0"""
    chosen: float
    """mean log-likelihood of a token of the watched corrections; not a number where none are"""
    chosen_before: float
    """the same by the round's start"""
    length: float
    """mean tokens of an answer, as a ratio to that of the corrections of round 0"""
    kl: float
    """divergence from the first upstream, in nats a token"""
    refusals: float
    """share of needless refusals"""
    figures: Mapping[str, Any] = {}
    """what else is told: counts, audit, losses"""


class Verdict(NamedTuple):
    """Whether a round is accepted, and why."""

    accepted: bool
    guards: Sequence[Guard]
    why: str
