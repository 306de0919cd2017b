"""What a model's error means for a call: tried again, given up, or the end of the run."""

import re
from collections.abc import Iterable
from typing import NamedTuple

from aligner.building.nouns import Failure, Fault
from aligner.errors import ModelError, visible
from aligner.models.replay import ReplayModel
from aligner.models.server import BrokenError, RefusedError, TransientError, UnusableError
from aligner.records import ChatModel, Usage

_CONTEXT = re.compile(
    r"context[ _-]?(length|size|window)|maximum context|exceeds? the (available )?context|too many (input )?tokens"
    r"|(prompt|input|request|conversation)[^.]{0,40}too long|fills the (model's )?context|must be <= ?\d+ tokens"
    r"|max_new_tokens` must be",
    re.IGNORECASE,
)
_JUDGED = re.compile(r"moderat|flagged|content[ _-]?(policy|filter)|safety", re.IGNORECASE)
_CONTENT = re.compile(
    rf"{_JUDGED.pattern}|responsible[ _-]?ai|usage polic|inappropriate|harmful|unsafe|prohibited", re.IGNORECASE
)
_NO_MONEY = frozenset({"insufficient_quota", "billing_not_active", "billing_hard_limit_reached", "access_terminated"})
_OF_THIS_CALL = frozenset({400, 413, 422, 451})
"""refusals that may be for what was asked; others are for who asks, or where"""
_LONGEST = 500
"""characters that are kept of what was said"""


class Problem(NamedTuple):
    """What went wrong with one call."""

    fault: Fault
    said: str
    passing: bool = False
    """whether to ask again"""
    wait: float | None = None
    """seconds that the server asks for"""
    crowded: bool = False
    """whether everybody is to wait"""
    ends_all: bool = False
    """whether any other call of this model would fail likewise: its key or its name is wrong, or there is no money"""
    answered: bool = False
    """whether the server may have made and counted an answer"""
    usage: Usage = Usage()
    """of that answer, as far as it is known"""

    def failure(self, cost: float) -> Failure:
        """What is kept of it, with what the call has cost."""
        return Failure(self.fault, self.said, cost)


def problem_of(error: ModelError, model: ChatModel) -> Problem:
    """What an error of this model means."""
    said = visible(" ".join(str(error).split()))[:_LONGEST]
    match error:
        case TransientError() | RefusedError():
            return _of_status(error, said)
        case BrokenError():
            return Problem("transient", said, passing=True, answered=True)
        case UnusableError():
            return Problem("unusable", said, answered=True, usage=error.usage)
        case _ if isinstance(model, ReplayModel):
            return Problem("missing", said)
        case _:
            return Problem(_refused("", said), said)


def _of_status(error: TransientError | RefusedError, said: str) -> Problem:
    status = error.status
    if isinstance(error, TransientError) and error.code not in _NO_MONEY:
        return Problem("transient", said, passing=True, wait=error.wait, crowded=status == 429)
    judged = status == 403 and _JUDGED.search(said)
    if status in _OF_THIS_CALL or status >= 500 or judged:
        return Problem(_refused(error.code, said), said)
    return Problem("auth", said, ends_all=True)


def _refused(code: str, said: str) -> Fault:
    return "context" if any(_is_context(text) for text in (code, said)) else "refused"


def _is_context(text: str) -> bool:
    return _CONTEXT.search(text) is not None


def is_of_all(failure: Failure) -> bool:
    """Whether a model may refuse any other question, too: it was not for what this one is about."""
    return failure.fault == "refused" and _CONTENT.search(failure.said) is None


def one_line(problems: Iterable[str]) -> str:
    """Different problems, one after the other."""
    return "; ".join(dict.fromkeys(problems))
