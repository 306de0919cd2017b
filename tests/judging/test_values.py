"""Laws of what a judge finds worth learning."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aligner.errors import ModelError
from aligner.judge import load_judge
from aligner.judging.values import better, value_of
from aligner.judging.verdicts import Verdict
from aligner.records import Triple
from aligner.world.rows import training_rows


@given(st.lists(st.sampled_from([0.0, 0.3, 0.5, 0.9, 1.0])))
def test_better_means_never_worse_and_once_better(preferences: list[float]) -> None:
    """A correction that loses by any quality, or wins by none, is not worth learning."""
    found = better([Verdict(preference, "") for preference in preferences])
    assert found == (bool(preferences) and min(preferences) >= 0.5 and max(preferences) > 0.5)


def test_the_oracle_values_corrections_and_no_flawed_answer() -> None:
    """In the closed world each correction is worth learning; the answer is not, nor is a flawed one to a good one."""
    rows = [row.triple for row in training_rows(count=60, seed=2) if row.flaws]
    judge = load_judge("world:")
    value = value_of(judge.compare, judge.qualities)
    assert all(value([(row, row.correction) for row in rows]))
    assert not any(value([(row, row.answer) for row in rows]))
    assert not any(value([(replace(row, answer=row.correction), row.answer) for row in rows]))
    assert value([]) == []


def test_what_cannot_be_judged_is_an_error() -> None:
    """A question that the judge does not know ends the round, since nothing is learnt unjudged."""
    judge: Any = load_judge("world:")
    with pytest.raises(ModelError, match="no such question"):
        value_of(judge.compare, judge.qualities)([(Triple("Who knows?", "I.", "You."), "You.")])
