"""What a corrector does to held-out rows, in figures that no lazy copier can raise.

Copied tokens drown the edited ones in a mean loss, and an Aligner that changes nothing breaks nothing. So flawed and
good answers are counted apart, edited and copied tokens too, and a text that a guard threw away counts as no copy.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

from aligner.errors import MisuseError, unknown, visible
from aligner.records import Correction, Exchange, Triple, as_messages
from aligner.training.measured import Measured
from aligner.world.oracle import mark
from aligner.world.questions import read_question

Correct = Callable[[Sequence[Exchange]], Sequence[Correction]]
"""From exchanges to their corrections, in order."""
IsGood = Callable[[Triple, str], bool]
"""Whether a text is a good answer to the row's question."""
Qualities = Callable[[Triple, str], Mapping[str, bool]]
"""The same for each quality by its name; empty where it cannot be told."""

CUT_OFF = frozenset({"the correction was cut off", "question and answer do not fit the Aligner's context"})
"""reasons of the guard against truncation (`correcting.guards.cut_off`)"""
GATE = "gate"
"""the reason of the gate, which is a decision of the Aligner itself"""
_MOST_SOURCES = 20
"""sources with figures of their own; all smaller ones share one line"""
_OTHERS = "others"


class TokenLoss(NamedTuple):
    """The negative log-likelihoods of one row's learnt tokens, added up in nats, and how many tokens those are."""

    edited: float = 0.0
    edited_tokens: int = 0
    copied: float = 0.0
    copied_tokens: int = 0


Losses = Callable[[Sequence[Triple]], Sequence[TokenLoss]]
"""One for each row, in order."""


class Standard(NamedTuple):
    """What makes an answer good, and in which respects that can be told apart."""

    is_good: IsGood
    qualities: Qualities = lambda _, __: {}


def measure(
    correct: Correct, losses: Losses | None, held_out: Sequence[Triple], standard: Standard | IsGood
) -> Measured:
    """Correct the answers of held-out rows and count what became of them."""
    corrections = correct([asked(row) for row in held_out])
    return count(held_out, corrections, standard, losses=losses(held_out) if losses else None)


def count(
    held_out: Sequence[Triple],
    corrections: Iterable[Correction],
    standard: Standard | IsGood,
    *,
    losses: Sequence[TokenLoss] | None = None,
) -> Measured:
    """The figures of rows that are corrected already: one correction for each, and one loss where there are any."""
    standard = standard if isinstance(standard, Standard) else Standard(standard)
    given = losses or [TokenLoss()] * len(held_out)
    seen = [_seen(*row, standard) for row in zip(held_out, corrections, given, strict=True)]
    return replace(_counted(seen), by_source=_by_source(seen), by_quality=_by_quality(seen))


def asked(row: Triple) -> Exchange:
    """What the Aligner is asked for a row."""
    return Exchange(row.question, row.answer, instruction=row.instruction)


def standard_named(name: str) -> Standard:
    """The standard `exact` or `world`."""
    if name not in STANDARDS:
        raise unknown("standard of measuring", name, STANDARDS)
    return STANDARDS[name]


def _is_exact(row: Triple, text: str) -> bool:
    """Strict: a good correction in other words counts as flawed, so fix rates are too low rather than too high."""
    return text == row.correction


def _world_marks(row: Triple, text: str) -> dict[str, bool]:
    question = as_messages(row.question)[-1].content
    known = read_question(question)
    if known is None:
        shown = visible(f"{question:.60}")
        raise MisuseError(f'measure.by = "world": no question of the closed world: "{shown}"; choose "exact"')
    return mark(known, text)._asdict()


def _is_good_in_the_world(row: Triple, text: str) -> bool:
    return all(_world_marks(row, text).values())


STANDARDS: Mapping[str, Standard] = {
    "exact": Standard(_is_exact),
    "world": Standard(_is_good_in_the_world, _world_marks),
}
"""What makes an answer good, by name: that it is the correction itself, or the oracle of the closed world."""


class _Seen(NamedTuple):
    """One row before and after."""

    source: str
    correction: Correction
    before: bool
    after: bool
    loss: TokenLoss
    qualities: Mapping[str, tuple[bool, bool]]
    """before and after, for each"""


def _seen(row: Triple, correction: Correction, loss: TokenLoss, standard: Standard) -> _Seen:
    text = correction.text
    before, after = standard.qualities(row, row.answer), standard.qualities(row, text)
    both = {name: (before[name], after[name]) for name in before}
    good = standard.is_good(row, row.answer), standard.is_good(row, text)
    return _Seen(row.sources[1], correction, *good, loss, both)


def _counted(seen: Sequence[_Seen]) -> Measured:
    shares = [_edit_share(row.correction) for row in seen]
    reasons = Counter(row.correction.kept_reason for row in seen)
    edited, copied = sum(row.loss.edited_tokens for row in seen), sum(row.loss.copied_tokens for row in seen)
    return Measured(
        rows=len(seen),
        flawed=sum(not row.before for row in seen),
        fixed=sum(row.after and not row.before for row in seen),
        unchanged=sum(not row.before and not row.correction.changed for row in seen),
        good=sum(row.before for row in seen),
        broken=sum(row.before and not row.after for row in seen),
        kept=sum(row.before and _is_copy(row.correction) for row in seen),
        edit_share=_mean(shares),
        edit_share_of_changed=_mean([share for row, share in zip(seen, shares, strict=True) if row.correction.changed]),
        truncated=sum(reasons[reason] for reason in CUT_OFF),
        guarded={reason: reasons[reason] for reason in sorted(filter(None, reasons))},
        loss_edited=sum(row.loss.edited for row in seen) / edited if edited else None,
        loss_copied=sum(row.loss.copied for row in seen) / copied if copied else None,
    )


def _by_source(seen: Sequence[_Seen]) -> dict[str, Measured]:
    sizes = Counter(row.source for row in seen)
    if set(sizes) <= {""}:
        return {}
    # Of sources of equal size, the name decides, and not which row happens to stand first.
    first = sorted(sizes, key=lambda name: (-sizes[name], name))[:_MOST_SOURCES]
    groups: dict[str, list[_Seen]] = {}
    for row in seen:
        groups.setdefault(row.source if row.source and row.source in first else _OTHERS, []).append(row)
    return {name: _counted(groups[name]) for name in sorted(groups)}


def _by_quality(seen: Sequence[_Seen]) -> dict[str, Measured]:
    names = sorted({name for row in seen for name in row.qualities})
    marked = {name: [(row, row.qualities[name]) for row in seen if name in row.qualities] for name in names}
    return {
        name: _counted([row._replace(before=before, after=after) for row, (before, after) in rows])
        for name, rows in marked.items()
    }


def _is_copy(correction: Correction) -> bool:
    """A guard that kept the answer hid what the Aligner wrote, which was no copy."""
    return not correction.changed and correction.kept_reason in (None, GATE)


def _edit_share(correction: Correction) -> float:
    moved = sum(edit.end - edit.start + len(edit.text) for edit in correction.edits)
    return moved / max(len(correction.exchange.answer) + len(correction.text), 1)


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None
