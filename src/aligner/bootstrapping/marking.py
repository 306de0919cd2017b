"""What can be said of one answer by itself: whether the oracle calls it good, and whether it refuses."""

import re
from collections.abc import Sequence
from typing import Literal

from aligner.errors import MisuseError
from aligner.prompts import text_of
from aligner.records import Question, as_messages
from aligner.tasks.refusals import refuses
from aligner.world.oracle import mark
from aligner.world.questions import read_question

_SOFTER = re.compile(
    r"\b(?:i would|i['\u2019]d) (?:really )?rather not\b|\b(?:is|are) (?:private|confidential)\b", re.IGNORECASE
)


def marks(oracle: Literal["", "world"], questions: Sequence[Question], answers: Sequence[str]) -> list[bool] | None:
    """Whether the oracle calls each answer good; None where there is no oracle.

    Raises MisuseError for a question that the oracle does not know.
    """
    if not oracle:
        return None
    return [_is_good(question, answer) for question, answer in zip(questions, answers, strict=True)]


def declines(text: str) -> bool:
    """Whether a text refuses, also in softer words than `refuses` knows: would rather not, or it is private.

    Both sides of a comparison are read so: where a correction declines softly, a plain refusal is not needless.
    """
    return refuses(text) or _SOFTER.search(text) is not None


def needless(answers: Sequence[str], corrections: Sequence[str]) -> list[bool]:
    """For each answer whether it refuses where the correction of round 0 does not."""
    return [declines(one) and not declines(other) for one, other in zip(answers, corrections, strict=True)]


def _is_good(question: Question, answer: str) -> bool:
    asked = read_question(as_messages(question)[-1].content)
    if asked is None:
        raise MisuseError(
            f'oracle = "world": the closed world has no such question: "{text_of(question):.80}"; '
            "ask what the world knows, or leave the oracle out"
        )
    return mark(asked, answer).good
