"""Rows of random tokens to copy, for a model that has never read anything."""

from collections.abc import Sequence
from random import Random

from aligner.templates import PromptEncoder
from aligner.training.encode import EncodedRow

LONGEST = 20
"""most tokens of an answer"""
_GROWING = 0.7
"""share of the rows over which they grow"""


def random_copies(
    encoder: PromptEncoder, eos_id: int, vocabulary: Sequence[int], *, count: int, seed: int, shortest: int = 2
) -> list[EncodedRow]:
    """Rows whose answer is random tokens and whose correction is the same; they grow from `shortest` to twenty tokens.

    A new model must first learn to find the token after the one like it. In real answers it can guess most words,
    and learns that late; where every token is equally likely, copying is the only thing that helps.
    """
    random = Random(seed)
    rows: list[EncodedRow] = []
    for i in range(count):
        longest = shortest + int((LONGEST - shortest) * min(1.0, i / (_GROWING * count)))
        question = random.choices(vocabulary, k=random.randint(1, 3))
        answer = random.choices(vocabulary, k=random.randint(longest // 2, longest))
        prompt = encoder.assemble(question, answer)
        rows.append(EncodedRow((*prompt, *answer, eos_id), len(prompt)))
    return rows


def plain_vocabulary(encoder: PromptEncoder, size: int) -> list[int]:
    """The ids of all tokens that stand for text."""
    return [i for i in range(size) if i not in encoder.control_ids]
