"""Laws of stacking: the steps are corrections of corrections, and the gates say whose turn it is."""

import asyncio
import re
import threading
from collections.abc import Generator, Sequence
from dataclasses import dataclass, field, replace
from typing import Self

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aligner.correct import AlignedModel, Aligner
from aligner.correcting.stacking import Order, Stacked, asteps, check_stack, steps, steps_many
from aligner.correcting.writers import RulesWriter
from aligner.errors import CheckpointError, MisuseError
from aligner.models import load_model
from aligner.models.rules import Rule, Rules
from aligner.records import Completion, Exchange, Message, SamplingParams
from aligner.world.rows import held_out_rows


@dataclass(frozen=True)
class Gated:
    """A writer that mends one letter, and is as unsure of a text as the letter is frequent in it."""

    bad: str
    good: str
    threshold: float | None = 1.0
    damage: str = ""
    gate: float | None = None
    fingerprint = "gated"
    takes_instructions = True

    def gated(self, gate: float) -> Self:
        """The same with a gate."""
        return replace(self, gate=gate)

    def write(
        self, exchanges: Sequence[Exchange], sampling: SamplingParams, *, batch: int = 64, doubt: bool = False
    ) -> list[Completion]:
        """One completion for each exchange."""
        return [self._completion(exchange.answer) for exchange in exchanges]

    def stream(self, exchange: Exchange, sampling: SamplingParams) -> Generator[str, None, Completion]:
        """In one piece."""
        completion = self._completion(exchange.answer)
        yield completion.text
        return completion

    def _completion(self, answer: str) -> Completion:
        sure = 1 - answer.count(self.bad) / len(answer)
        if self.gate is not None and sure >= self.gate:
            return Completion("", confidence=sure)
        return Completion(answer.replace(self.bad, self.good), confidence=sure)


def rules(*pairs: tuple[str, str]) -> Aligner:
    """An Aligner that is right by construction."""
    return Aligner(RulesWriter(Rules(tuple(Rule(re.compile(old), new) for old, new in pairs)), repr(pairs)))


def turns(stacked: Stacked) -> list[tuple[int, int]]:
    """Which pass and which Aligner each step was of."""
    return [(step.number, step.aligner) for step in stacked.steps]


ROW = (rules(("a", "b")), rules(("b", "c"), ("d", "a")), rules(("x", "xy")))
GATED = (Aligner(Gated("a", "b")), Aligner(Gated("c", "d")), Aligner(Gated("b", "e")))
ANSWERS = st.text("abcdx", min_size=1, max_size=12)


@given(answer=ANSWERS)
def test_one_pass_is_one_aligner_after_the_other(answer: str) -> None:
    """Each step corrects what the step before it left, and the last text is the answer."""
    stacked = steps(ROW, "q", answer)
    assert turns(stacked) == [(1, 0), (1, 1), (1, 2)]
    text = answer
    for aligner, step in zip(ROW, stacked.steps, strict=True):
        assert step.correction == aligner.correct("q", text)
        text = step.correction.text
    assert (stacked.text, stacked.looks) == (text, ())


@given(answer=ANSWERS, passes=st.integers(1, 4))
def test_passes_are_the_row_so_many_times(answer: str, passes: int) -> None:
    """The text of n passes is that of the row written n times, with steps left out that could change nothing."""
    stacked, whole = steps(ROW, "q", answer, passes=passes), steps(ROW * passes, "q", answer)
    assert stacked.text == whole.text
    changes = [step.correction for step in whole.steps if step.correction.changed]
    assert [step.correction for step in stacked.steps if step.correction.changed] == changes


@given(answer=ANSWERS)
def test_a_pass_that_changes_nothing_is_the_last(answer: str) -> None:
    """An Aligner that left a text as it was is not asked about that text again, however many passes there may be."""
    echo = Aligner.from_pretrained("echo:")
    assert turns(steps([echo, echo], "q", answer, passes=9)) == [(1, 0), (1, 1)]
    mended = steps([rules(("a", "b"))], "q", f"{answer}a", passes=9)
    assert turns(mended) == [(1, 0), (2, 0)]


@pytest.mark.parametrize("order", ["given", "gate"])
@given(answers=st.lists(ANSWERS, max_size=40), batch=st.integers(1, 2), passes=st.integers(1, 3))
def test_many_are_each_as_alone(order: Order, answers: list[str], batch: int, passes: int) -> None:
    """Over windows of any size the steps of many answers are those one by one, in order."""
    row = GATED if order == "gate" else ROW
    many = steps_many(row, (Exchange("q", answer) for answer in answers), passes=passes, order=order, batch=batch)
    assert list(many) == [steps(row, "q", answer, passes=passes, order=order) for answer in answers]


def test_the_least_sure_gate_is_next_and_all_look_again() -> None:
    """The Aligner whose gate is the least sure corrects, and a change that makes another one unsure is its turn."""
    stacked = steps(GATED, "q", "aacxxx", order="gate")
    assert turns(stacked) == [(1, 0), (1, 2), (1, 1)]
    assert stacked.text == "eedxxx"
    # Three looks at the answer, two at "bbcxxx", and one at "eecxxx", by those that are still to come.
    assert len(stacked.looks) == 6


@given(answer=ANSWERS, passes=st.integers(1, 4))
def test_a_sure_gate_is_left_out(answer: str, passes: int) -> None:
    """An answer of which every gate is sure takes no step, and in a pass no Aligner has two."""
    stacked = steps(GATED, "q", answer, passes=passes, order="gate")
    assert (stacked.steps == ()) == (not set(answer) & set("abc"))
    assert len(set(turns(stacked))) == len(stacked.steps)
    for step in stacked.steps:
        assert step.correction.confidence is not None
        assert step.correction.confidence < 1


def test_the_order_of_the_gates_does_not_depend_on_the_row() -> None:
    """By the gates it is the same Aligner's turn wherever it stands, where no two are equally sure."""
    for answer in ("aacxxx", "acccxx", "cbbaaa"):
        texts = [steps(row, "q", answer, order="gate").text for row in (GATED, GATED[::-1])]
        assert texts[0] == texts[1]


def test_without_a_gate_there_is_no_order_by_it() -> None:
    """The error says which Aligner has no gate, and the cure; passes under 1 and unknown orders are misuse too."""
    with pytest.raises(MisuseError, match=r"Aligner 2 of 2 has no gate.*aligner calibrate"):
        AlignedModel(load_model("echo:"), GATED[0], ROW[0], order="gate")
    with pytest.raises(MisuseError, match="Aligner 1 of 1 has no gate"):
        check_stack([Aligner(Gated("a", "b", threshold=None))], passes=1, order="gate")
    with pytest.raises(CheckpointError, match="lost its curve"):
        check_stack([Aligner(Gated("a", "b", damage="lost its curve"))], passes=1, order="gate")
    with pytest.raises(MisuseError, match="passes are 1 or more, not 0"):
        AlignedModel(load_model("echo:"), ROW[0], passes=0)
    with pytest.raises(MisuseError, match=r"passes are a whole number, not 1\.5"):
        AlignedModel(load_model("echo:"), ROW[0], passes=1.5)  # pyright: ignore[reportArgumentType]
    with pytest.raises(MisuseError, match='did you mean "gate"'):
        check_stack(ROW, passes=1, order="gates")


def test_a_model_takes_passes_and_order() -> None:
    """A stack on a model gives the text of the steps, and without Aligners the upstream's own."""
    asked = (Message("user", "aacxxx"),)

    def said(model: AlignedModel) -> str:
        return asyncio.run(model.complete(asked)).text

    upstream = load_model("echo:")
    assert said(AlignedModel(upstream, *ROW, passes=3)) == steps(ROW, "aacxxx", "aacxxx", passes=3).text
    assert said(AlignedModel(upstream, *GATED, order="gate")) == "eedxxx"
    assert said(AlignedModel(upstream, passes=2, order="gate")) == "aacxxx"


@dataclass(frozen=True)
class Slow(Gated):
    """The same, which begins, and ends when it is let go."""

    begun: threading.Event = field(default_factory=threading.Event)
    let_go: threading.Event = field(default_factory=threading.Event)
    answers: list[str] = field(default_factory=list[str])

    def write(
        self, exchanges: Sequence[Exchange], sampling: SamplingParams, *, batch: int = 64, doubt: bool = False
    ) -> list[Completion]:
        """One completion for each exchange."""
        self.answers.extend(exchange.answer for exchange in exchanges)
        self.begun.set()
        assert self.let_go.wait(30)
        return super().write(exchanges, sampling, batch=batch, doubt=doubt)


@pytest.mark.parametrize("order", ["given", "gate"])
def test_a_cancelled_request_ends_behind_the_step_in_flight(order: Order) -> None:
    """Whoever stops waiting for a row of Aligners stops it: what is in flight ends, and nothing follows it."""
    slow = Slow("a", "b")
    model = AlignedModel(load_model("echo:"), Aligner(slow), Aligner(slow), Aligner(slow), passes=3, order=order)

    async def run() -> None:
        request = asyncio.create_task(model.complete([Message("user", "aacxxx")]))
        await asyncio.to_thread(slow.begun.wait, 30)
        request.cancel()
        await asyncio.wait([request])
        slow.let_go.set()

    asyncio.run(run())  # waits for all threads
    assert slow.answers == ["aacxxx"]


@pytest.mark.parametrize("order", ["given", "gate"])
@settings(max_examples=20)
@given(answer=ANSWERS, passes=st.integers(1, 3))
def test_steps_in_threads_are_the_same(order: Order, answer: str, passes: int) -> None:
    """Steps that can be stopped are those that cannot."""
    row = GATED if order == "gate" else ROW
    stacked = asyncio.run(asteps(row, "q", answer, passes=passes, order=order))
    assert stacked == steps(row, "q", answer, passes=passes, order=order)


def test_a_real_gate_looks_in_one_pass() -> None:
    """The shipped Aligner's gate reads an answer in one pass without decoding, and says what its correction says."""
    aligner = Aligner.from_pretrained("demo", device="cpu")
    exchanges = [Exchange(row.asked.text, row.answer) for row in held_out_rows(2, seed=5)]
    plain = list(aligner.correct_many(exchanges))
    by_gate = list(steps_many([aligner], exchanges, order="gate"))
    threshold = aligner.writer.threshold  # pyright: ignore[reportAttributeAccessIssue]
    sure = [(correction.confidence or 0) >= threshold for correction in plain]
    assert 0 < sum(sure) < len(sure)
    for correction, stacked, is_sure in zip(plain, by_gate, sure, strict=True):
        assert [look.passes for look in stacked.looks] == [1]
        assert stacked.text == (correction.exchange.answer if is_sure else correction.text)
        assert [step.correction.text for step in stacked.steps] == [correction.text] * (not is_sure)
