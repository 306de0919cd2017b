"""Agreement of two annotators: equal to hand-made figures, and the same from either side."""

from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aligner.building.agreement import Pair, agreement, distance_between, pairs_of
from aligner.building.nouns import Annotated, Choice, id_of

CHOICES = st.sampled_from(get_args(Choice))
WORDS = st.lists(st.sampled_from("one two three four , .".split()), max_size=6).map(" ".join)


def row(answer: str, choice: Choice, text: str, *, second: bool = False, annotator: str = "") -> Annotated:
    name = annotator or ("b" if second else "a")
    found = id_of("correction", answer, name)
    return Annotated(id=found, answer=answer, annotator=name, key=found, choice=choice, text=text, second=second)


@st.composite
def made_pairs(draw: st.DrawFn) -> list[Pair]:
    sides = draw(st.lists(st.tuples(CHOICES, WORDS, CHOICES, WORDS), max_size=8))
    return [
        (row(str(i), one, text, annotator="a"), row(str(i), two, other, second=True, annotator="b"))
        for i, (one, text, two, other) in enumerate(sides)
    ]


def test_figures_made_by_hand() -> None:
    """Four pairs give the share, the kappa and the median distances that paper and pencil give."""
    pairs = [
        (row("1", "keep", "it is so"), row("1", "keep", "it is so", second=True)),
        (row("2", "edit", "it is not so."), row("2", "edit", "it is so.", second=True)),
        (row("3", "edit", "a b c d"), row("3", "keep", "w x y z", second=True)),
        (row("4", "keep", "a b"), row("4", "keep", "a b", second=True)),
    ]
    found = agreement(pairs)
    assert found["pairs"] == 4
    assert found["same_choice"] == 0.75
    # by chance: keep 2/4 * 3/4 + edit 2/4 * 1/4 = 1/2, so that kappa is (3/4 - 1/2) / (1 - 1/2)
    assert found["kappa"] == pytest.approx(0.5)
    assert found["median_token_distance"] == 0.5
    assert found["median_token_distance_share"] == pytest.approx(0.1)
    assert found["annotators"] == {"a / b": 4}


@given(pairs=made_pairs())
def test_agreement_is_the_same_from_either_side(pairs: list[Pair]) -> None:
    """Who of the two is first changes no figure."""
    one, other = agreement(pairs), agreement([(second, first) for first, second in pairs])
    assert {**one, "annotators": None} == {**other, "annotators": None}


@given(pairs=made_pairs())
def test_everybody_agrees_with_himself(pairs: list[Pair]) -> None:
    """Of equal corrections the share is one, the distance none, and kappa is one or cannot be told."""
    found = agreement([(first, first) for first, _ in pairs])
    assert found["kappa"] in {None, 1.0}
    assert (found["same_choice"], found["median_token_distance"]) == ((1.0, 0) if pairs else (None, None))


@given(pairs=made_pairs())
def test_pairs_are_found_in_the_rows_of_a_store(pairs: list[Pair]) -> None:
    """Rows in the order of their answers give back the pairs, and answers with one correction alone give none."""
    rows = [each for pair in pairs for each in pair] + [
        row("99", "keep", "alone"),
        row("100", "edit", "x", second=True),
    ]
    assert list(pairs_of(rows)) == pairs


@given(one=WORDS, other=WORDS)
def test_distances_count_words_and_signs(one: str, other: str) -> None:
    """A distance is none for the same words, no more than the longer text has, and the same from either side."""
    distance, longest = distance_between(one, other)
    assert (distance == 0) == (one.split() == other.split())
    assert 0 <= distance <= longest
    assert distance_between(other, one) == (distance, longest)
