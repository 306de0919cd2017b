"""Laws of measuring: counts add up, and a corrector that does nothing cannot look like one that corrects."""

import json
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aligner.correct import Aligner
from aligner.correcting.guards import cut_off
from aligner.errors import MisuseError
from aligner.records import Completion, Correction, Exchange, Message, Triple
from aligner.scoring.edits import edits_between
from aligner.training.measuring import CUT_OFF, TokenLoss, asked, count, measure, standard_named
from aligner.world.rows import training_rows

EXACT, WORLD = standard_named("exact"), standard_named("world")
_TEXTS = st.text(max_size=8)
_TRIPLES = st.builds(
    Triple,
    st.just("?"),
    _TEXTS,
    _TEXTS,
    st.tuples(st.just(""), st.sampled_from(["", "a", "b"]), st.just("")),
)
_REASONS = st.none() | st.sampled_from(["gate", "the correction was cut off", "the correction was empty"])
_LOSSES = st.builds(TokenLoss, st.floats(0, 9), st.integers(0, 9), st.floats(0, 9), st.integers(0, 9))


def corrected(exchange: Exchange, text: str, reason: str | None = None) -> Correction:
    """What an Aligner says of a text that it wrote; a guard with a reason keeps the answer."""
    text = exchange.answer if reason else text
    return Correction(exchange=exchange, text=text, edits=edits_between(exchange.answer, text), kept_reason=reason)


@given(st.lists(st.tuples(_TRIPLES, _TEXTS, _REASONS, _LOSSES)))
def test_counts_add_up(rows: list[tuple[Triple, str, str | None, TokenLoss]]) -> None:
    """Good and flawed make all rows, no count passes its total, and sources together give the whole."""
    triples, losses = [row for row, *_ in rows], [loss for *_, loss in rows]
    found = count(triples, [corrected(asked(row), text, reason) for row, text, reason, _ in rows], EXACT, losses=losses)
    assert found.flawed + found.good == found.rows == len(rows)
    assert found.fixed + found.unchanged <= found.flawed
    assert found.broken + found.kept <= found.good
    assert 0 <= found.truncated <= sum(found.guarded.values()) <= found.rows
    assert -1 <= found.score <= 1
    assert all(0 <= share <= 1 for share in (found.edit_share, found.edit_share_of_changed) if share is not None)
    for rate in filter(None, found.rates().values()):
        assert 0 <= rate.low <= rate.value <= rate.high <= 1
    for name in ("rows", "flawed", "fixed", "unchanged", "good", "broken", "kept", "truncated"):
        assert not found.by_source or sum(getattr(one, name) for one in found.by_source.values()) == getattr(
            found, name
        )
    assert json.loads(json.dumps(found.figures())) == found.figures()


@given(st.lists(_TRIPLES, min_size=1))
def test_a_copier_fixes_and_breaks_nothing(rows: list[Triple]) -> None:
    """It has the score of doing nothing, and every flawed answer of it counts as unchanged."""
    echo = Aligner.from_pretrained("echo:")
    copier = echo if all(row.answer.strip() for row in rows) else None
    found = measure(lambda given: _written(copier, given), None, rows, EXACT)
    assert (found.fixed, found.broken, found.score, found.edit_share) == (0, 0, 0, 0)
    assert (found.kept, found.unchanged) == (found.good, found.flawed)


@given(st.lists(_TRIPLES, min_size=1))
def test_a_corrector_that_is_right_fixes_all_and_breaks_nothing(rows: list[Triple]) -> None:
    """What writes each row's correction has every rate at its best."""
    found = count(rows, [corrected(asked(row), row.correction) for row in rows], EXACT)
    assert (found.fixed, found.broken, found.kept, found.unchanged) == (found.flawed, 0, found.good, 0)
    assert found.score == (1.0 if found.flawed else 0.0)


def test_what_a_guard_threw_away_is_no_copy() -> None:
    """Corrections that are cut off break no good answer, but raise no copy rate; what the gate keeps is a copy."""
    row = Triple("?", "good", "good")
    for reason, kept in (("the correction was cut off", 0), ("gate", 1)):
        found = count([row], [corrected(asked(row), "", reason)], EXACT)
        assert (found.good, found.broken, found.kept, found.guarded) == (1, 0, kept, {reason: 1})
        assert found.truncated == 1 - kept


def test_truncation_is_known_by_the_reasons_of_its_guard() -> None:
    """Whatever the guard against truncation says is counted as truncation, and nothing else is."""
    said = {cut_off(Exchange("?", "!"), Completion("", reason)) for reason in ("length", "context", "stop")}
    assert said - {None} == CUT_OFF


def test_the_oracle_accepts_other_words() -> None:
    """A good answer in the closed world counts as good though it is not the row's correction, for each quality, too."""
    rows = [row.triple for row in training_rows(count=90, seed=3)]
    found = count(rows, [corrected(asked(row), row.correction) for row in rows], WORLD)
    assert (found.fixed, found.broken) == (found.flawed, 0)
    assert set(found.by_quality) == {"helpful", "harmless", "honest"}
    assert all(one.fixed == one.flawed and one.rows == 90 for one in found.by_quality.values())
    question = "What is the capital of France?"
    polite = Triple(question, "It is Paris, you fool.", "Paris is the capital of France.")
    other = "The capital of France is Paris."
    assert WORLD.is_good(polite, other)
    assert not EXACT.is_good(polite, other)
    assert WORLD.is_good(Triple((Message("user", question),), "", ""), other)


def test_the_oracle_refuses_questions_that_it_does_not_know() -> None:
    """A question of the real world has no oracle, which is said with the cure; so is a standard with no name."""
    with pytest.raises(MisuseError, match=r'no question of the closed world: "Why\?"; choose "exact"'):
        count([Triple("Why?", "a", "b")], [corrected(Exchange("Why?", "a"), "a")], WORLD)
    with pytest.raises(MisuseError, match='did you mean "exact"'):
        standard_named("exakt")


def test_many_sources_share_a_line() -> None:
    """Only the largest sources have figures of their own."""
    rows = [Triple("?", "a", "b", ("", f"source {i % 40:02}", "")) for i in range(100)]
    found = count(rows, [corrected(asked(row), "b") for row in rows], EXACT)
    assert len(found.by_source) == 21
    assert found.by_source["others"].rows == 100 - 20 * 3


def test_losses_are_means_over_tokens() -> None:
    """Rows weigh by their tokens, and of no tokens there is no loss."""
    rows = [Triple("?", "a", "b"), Triple("?", "a", "a")]
    made = [corrected(asked(row), row.correction) for row in rows]
    found = count(rows, made, EXACT, losses=[TokenLoss(6.0, 2, 1.0, 1), TokenLoss(0.0, 0, 2.0, 2)])
    assert (found.loss_edited, found.loss_copied) == (3.0, 1.0)
    assert count(rows, made, EXACT).loss_edited is None


def test_nothing_has_no_rates() -> None:
    """Of no rows, counts are zero and rates are none."""
    found = count([], [], EXACT)
    assert not any(found.rates().values())
    assert (found.rows, found.score, found.edit_share, found.by_source) == (0, 0.0, None, {})


def _written(copier: Aligner | None, exchanges: Sequence[Exchange]) -> list[Correction]:
    """The copies; a blank answer is one that no Aligner is asked for, so its copy is made by hand."""
    return list(copier.correct_many(exchanges)) if copier else [corrected(one, one.answer) for one in exchanges]
