"""Laws of edit statistics."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aligner.scoring.changes import change_of, changes_of

TEXT = st.lists(st.sampled_from("abcdefgh"), max_size=30).map(" ".join)


@given(TEXT, TEXT)
def test_what_is_copied_of_one_is_kept_of_the_other(answer: str, correction: str) -> None:
    """Shares lie from nothing to all; the same words on both sides; an answer left alone has no edits."""
    there = change_of(answer, correction)
    assert 0 <= there.copied <= 1
    assert 0 <= there.kept <= 1
    assert there.copied * len(correction.split()) == pytest.approx(
        there.kept * len(answer.split()) if correction and answer else there.copied * len(correction.split())
    )
    assert change_of(answer, answer) == (True, 1.0, 1.0, 0, len(answer) / max(len(answer), 1))


def test_an_edit_in_the_middle_is_one_region() -> None:
    """Of five words one is another: four fifths are copied."""
    change = change_of("it is Lyon I think", "it is Paris I think")
    assert change == (False, 0.8, 0.8, 1, 19 / 18)


def test_no_corrections_have_no_figures() -> None:
    """Nothing compared is an error."""
    with pytest.raises(ValueError, match="no corrections to compare"):
        changes_of([])


@pytest.mark.slow
def test_the_published_entry_replaces_rather_than_corrects(real_data: Path) -> None:
    """39 of 805 answers are identical; of the rest three eighths of the words are copied, in 18 regions."""
    path = real_data / "alpaca_eval" / "model_outputs" / "aligner-2b_gpt-4-turbo-2024-04-09.json"
    found = changes_of([change_of(row["original_output"], row["output"]) for row in json.loads(path.read_text())])
    assert (found.total, found.identical) == (805, 39)
    assert (found.copied, found.kept, found.regions) == pytest.approx((0.375, 0.33, 18.2), abs=0.05)
    assert found.copied == pytest.approx(0.375, abs=0.001)
