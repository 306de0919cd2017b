"""Laws of pairs of what should and what must not be written."""

from collections import Counter
from collections.abc import Sequence
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny import tiny_model
from transformers import AutoTokenizer

from aligner.config import PreferenceStage
from aligner.records import Triple
from aligner.scoring.edits import edits_between
from aligner.tasks import refuses
from aligner.templates import TEMPLATES, PromptEncoder
from aligner.training.needless import material_of, needless_edits
from aligner.training.pairs import REFUSALS, Pairs, encode_pairs, pairs_of
from aligner.world.rows import training_rows

_ALL = PreferenceStage(rejected=("original", "needless", "refusal", "sampled"), epochs=1)
_TEXTS = st.one_of(st.text(), st.sampled_from(["I cannot help with that.", "It is 4. Yes!", "It is 5. Yes!"]))
_TRIPLES = st.lists(st.builds(Triple, _TEXTS, _TEXTS, _TEXTS), max_size=8)


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return AutoTokenizer.from_pretrained(tiny_model(tmp_path_factory.mktemp("tiny")))


def _sampled(rows: Sequence[Triple]) -> list[list[str]]:
    return [[row.correction, row.answer, f"{row.correction}!"] for row in rows]


def _pairs(triples: Sequence[Triple], how: PreferenceStage = _ALL, seed: int = 0) -> Pairs:
    return pairs_of(triples, how, seed=seed, refuses=refuses, sampled=_sampled)


@given(triples=_TRIPLES, seed=st.integers(0, 3))
def test_the_correction_is_chosen_and_never_rejected(triples: list[Triple], seed: int) -> None:
    """The chosen side is the correction, or the copy of a good answer; no row rejects it, or the same text twice."""
    found = _pairs(triples, seed=seed)
    assert all(pair.chosen == pair.row.correction != pair.rejected for pair in found.pairs)
    for kind in _ALL.rejected:
        of_kind = [pair for pair in found.pairs if pair.kind == kind]
        assert len(of_kind) == found.made[kind] == len(triples) - found.left_out.get(kind, 0)
    assert all(pair.rejected == pair.row.answer for pair in found.pairs if pair.kind == "original")
    assert not any(refuses(pair.chosen) for pair in found.pairs if pair.kind == "refusal")
    twice = Counter((id(pair.row), pair.rejected) for pair in found.pairs)
    assert len(triples) != len({id(row) for row in triples}) or max(twice.values(), default=1) == 1
    assert found == _pairs(triples, seed=seed)


def test_good_answers_are_defended() -> None:
    """Of a good answer the copy is chosen over a needless edit, a refusal, and a sample that is no copy."""
    good = Triple("What is two and two?", "It is 4. Glad to help!", "It is 4. Glad to help!")
    found = _pairs([good])
    assert [pair.kind for pair in found.pairs] == ["needless", "refusal", "sampled"]
    assert {pair.chosen for pair in found.pairs} == {good.answer}
    assert found.left_out == {"original": 1}
    assert found.told == "3 pairs (0 original, 1 needless, 1 refusal, 1 sampled), left out 1 original"


def test_nothing_is_sampled_unless_samples_are_rejected() -> None:
    """The model is asked only where its texts are wanted, and then for the rows that were drawn."""
    asked: list[Triple] = []

    def sampled(rows: Sequence[Triple]) -> list[list[str]]:
        asked.extend(rows)
        return [[] for _ in rows]

    triples = [Triple(f"{i}?", "a", "b") for i in range(10)]
    pairs_of(triples, PreferenceStage(), seed=0, refuses=refuses, sampled=sampled)
    assert not asked
    pairs_of(triples, PreferenceStage(share=0.3, rejected=("sampled",)), seed=0, refuses=refuses, sampled=sampled)
    assert len(asked) == 3


def test_refusals_refuse() -> None:
    """The rules know every one of them."""
    assert all(map(refuses, REFUSALS))


@given(text=st.text(), triples=_TRIPLES, seed=st.integers(0, 20))
def test_a_needless_edit_is_another_text(text: str, triples: list[Triple], seed: int) -> None:
    """Whatever the text, an edit of it differs, and says something."""
    for edited in needless_edits(text, material_of(triples), Random(seed)):
        assert edited.strip() not in {"", text.strip()}


def test_needless_edits_of_the_closed_world_are_small() -> None:
    """For each row there is one; half of a text or more stays in most of them, and words of other rows come in."""
    triples = [row.triple for row in training_rows(count=200, seed=3)]
    material, random = material_of(triples), Random(0)
    edited = [(row.correction, next(iter(needless_edits(row.correction, material, random)))) for row in triples]
    kept = [1 - sum(edit.end - edit.start for edit in edits_between(text, other)) / len(text) for text, other in edited]
    assert sorted(kept)[len(kept) // 4] >= 0.5
    assert material.words
    assert any(len(edits_between(*pair)) == 1 and len(pair[0].split()) == len(pair[1].split()) for pair in edited)


def test_encoded_pairs_share_their_prompt_and_both_end(tokenizer: Any) -> None:
    """Prompts are those of use; pairs that are too long are counted; each comes once an epoch, the order is seeded."""
    triples = [Triple(f"What is {i}?", "It is so.", f"It is {i}.", instruction="be exact") for i in range(12)]
    triples.append(Triple("Why?", "a " * 300, "b"))
    how = PreferenceStage(rejected=("original",), epochs=2, batch=2, accumulate=2)
    encoder = PromptEncoder(TEMPLATES["sealed"], tokenizer)
    pairs = _pairs(triples, how).pairs
    made = encode_pairs(encoder, tokenizer.eos_token_id, pairs, how, max_length=200, seed=1)
    assert (len(made.pairs), made.left_out) == (24, 1)
    assert set(Counter(made.pairs).values()) == {2}
    for pair in made.pairs:
        assert pair.chosen[-1] == pair.rejected[-1] == tokenizer.eos_token_id
        assert "be exact" in tokenizer.decode(list(pair.prompt))
        assert len(pair.ids) == len(pair.prompt) + max(len(pair.chosen), len(pair.rejected))
    assert {tuple(encoder.prompt_ids(row.question, row.answer, row.instruction)) for row in triples[:-1]} == {
        pair.prompt for pair in made.pairs
    }
    assert made == encode_pairs(encoder, tokenizer.eos_token_id, pairs, how, max_length=200, seed=1)
    assert made != encode_pairs(encoder, tokenizer.eos_token_id, pairs, how, max_length=200, seed=2)
