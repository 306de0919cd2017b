"""Laws of the overlap check: an answer that is another text's is found, and one of its own is not."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aligner.scoring.overlap import Overlap, grams, overlap_by_prompt, overlap_with_any, shared

WORD = st.text(st.characters(codec="utf-8", categories=("L", "N")), min_size=1, max_size=4)
TEXT = st.lists(WORD, max_size=80).map(" ".join)
ENTRIES = ("alpaca-7b", "gpt-4o-2024-05-13", "gpt4_0613", "gpt4_1106_preview", "gpt-4-turbo-2024-04-09")
CORRECTOR = "aligner-2b_gpt-4-turbo-2024-04-09"


@given(TEXT, TEXT)
def test_a_share_is_of_the_answer(answer: str, other: str) -> None:
    """It lies from nothing to all, is all within a text that holds the answer, and knows no white space."""
    mine = grams(answer)
    assert 0 <= shared(mine, grams(other)) <= 1
    assert shared(mine, grams(f"{other} {answer}  {other}")) == (1 if mine else 0)
    assert grams("\n".join(answer.split())) == mine


@given(st.lists(TEXT, min_size=1, max_size=6))
def test_what_is_looked_for_everywhere_is_found_where_it_stands(texts: list[str]) -> None:
    """Any text of a set is found in it, at least as well as at its own prompt."""
    near = overlap_by_prompt(texts, texts, {"all": texts}, words=2, shortest=3)
    far = overlap_with_any(texts, texts, {"all": texts}, words=2, shortest=3)
    assert near.upstream == far.upstream
    assert {place: match.share for place, match in near.matches.items()} == {
        place: match.share for place, match in far.matches.items()
    }
    assert set(near.flagged) == set(near.copied) == {place for place, text in enumerate(texts) if len(text.split()) > 2}


def test_sets_of_other_sizes_are_an_error() -> None:
    """Texts belong to prompts by their place."""
    with pytest.raises(ValueError, match="1 answers, but 2 of b"):
        overlap_by_prompt(["a"], ["a"], {"b": ["a", "b"]})
    with pytest.raises(ValueError, match="1 answers, but 0 of upstream"):
        overlap_with_any(["a"], [], {})


def test_the_published_entry_is_flagged_and_ordinary_ones_are_not(real_data: Path) -> None:
    """304 of 748 answers stand in another entry, 129 in the upstream's; of ordinary entries at most 2 %."""
    folder = real_data / "alpaca_eval" / "model_outputs"
    texts = {
        name: [row["output"] for row in json.loads((folder / f"{name}.json").read_text())]
        for name in (*ENTRIES, CORRECTOR)
    }

    def found(name: str, upstream: str) -> Overlap:
        others = {other: texts[other] for other in texts if other not in (name, upstream, CORRECTOR)}
        return overlap_by_prompt(texts[name], texts[upstream], others)

    corrected = found(CORRECTOR, ENTRIES[-1])
    assert (corrected.counted, len(corrected.flagged), len(corrected.copied)) == (748, 304, 129)
    assert sum(corrected.sources.values()) == 304
    for name in ENTRIES:
        ordinary = found(name, name)
        assert len(ordinary.flagged) <= 0.02 * ordinary.counted
