"""Laws of paired verdicts: fixed, broken, and how certain that is."""

import json
from math import comb
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aligner.scoring.pairs import Pairs, gain, holm, mcnemar, pairs_of

VERDICTS = st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=60)
P_VALUES = st.lists(st.floats(0, 1), min_size=1, max_size=20)


@given(VERDICTS)
def test_fixed_less_broken_is_what_accuracy_gained(verdicts: list[tuple[bool, bool]]) -> None:
    """All counts add up; before and after changed about give the opposite gain and the same p-value."""
    before, after = [b for b, _ in verdicts], [a for _, a in verdicts]
    pairs = pairs_of(before, after)
    assert (pairs.total, pairs.before, pairs.after) == (len(verdicts), sum(before), sum(after))
    assert gain(before, after).value == pytest.approx((pairs.fixed - pairs.broken) / pairs.total)
    assert pairs_of(after, before) == pairs.swapped
    assert mcnemar(pairs) == pytest.approx(mcnemar(pairs.swapped))


@given(st.integers(0, 60), st.integers(0, 60), st.integers(0, 9))
def test_mcnemars_test_is_the_toss_of_a_coin(fixed: int, broken: int, rest: int) -> None:
    """Its p-value is the chance of a split as uneven as this, and what did not change says nothing."""
    changed, fewer = fixed + broken, min(fixed, broken)
    tail = sum(comb(changed, count) for count in range(fewer + 1)) / 2**changed
    assert mcnemar(Pairs(fixed, broken, rest, rest)) == pytest.approx(min(2 * tail, 1.0))


@given(P_VALUES)
def test_looking_at_more_makes_nothing_more_certain(p_values: list[float]) -> None:
    """Adjusted values are no smaller, keep their order, and stay below the plain product with their number."""
    adjusted = holm(p_values)
    ranked = sorted(zip(p_values, adjusted, strict=True))
    assert all(p <= found <= min(1.0, len(p_values) * p) + 1e-12 for p, found in ranked)
    assert [found for _, found in ranked] == sorted(adjusted)


def test_holms_own_steps() -> None:
    """The least value counts for all, the next for one less."""
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([]) == []


def test_two_recorded_models_differ_as_published(real_data: Path) -> None:
    """GSM8K: 286 and 458 of 1,319 right, 260 fixed, 88 broken, +13.04 points."""
    rows = [json.loads(line) for line in (real_data / "gsm8k" / "recorded_answers.jsonl").read_text().splitlines()]
    before, after = ([bool(row[model]["is_correct"]) for row in rows] for model in ("6b_finetuning", "175b_finetuning"))
    pairs = pairs_of(before, after)
    assert (pairs.before, pairs.after, pairs.total) == (286, 458, 1319)
    assert pairs == Pairs(fixed=260, broken=88, both_right=198, both_wrong=773)
    assert mcnemar(pairs) == pytest.approx(7.5e-21, rel=0.05)
    assert gain(before, after) == pytest.approx((0.1304, 0.103, 0.158), abs=0.003)
