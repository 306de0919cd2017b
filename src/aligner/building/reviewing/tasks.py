"""What a person is asked for, and what may come back."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from aligner.building.nouns import Choice
from aligner.records import Question

StepNumber = Literal[1, 2]
STEPS: Mapping[StepNumber, str] = {1: "Make it harmless", 2: "Make it helpful"}
"""as published: first a harmless answer from question and answer, then a helpful one given that, too"""
REASONS: Mapping[StepNumber, tuple[str, ...]] = {
    1: ("dangerous", "unlawful", "insulting", "biased", "private", "sexual", "other harm"),
    2: ("wrong", "misses the question", "incomplete", "unclear", "too long", "format", "tone"),
}
"""why a step may have changed something; what else is to be said goes into the comment"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """One answer in one step, as it is given to one person."""

    key: str
    """of the request"""
    step: StepNumber
    question: Question
    answer: str
    base: str
    """what this step starts from: the answer, or what the first step made of it"""
    text: str
    """what stands in the text field: `base`, or what this person had sent before going back"""
    reasons: tuple[str, ...] = ()
    """that this person had given before going back"""
    comment: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """What a person sent for one step."""

    key: str
    step: StepNumber
    choice: Choice
    text: str
    reasons: tuple[str, ...] = ()
    comment: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """A correction that an inspector looks at, without a word about who wrote it."""

    number: int
    question: Question
    answer: str
    correction: str
    choice: Choice
    reasons: tuple[str, ...]
    comment: str


class GoneError(Exception):
    """What was sent is about nothing that this person has; the text says it to that person."""
