"""The baseline that every corrector must beat: the correction of the most similar training row."""

from collections.abc import Sequence

from rapidfuzz import fuzz, process

from aligner.world.rows import Row


def nearest_corrections(training: Sequence[Row], asked: Sequence[Row]) -> list[str]:
    """For each row, the correction of the training row whose question and answer are most alike, by edit distance."""
    known = [_text(row) for row in training]
    found = [process.extractOne(_text(row), known, scorer=fuzz.ratio) for row in asked]
    return [training[place].correction for _, _, place in found]


def _text(row: Row) -> str:
    return f"{row.asked.text}\n{row.answer}"
