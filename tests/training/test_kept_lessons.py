"""Laws of lessons that are written down."""

import tempfile
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from aligner.training.encode import EncodedRow
from aligner.training.kept_lessons import kept_lesson
from aligner.training.pairs import EncodedPair

_IDS = st.lists(st.integers(0, 10**6), min_size=1, max_size=6).map(tuple)
_ROWS = st.builds(
    EncodedRow,
    _IDS,
    st.integers(0, 5),
    st.lists(st.floats(0, 9)).map(tuple),
    st.builds(range, st.integers(0, 9), st.integers(0, 9)),
)


@given(st.lists(_ROWS | st.builds(EncodedPair, _IDS, _IDS, _IDS)))
def test_a_kept_lesson_is_made_once_and_comes_back_as_it_was(lesson: list[EncodedRow | EncodedPair]) -> None:
    """The second time it is read from the folder, and nothing is sampled or judged again."""
    with tempfile.TemporaryDirectory() as name:
        assert kept_lesson(Path(name), lambda: lesson) == lesson
        assert kept_lesson(Path(name), list[EncodedRow]) == lesson
