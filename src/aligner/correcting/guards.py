"""Reasons to keep the original answer, whatever the Aligner wrote."""

from collections.abc import Callable

from aligner.records import Completion, Exchange

Guard = Callable[[Exchange, Completion], str | None]
"""Says why a completion must not replace the answer, or nothing."""

GATE = "gate"
"""the one reason that finds the answer good"""


def cut_off(_: Exchange, written: Completion) -> str | None:
    """A truncated copy is the worst failure of a corrector."""
    reasons = {"stop": None, "context": "question and answer do not fit the Aligner's context"}
    return reasons.get(written.finish_reason, "the correction was cut off")


def empty(_: Exchange, written: Completion) -> str | None:
    """Nothing is no answer."""
    return None if written.text.strip() else "the correction was empty"


def over_long(exchange: Exchange, written: Completion) -> str | None:
    """More than four times the answer and a thousand characters is no edit of it."""
    longest = 1000 + 4 * len(exchange.answer)
    return "the correction was over-long" if len(written.text) > longest else None


def sure_from(gate: float) -> Guard:
    """The guard `gate`: nothing needs a change where the Aligner is that sure of the answer."""

    def sure(_: Exchange, written: Completion) -> str | None:
        return GATE if written.confidence is not None and written.confidence >= gate else None

    return sure


GUARDS: tuple[Guard, ...] = (cut_off, empty, over_long)
