"""Laws of the sizes of drafts."""

import math
from collections.abc import Callable, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aligner.decoding.blocks import MeasuredBlocks, Prospect, no_drafts, whole_drafts

HAZARDS = st.just(0.0) | st.floats(1e-6, 0.5)
PROSPECTS = st.lists(
    st.builds(
        Prospect,
        longest=st.integers(0, 500),
        trust=st.floats(0.01, 1),
        hazard=HAZARDS,
        first=st.booleans(),
    ),
    min_size=1,
    max_size=6,
)
COSTS = st.builds(
    lambda fixed, each, bend: lambda tokens: fixed + each * max(0.0, tokens - bend),
    st.floats(0.01, 10),
    st.floats(0, 10),
    st.integers(0, 64),
)
Cost = Callable[[float], float]


def gain(prospect: Prospect, size: int) -> float:
    """Tokens that a draft of that size gives on average, summed one by one."""
    return sum(prospect.trust * (1 - prospect.hazard) ** i for i in range(size))


@given(prospects=PROSPECTS, costs=COSTS, fed=st.integers(1, 200))
def test_no_size_is_longer_than_what_there_is(prospects: list[Prospect], costs: Cost, fed: int) -> None:
    """Every row gets a size, from nothing to all of its draft; a first pass takes it whole."""
    for policy in (MeasuredBlocks(costs), whole_drafts, no_drafts):
        sizes = policy(prospects, fed)
        assert len(sizes) == len(prospects)
        assert all(0 <= size <= p.longest for size, p in zip(sizes, prospects, strict=True))
    sizes = MeasuredBlocks(costs)(prospects, fed)
    assert all(size == p.longest for size, p in zip(sizes, prospects, strict=True) if p.first)


@given(prospects=PROSPECTS, costs=COSTS, fed=st.integers(1, 200))
def test_drafting_costs_at_most_a_tenth_of_the_rate_without(prospects: list[Prospect], costs: Cost, fed: int) -> None:
    """By the costs and the prospects as they are told, a pass gives at least nine tenths of plain decoding's rate."""
    rows = [p._replace(first=False) for p in prospects]

    def rate(sizes: Sequence[int]) -> float:
        return (len(rows) + sum(map(gain, rows, sizes))) / costs(fed + sum(sizes))

    assert rate(MeasuredBlocks(costs)(rows, fed)) >= 0.9 * rate([0] * len(rows)) * (1 - 1e-9)


@given(rows=st.integers(1, 8), longest=st.integers(1, 500), hazard=HAZARDS)
def test_nothing_is_drafted_where_tokens_cost_far_more_than_passes(rows: int, longest: int, hazard: float) -> None:
    """Drafting turns itself off where a token more costs more than it can bring."""
    prospects = [Prospect(longest, 1.0, hazard)] * rows
    assert MeasuredBlocks(lambda tokens: tokens**3)(prospects, rows) == [0] * rows


@given(longest=st.lists(st.integers(8, 500), min_size=1, max_size=6), trust=st.floats(0.3, 1))
def test_drafts_are_taken_whole_where_a_pass_costs_the_same_whatever_its_size(longest: list[int], trust: float) -> None:
    """On a machine that waits for memory alone, a longer draft has no price."""
    prospects = [Prospect(size, trust) for size in longest]
    assert MeasuredBlocks(lambda _: 1.0)(prospects, len(longest)) == longest


@given(longest=st.integers(1, 500), hazard=st.floats(0.001, 0.5))
def test_what_will_hardly_survive_is_not_drafted(longest: int, hazard: float) -> None:
    """Free or not, a token that survives less often than once in a hundred is left out."""
    (size,) = MeasuredBlocks(lambda _: 1.0)([Prospect(longest, 1.0, hazard)], 1)
    assert size == longest or 0.005 < (1 - hazard) ** size < 0.02


@pytest.mark.parametrize("trust", [0.05, 0.2, 0.35])
def test_a_doubtful_place_is_not_tried_where_it_costs_more_than_it_saves(trust: float) -> None:
    """A guess that is mostly wrong has to be nearly free; one that is surely right may cost more."""

    def costs(tokens: float) -> float:
        return 1 + 0.1 * tokens

    assert MeasuredBlocks(costs)([Prospect(100, trust, 0.01)], 1) == [0]
    assert MeasuredBlocks(costs)([Prospect(100, 1.0, 0.01)], 1) > [20]
    assert MeasuredBlocks(lambda _: 1.0)([Prospect(100, trust, 0.0)], 1) == [100]


@given(cheap=st.floats(0.0001, 1), times=st.floats(1, 100))
def test_dearer_tokens_make_no_longer_drafts(cheap: float, times: float) -> None:
    """The more a token costs beside a pass, the fewer are drafted."""
    prospects = [Prospect(300, 1.0, 0.02)]
    less, more = (MeasuredBlocks(lambda n, each=each: 1 + each * n)(prospects, 1) for each in (cheap, cheap * times))
    assert more <= less


def test_the_two_constant_policies_take_all_or_nothing() -> None:
    """Whole drafts are the fewest passes, and no drafts are plain decoding."""
    prospects = [Prospect(7), Prospect(0), Prospect(300, 0.01, 0.9)]
    assert whole_drafts(prospects, 3) == [7, 0, 300]
    assert no_drafts(prospects, 3) == [0, 0, 0]
    assert math.isclose(gain(prospects[0], 7), 7)
