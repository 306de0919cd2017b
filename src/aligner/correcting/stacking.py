"""Corrections of corrections: several Aligners in a row, and the row over again, step by step."""

import asyncio
from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, NamedTuple, Protocol, get_args

from aligner.correcting.rows import windows
from aligner.correcting.writers import HasGate, Writer
from aligner.errors import CheckpointError, MisuseError, unknown
from aligner.records import Correction, Exchange, Question, SamplingParams, Usage

Order = Literal["given", "gate"]
"""given: as they stand; gate: at every step the one that is the least sure that no change is needed"""

_AHEAD = 16
_BATCH = 64
_GREEDY = SamplingParams()


class Corrects(Protocol):
    """What can be stacked: an Aligner."""

    @property
    def writer(self) -> Writer:
        """Who writes its corrections."""
        ...

    def correct_many(self, exchanges: Iterable[Exchange], *, batch: int = ...) -> Iterator[Correction]:
        """The corrections of many answers, in their order."""
        ...


class Step(NamedTuple):
    """One Aligner's correction of what the step before it left."""

    number: int
    """of the pass that it belongs to, from 1"""
    aligner: int
    """place of the Aligner in the row, from 0"""
    correction: Correction


class Stacked(NamedTuple):
    """An answer after all steps."""

    text: str
    steps: tuple[Step, ...]
    looks: tuple[Usage, ...]
    """what the gates read to choose the order, which is no part of any correction's usage"""


def steps(
    aligners: Sequence[Corrects],
    question: Question,
    answer: str,
    *,
    instruction: str = "",
    passes: int = 1,
    order: Order = "given",
) -> Stacked:
    """The steps by which the Aligners correct one answer; see `steps_many`."""
    return next(steps_many(aligners, [Exchange(question, answer, instruction=instruction)], passes=passes, order=order))


async def asteps(
    aligners: Sequence[Corrects],
    question: Question,
    answer: str,
    *,
    instruction: str = "",
    passes: int = 1,
    order: Order = "given",
) -> Stacked:
    """`steps`, each in a thread: once nobody waits for them any more, none follows the one that is in flight."""
    check_stack(aligners, passes=passes, order=order)
    row = _Row(Exchange(question, answer, instruction=instruction))
    walk = _walk(aligners, [row], passes=passes, order=order, batch=_BATCH)
    while await asyncio.to_thread(lambda: next(walk, None)) is not None:
        pass
    return row.stacked


def steps_many(
    aligners: Sequence[Corrects],
    exchanges: Iterable[Exchange],
    *,
    passes: int = 1,
    order: Order = "given",
    batch: int = _BATCH,
) -> Iterator[Stacked]:
    """What the Aligners make of each answer, in order, when the whole row of them passes over it so often.

    An Aligner that left a text as it was is not asked about the same text again, so that an answer is through once a
    pass changes nothing. By the gates (Ngweta et al., 2024), an Aligner that is sure from its checkpoint's threshold on
    is left out, all others are asked anew after each change, and each corrects at most once a pass. Raises MisuseError
    where passes, order or gates do not fit.
    """
    check_stack(aligners, passes=passes, order=order)
    for window in windows(exchanges, _AHEAD * batch):
        rows = [_Row(exchange) for exchange in window]
        for _ in _walk(aligners, rows, passes=passes, order=order, batch=batch):
            pass
        yield from (row.stacked for row in rows)


def check_stack(aligners: Sequence[Corrects], *, passes: float, order: str) -> None:
    """Raise MisuseError where Aligners cannot be stacked like that, and CheckpointError for a damaged gate."""
    if not isinstance(passes, int):
        raise MisuseError(f"passes are a whole number, not {passes}")
    if passes < 1:
        raise MisuseError(f"passes are 1 or more, not {passes}")
    if order not in get_args(Order):
        raise unknown("order of Aligners", order, get_args(Order))
    if order == "gate":
        for place, aligner in enumerate(aligners, 1):
            _threshold(aligner.writer, f"Aligner {place} of {len(aligners)}")


@dataclass(slots=True, eq=False)
class _Row:
    """One answer on its way."""

    exchange: Exchange
    """with the answer as the last step left it"""
    steps: list[Step] = field(default_factory=list[Step])
    looks: list[Usage] = field(default_factory=list[Usage])
    fixed: set[int] = field(default_factory=set[int])
    """Aligners that leave this text as it is"""
    sure: dict[int, float] = field(default_factory=dict[int, float])
    """how sure gates are of this text"""

    def take(self, step: Step) -> None:
        """The step's text is the one that the next step corrects."""
        self.steps.append(step)
        if step.correction.changed:
            self.exchange = replace(self.exchange, answer=step.correction.text, id="")
            self.fixed, self.sure = set(), {}
        else:
            self.fixed.add(step.aligner)

    @property
    def stacked(self) -> Stacked:
        """What has become of it."""
        return Stacked(self.exchange.answer, tuple(self.steps), tuple(self.looks))


_Walk = Generator[int, None, None]
"""Comes by after each look and each correction, with the place of whose it was; all that is done is done in rows."""


def _walk(aligners: Sequence[Corrects], rows: Sequence[_Row], *, passes: int, order: Order, batch: int) -> _Walk:
    turn = _by_gates if order == "gate" else _as_given
    for number in range(1, passes + 1):
        yield from turn(aligners, [row for row in rows if len(row.fixed) < len(aligners)], number, batch)


def _as_given(aligners: Sequence[Corrects], rows: Sequence[_Row], number: int, batch: int) -> _Walk:
    for place in range(len(aligners)):
        _correct(aligners, place, [row for row in rows if place not in row.fixed], number, batch)
        yield place


def _by_gates(aligners: Sequence[Corrects], rows: Sequence[_Row], number: int, batch: int) -> _Walk:
    waiting = list(rows)
    while waiting:
        left = {row: _open(aligners, row, number) for row in waiting}
        for place in range(len(aligners)):
            _look(aligners[place], place, [row for row in waiting if place in left[row] - row.sure.keys()], batch)
            yield place
        next_ = {row: _least_sure(aligners, row, places) for row, places in left.items()}
        for place in range(len(aligners)):
            _correct(aligners, place, [row for row in waiting if next_[row] == place], number, batch)
            yield place
        waiting = [row for row in waiting if next_[row] is not None]


def _open(aligners: Sequence[Corrects], row: _Row, number: int) -> set[int]:
    """The Aligners that may still correct a row in this pass."""
    had = {step.aligner for step in row.steps if step.number == number}
    return set(range(len(aligners))) - had - row.fixed


def _least_sure(aligners: Sequence[Corrects], row: _Row, places: set[int]) -> int | None:
    """The Aligner whose turn it is, the first of equal ones; None where all of them are sure."""
    unsure = [place for place in sorted(places) if row.sure[place] < _threshold(aligners[place].writer)]
    return min(unsure, key=row.sure.__getitem__, default=None)


def _look(aligner: Corrects, place: int, rows: Sequence[_Row], batch: int) -> None:
    """Ask a gate about texts, in one pass over each."""
    writer = aligner.writer
    # A gate that everything passes ends the decoding behind the first pass.
    reader: Writer = writer.gated(0.0) if isinstance(writer, HasGate) else writer
    for row, read in zip(rows, reader.write([row.exchange for row in rows], _GREEDY, batch=batch), strict=True):
        # What has no confidence is as unsure as can be.
        row.sure[place] = read.confidence or 0.0
        row.looks.append(read.usage)


def _correct(aligners: Sequence[Corrects], place: int, rows: Sequence[_Row], number: int, batch: int) -> None:
    corrections = aligners[place].correct_many([row.exchange for row in rows], batch=batch)
    for row, correction in zip(rows, corrections, strict=True):
        row.take(Step(number, place, correction))


def _threshold(writer: Writer, name: str = "the Aligner") -> float:
    """From where its own gate is sure; raises MisuseError where it has none."""
    if isinstance(writer, HasGate) and writer.damage:
        raise CheckpointError(writer.damage)
    threshold = writer.threshold if isinstance(writer, HasGate) else None
    if threshold is None:
        cure = 'fit one by `aligner calibrate`, or take order="given"'
        raise MisuseError(f"{name} has no gate to choose the order by: {cure}")
    return threshold
