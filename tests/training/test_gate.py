"""Laws of the gate: it keeps its promise or makes none, and it is measured on what it was not fitted to."""

import json
from random import Random
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aligner.config import Gate
from aligner.errors import MisuseError
from aligner.training.gate import FittedGate, TooFewAnswersError, fit_gate, gate_of, rows_needed

PROMISES: tuple[Literal["let_through", "needless"], ...] = ("let_through", "needless")


def answers(random: Random, count: int, *, apart: float) -> tuple[list[float | None], list[bool]]:
    """Raw confidences of good and flawed answers that are so far apart; one in a hundred has none."""
    good = [random.random() < 0.5 for _ in range(count)]
    raw = [1 / (1 + 2.718 ** -(random.gauss(apart if one else -apart, 1.0))) for one in good]
    return [None if random.random() < 0.01 else one for one in raw], good


def broken(gate: FittedGate, raw: list[float | None], good: list[bool]) -> float:
    """The rate that the gate promises, on these answers."""
    passes = [one is not None and gate.curve.probability(one) >= (gate.threshold or 2) for one in raw]
    if gate.of == "let_through":
        return sum(passed and not one for passed, one in zip(passes, good, strict=True)) / (len(good) - sum(good))
    return sum(one and not passed for passed, one in zip(passes, good, strict=True)) / sum(good)


@given(
    seed=st.integers(0, 2**32),
    apart=st.floats(0, 5),
    wanted=st.floats(0.02, 0.5),
    of=st.sampled_from(PROMISES),
)
def test_the_threshold_keeps_the_rate_on_its_own_answers(
    seed: int, apart: float, wanted: float, of: Literal["let_through", "needless"]
) -> None:
    """Its bound is above the rate that is seen, and below the one that is wanted; or there is no threshold."""
    raw, good = answers(Random(seed), 400, apart=apart)
    gate = fit_gate(raw, good, Gate(wanted=wanted, of=of))
    if gate.threshold is None:
        assert gate.at_most > wanted
        assert (gate.let_through, gate.needless) == (0.0, 1.0)
        assert gate.told.startswith("no threshold")
    else:
        rate = gate.let_through if of == "let_through" else gate.needless
        assert broken(gate, raw, good) == pytest.approx(rate, abs=1e-6)
        assert rate < gate.at_most <= wanted + 1e-6
        # As the decoder sees it.
        assert gate.curve.raw(gate.threshold) <= 1


@pytest.mark.parametrize("of", PROMISES)
def test_the_promise_holds_for_answers_to_come(of: Literal["let_through", "needless"]) -> None:
    """Of forty gates, each fitted to a few hundred answers, about two may break it on many others."""
    random = Random(0)
    fresh = answers(random, 20_000, apart=1.5)
    gates = [fit_gate(*answers(random, 600, apart=1.5), Gate(wanted=0.05, of=of)) for _ in range(40)]
    assert all(gate.threshold is not None for gate in gates)
    assert sum(broken(gate, *fresh) > 0.05 for gate in gates) <= 6


def test_few_answers_promise_nothing() -> None:
    """Below the number that the promise takes there is a curve without a threshold, and the reason is told."""
    assert rows_needed(0.01) == 299
    raw, good = [0.001] * 298 + [0.999] * 298, [False] * 298 + [True] * 298
    few = fit_gate(raw, good, Gate())
    assert few.threshold is None
    assert "takes 299 flawed answers, not 298" in few.told
    assert few.curve.probability(0.999) > 0.99
    enough = fit_gate([*raw, 0.001], [*good, False], Gate())
    assert (enough.let_through, enough.needless) == (0.0, 0.0)
    assert enough.at_most == pytest.approx(0.01, abs=1e-4)


def test_hardly_any_answers_are_no_gate() -> None:
    """Where either kind is rarer than twenty, the card has none, and whoever trains is told why."""
    raw, good = [0.1] * 19 + [0.9] * 40, [False] * 19 + [True] * 40
    with pytest.raises(TooFewAnswersError, match="40 good and 19 flawed"):
        fit_gate(raw, good, Gate())
    told: list[str] = []
    assert gate_of(raw, good, Gate(), told.append) is None
    assert gate_of([None] * 59, good, Gate(), told.append) is None
    assert gate_of([*raw, 0.1], [*good, False], Gate(), told.append) is not None
    assert [line.partition(":")[0] for line in told] == ["no gate", "no gate", "gate"]


@pytest.mark.parametrize("wanted", [0.0, 1.0, -1.0, float("nan")])
def test_a_rate_lies_between_zero_and_one(wanted: float) -> None:
    """No answers could keep to any other."""
    with pytest.raises(MisuseError, match="between 0 and 1"):
        fit_gate([0.1, 0.9], [False, True], Gate(wanted=wanted))


def test_a_useless_confidence_is_found_out() -> None:
    """Where it says nothing, no threshold lets through good answers alone, and probabilities are the base rate."""
    gate = fit_gate(*answers(Random(1), 4000, apart=0.0), Gate())
    assert gate.needless > 0.9
    assert abs(gate.curve.probability(0.9) - 0.5) < 0.1


def test_a_card_holds_a_gate_to_the_last_bit() -> None:
    """Through JSON and back; the same answers give the same gate."""
    found = [fit_gate(*answers(Random(3), 2000, apart=3), Gate()) for _ in range(2)]
    assert found[0] == found[1]
    assert FittedGate.read(json.loads(json.dumps(found[0].card))) == found[0]


@pytest.mark.parametrize("change", [{"slope": 0.0}, {"slope": "1"}, {"offset": float("nan")}, {"else": 1}])
def test_what_is_no_gate_is_refused(change: dict[str, Any]) -> None:
    """A curve that falls, what is no number, and a field of another version."""
    card = fit_gate(*answers(Random(3), 200, apart=3), Gate()).card
    with pytest.raises(ValueError, match="no gate"):
        FittedGate.read({**card, **change})
