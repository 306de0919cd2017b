"""Laws of the figures of agreement."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import cohen_kappa_score

from aligner.scoring.agreement import alpha, kappa, pairs

LABELS = st.sampled_from(["accept", "reject", "edit", "both_bad"])
PAIRS = st.lists(st.tuples(LABELS, LABELS), min_size=1, max_size=40)

KRIPPENDORFF = (
    (1, 2, 3, 3, 2, 1, 4, 1, 2, None, None, None),
    (1, 2, 3, 3, 2, 2, 4, 1, 2, 5, None, 3),
    (None, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, None),
    (1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, None),
)
"""the example of Krippendorff (2011), four observers of twelve units"""


def test_alpha_of_the_example_in_print_is_the_one_in_print() -> None:
    """Computing Krippendorff's Alpha-Reliability gives 0.743 for names."""
    units = [[label for label in unit if label is not None] for unit in zip(*KRIPPENDORFF, strict=True)]
    assert alpha(units) == pytest.approx(0.743, abs=0.0005)


@given(PAIRS)
def test_kappa_is_that_of_scikit_learn(both: Sequence[tuple[str, str]]) -> None:
    """Where chance would not have both agree always; there it is none."""
    ours, theirs = zip(*both, strict=True)
    found = kappa(both)
    if found is None:
        assert len({*ours, *theirs}) == 1
    else:
        assert found == pytest.approx(cohen_kappa_score(ours, theirs))


@given(st.lists(st.lists(LABELS, max_size=4), max_size=20))
def test_alpha_is_at_most_one_and_blind_to_order(units: list[list[str]]) -> None:
    """It is 1 exactly where all agree, and does not ask who said what first, nor for units with one label."""
    found = alpha(units)
    assert found == pytest.approx(alpha([unit[::-1] for unit in reversed(units)] + [["accept"]]))
    if found is not None:
        assert found <= 1
        assert (found == pytest.approx(1)) == all(len(set(unit)) < 2 for unit in units)


def test_pairs_are_told_once_with_what_both_judged() -> None:
    """In whatever order their labels come."""
    units = [{"ann": 1, "bob": 1}, {"bob": 2, "ann": 1}, {"cy": 1}, {"cy": 1, "ann": 1}]
    assert [(p.a, p.b, p.both, p.agree) for p in pairs(units)] == [("ann", "bob", 2, 0.5), ("ann", "cy", 1, 1.0)]


def test_pairs_are_of_the_busiest_alone() -> None:
    """However many have judged a unit, no more of them are compared than were asked for."""
    crowd = {f"u{number}": 1 for number in range(5_000)}
    units = [{"ann": 1, "bob": 1, **crowd}, {"ann": 1, "bob": 2}, {"cy": 1, "ann": 1}, {"cy": 1}]
    assert [(p.a, p.b, p.both, p.agree) for p in pairs(units, 3)] == [("ann", "bob", 2, 0.5), ("ann", "cy", 1, 1.0)]
    assert len(pairs(units)) == 50 * 49 / 2 - 48  # cy has not judged what the others have


def test_nothing_judged_twice_gives_no_figure() -> None:
    """Neither does one label alone."""
    assert alpha([["accept"], []]) is None
    assert alpha([["accept", "accept"]]) is None
    assert kappa([]) is None
    assert pairs([{"ann": 1}]) == []
