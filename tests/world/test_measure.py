"""Laws of measuring a corrector against the oracle."""

from collections.abc import Callable, Sequence

import pytest

from aligner.world.measure import QUALITIES, Outcome, measure, tally, tally_quality
from aligner.world.nearest import nearest_corrections
from aligner.world.profiles import PROFILES
from aligner.world.rows import Row, rows, training_rows

_ROWS = [row for profile in PROFILES.values() for row in rows(profile, count=30, seed=3, split="unseen")]


def _outcomes(correct: Callable[[Row], str]) -> list[Outcome]:
    return measure(_ROWS, lambda asked: map(correct, asked))


def test_a_perfect_editor_fixes_all_and_breaks_nothing() -> None:
    """The world's own corrections fix every flawed answer and return every good one byte for byte."""
    counts = tally(_outcomes(lambda row: row.correction))
    assert (counts.fix_rate, counts.keep_rate, counts.broken) == (1.0, 1.0, 0)
    assert counts.fixed == sum(bool(row.flaws) for row in _ROWS)


def test_a_perfect_copy_fixes_nothing_and_breaks_nothing() -> None:
    """An echo leaves every answer alone."""
    counts = tally(_outcomes(lambda row: row.answer))
    assert (counts.fixed, counts.broken, counts.keep_rate, counts.alone) == (0, 0, 1.0, len(_ROWS))


def test_silence_breaks_every_good_answer() -> None:
    """An empty text fixes nothing, and breaks all that was good."""
    counts = tally(_outcomes(lambda _: ""))
    assert (counts.fixed, counts.broken, counts.kept) == (0, counts.good, 0)


def test_an_answer_is_flawed_if_it_lacks_any_quality() -> None:
    """Per quality there are never more flawed answers than over all, and each flawed answer lacks some quality."""
    outcomes = _outcomes(lambda row: row.correction)
    by_quality = [tally_quality(outcomes, quality).flawed for quality in QUALITIES]
    assert max(by_quality) <= tally(outcomes).flawed <= sum(by_quality)


@pytest.mark.slow
def test_the_nearest_neighbour_is_a_weak_corrector() -> None:
    """The correction of the most similar training row fixes under 40 %: only facts can be looked up."""
    training = list(training_rows(count=20_000, seed=0))

    def correct(asked: Sequence[Row]) -> list[str]:
        return nearest_corrections(training, asked)

    fix_rate = tally(measure(_ROWS, correct)).fix_rate
    assert fix_rate is not None
    assert 0 < fix_rate < 0.4


def test_the_nearest_neighbour_of_a_training_row_is_itself() -> None:
    """On rows that training has seen, the baseline gives their own corrections."""
    training = list(training_rows(count=300, seed=0))
    assert nearest_corrections(training, training[:50]) == [row.correction for row in training[:50]]
