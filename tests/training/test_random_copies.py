"""Laws of random tokens to copy."""

import pytest
from tiny import tiny_model
from transformers import AutoTokenizer

from aligner.templates import TEMPLATES, PromptEncoder
from aligner.training.random_copies import LONGEST, plain_vocabulary, random_copies


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> PromptEncoder:
    folder = tiny_model(tmp_path_factory.mktemp("tiny"))
    return PromptEncoder(TEMPLATES["sealed"], AutoTokenizer.from_pretrained(folder))


def test_every_row_is_a_copy(encoder: PromptEncoder) -> None:
    """What bears loss is the answer of the prompt and the end of the text."""
    vocabulary = plain_vocabulary(encoder, 300)
    for row in random_copies(encoder, 2, vocabulary, count=50, seed=1):
        answer, end = row.ids[row.prompt_length : -1], row.ids[-1]
        assert end == 2
        assert tuple(row.ids[row.prompt_length - len(answer) - 1 : row.prompt_length - 1]) == answer


def test_rows_grow_and_end_at_their_longest(encoder: PromptEncoder) -> None:
    """The first rows hold one or two tokens, the last ones up to twenty; the same seed gives the same rows."""
    vocabulary = plain_vocabulary(encoder, 300)
    rows = random_copies(encoder, 2, vocabulary, count=400, seed=1)
    lengths = [len(row.ids) - row.prompt_length - 1 for row in rows]
    assert max(lengths[:10]) <= 2
    assert LONGEST // 2 <= min(lengths[-50:]) <= max(lengths[-50:]) == LONGEST
    assert rows == random_copies(encoder, 2, vocabulary, count=400, seed=1)


def test_no_control_token_is_drawn(encoder: PromptEncoder) -> None:
    """Random tokens stand for text: the controls in a row are those of its template and its end."""
    vocabulary = plain_vocabulary(encoder, 300)
    assert encoder.control_ids.isdisjoint(vocabulary)
    for row in random_copies(encoder, 2, vocabulary, count=20, seed=1, shortest=LONGEST):
        assert sum(i in encoder.control_ids for i in row.ids) == 3 + 1
