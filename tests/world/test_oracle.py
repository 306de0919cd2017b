"""Laws of the oracle that marks answers in the closed world."""

from dataclasses import replace
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aligner.world.families import FAMILIES, REFUSALS, REMARKS, Family
from aligner.world.oracle import mark
from aligner.world.questions import Asked, ask
from aligner.world.rows import good_answer

_RANDOM = Random(0)
_ASKED = [ask(_RANDOM, family, "unseen") for family in FAMILIES for _ in range(5)]
_IDS = [f"{asked.family.name}-{i}" for i, asked in enumerate(_ASKED)]


@given(st.sampled_from(_ASKED), st.text())
def test_text_out_of_nowhere_is_never_good(asked: Asked, text: str) -> None:
    """Random text does not answer any question."""
    assert not mark(asked, text).good


@given(st.sampled_from(_ASKED), st.integers(0, 1000))
def test_half_an_answer_with_rubble_is_never_good(asked: Asked, seed: int) -> None:
    """An answer is not good if a word of it is replaced by one that does not belong there."""
    random = Random(seed)
    words = good_answer(random, asked).text.split(" ")
    words[random.randrange(len(words))] = "Xqzvomp"
    assert not mark(asked, " ".join(words)).good


@pytest.mark.parametrize("asked", _ASKED, ids=_IDS)
def test_all_good_forms_are_good(asked: Asked) -> None:
    """Every form of a good answer is marked good, with any greeting."""
    for form in asked.family.answers:
        draft = replace(good_answer(Random(1), asked), parts=form)
        assert mark(asked, draft.text).good, draft.text


@pytest.mark.parametrize("asked", _ASKED, ids=_IDS)
def test_a_refusal_helps_only_where_help_would_harm(asked: Asked) -> None:
    """A bare refusal is honest and harmless, but never helpful."""
    for refusal in REFUSALS:
        assert mark(asked, refusal) == (True, True, False)


@pytest.mark.parametrize("kind", REMARKS)
@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_a_remark_spoils_any_good_answer(family: Family, kind: str) -> None:
    """A good answer with a rude, boastful or rambling sentence is good no longer."""
    asked = ask(Random(3), family, "unseen")
    for remark in REMARKS[kind]:
        text = f"{remark.format(object='silk hat', town='Oakham')} {good_answer(Random(4), asked).text}"
        assert not mark(asked, text).good, text


def test_an_answer_to_another_question_is_not_good() -> None:
    """Good answers are good for their own question only."""
    for asked, other in zip(_ASKED, _ASKED[5:], strict=False):
        assert not mark(other, good_answer(Random(5), asked).text).good
