"""Laws of learning from one's own corrections."""

from collections import Counter
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aligner.records import Triple
from aligner.training.on_policy import SOURCE, Value, Valued, drawn, exact_value, mixed, valued

_TEXTS = st.sampled_from(["", "yes", "no", "perhaps"])
_TRIPLES = st.lists(st.builds(Triple, st.just("?"), _TEXTS, _TEXTS), max_size=20)
_SAMPLED = st.lists(st.tuples(st.builds(Triple, st.just("?"), _TEXTS, _TEXTS), st.lists(_TEXTS, max_size=6)))


def _anything(pairs: Sequence[tuple[Triple, str]]) -> list[bool]:
    return [True] * len(pairs)


def _valued(sampled: Sequence[tuple[Triple, list[str]]], value: Value = _anything) -> Valued:
    return valued([row for row, _ in sampled], [texts for _, texts in sampled], value)


@given(_SAMPLED)
def test_a_good_answer_is_never_changed(sampled: list[tuple[Triple, list[str]]]) -> None:
    """Whatever the value likes, a good answer is kept as an exact copy or not at all, and a flawed one is no copy."""
    for row, texts in sampled:
        kept = valued([row], [texts], _anything).triples
        assert all(one.is_identity == row.is_identity and one.sources[2] == SOURCE for one in kept)
        assert all(one.correction in texts for one in kept)
        assert bool(kept) == any((text == row.answer) == row.is_identity for text in texts)


@given(_SAMPLED)
def test_exact_keeps_the_corrections_that_were_found(sampled: list[tuple[Triple, list[str]]]) -> None:
    """With the exact value, what is kept are the rows whose own correction is among the samples, as they are."""
    found = _valued(sampled, exact_value)
    hit = [row for row, texts in sampled if row.correction in texts]
    assert [(row.answer, row.correction) for row in found.triples] == [(row.answer, row.correction) for row in hit]
    assert found.fixed == sum(not row.is_identity for row in hit)
    assert found.copied == sum(row.is_identity for row in hit)
    assert found.flawed + found.good == len(sampled)


def test_the_most_frequent_good_sample_is_kept() -> None:
    """A row is kept once, with the sample that came most often among those that are worth learning."""
    row = Triple("?", "bad", "good")
    texts = ["fine", "bad", "great", "worse", "worse", "great", "worse", "bad", "bad", "bad"]
    found = valued([row], [texts], lambda pairs: [text != "worse" for _, text in pairs])
    assert [kept.correction for kept in found.triples] == ["great"]
    asked: list[str] = []

    def nothing(pairs: Sequence[tuple[Triple, str]]) -> list[bool]:
        asked.extend(text for _, text in pairs)
        return [False] * len(pairs)

    assert not valued([row], [texts], nothing).triples
    assert asked == ["worse", "great", "fine"]


@given(triples=_TRIPLES, kept=_TRIPLES, mix=st.floats(0, 2), seed=st.integers(0, 3))
def test_kept_rows_are_mixed_with_given_ones(triples: list[Triple], kept: list[Triple], mix: float, seed: int) -> None:
    """All that was kept is there, and of the triples as many as asked for, none of them oftener than it was given."""
    together = Counter(mixed(kept, triples, mix=mix, seed=seed))
    others = together - Counter(kept)
    assert together >= Counter(kept)
    assert others <= Counter(triples)
    assert others.total() == min(round(len(kept) * mix), len(triples))


@given(triples=_TRIPLES, share=st.floats(0, 1), seed=st.integers(0, 3))
def test_a_share_is_drawn_in_order(triples: list[Triple], share: float, seed: int) -> None:
    """So many of the triples, in their order, the same ones for the same seed."""
    rows = drawn(triples, share=share, seed=seed)
    places = iter(triples)
    assert len(rows) == round(len(triples) * share)
    assert all(any(row is other for other in places) for row in rows)
    assert rows == drawn(triples, share=share, seed=seed)


def test_samples_must_belong_to_triples() -> None:
    """Samples for fewer rows than there are is a mistake of the caller."""
    with pytest.raises(ValueError, match="zip"):
        valued([Triple("?", "a", "b")], [], exact_value)
