"""Laws of rows to copy."""

from hypothesis import given
from hypothesis import strategies as st

from aligner.data.identity import copied_corrections
from aligner.records import Triple

_TEXTS = st.sampled_from(["", "yes", "no", "perhaps"])
_TRIPLES = st.lists(st.builds(Triple, _TEXTS, _TEXTS, _TEXTS, sources=st.just(("q", "a", "c"))), max_size=30)


@given(triples=_TRIPLES, share=st.floats(0, 3), seed=st.integers(0, 5))
def test_corrections_are_copied_as_often_as_asked(triples: list[Triple], share: float, seed: int) -> None:
    """Each row asks for a copy of the correction of a flawed answer, which is none of its upstream's words."""
    copies = copied_corrections(triples, share=share, seed=seed)
    flawed = [row for row in triples if not row.is_identity]
    assert len(copies) == (round(len(triples) * share) if flawed else 0)
    assert {(row.question, row.answer) for row in copies} <= {(row.question, row.correction) for row in flawed}
    assert all(row.is_identity and row.sources == ("q", "c", "c") for row in copies)
    assert copies == copied_corrections(triples, share=share, seed=seed)


def test_no_correction_comes_twice_before_all_came_once() -> None:
    """One and a half times all corrections are each of them once or twice."""
    triples = [Triple("?", f"{i}.", f"{i}!") for i in range(10)]
    copies = copied_corrections(triples, share=1.5, seed=0)
    assert {row.answer for row in copies[:10]} == {row.correction for row in triples}
    assert len({row.answer for row in copies[10:]}) == 5
