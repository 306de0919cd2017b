"""Lessons as token ids: a question as the upstream reads it, and a text that should or should not follow.

Texts are data: whatever a question, an answer or a correction says, no piece of it becomes a control token.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Generic, NamedTuple, TypeVar

from aligner.bootstrapping.nouns import Asked, Pair
from aligner.models.coder import Coder
from aligner.records import Question
from aligner.training.encode import EncodedRow
from aligner.training.pairs import EncodedPair, EncodedPairs, LabelledRow
from aligner.training.prompts import Prompt

T = TypeVar("T")


class Fitting(NamedTuple, Generic[T]):
    """What could be encoded and is short enough, in order, and how many others there were."""

    rows: list[T]
    left_out: int


def answer_rows(tokenizer: Any, pairs: Sequence[Pair], *, max_length: int) -> Fitting[EncodedRow]:
    """The question of each pair and what is chosen, as rows of at most `max_length` tokens, to be learnt as answers."""
    coder = Coder(tokenizer)
    rows = [
        EncodedRow((*prompt, *coder.completion(pair.chosen)), len(prompt))
        for pair, prompt in _with_prompts(coder, pairs)
    ]
    fitting = [row for row in rows if len(row.ids) <= max_length]
    return Fitting(fitting, len(pairs) - len(fitting))


def own_rows(tokenizer: Any, asked: Sequence[Asked], *, max_length: int) -> Fitting[EncodedRow]:
    """What a model itself said, as rows of at most `max_length` tokens; an answer that did not stop has no end."""
    coder = Coder(tokenizer)
    prompts = ((row, coder.prompt(row.question)) for row in asked)
    rows = [EncodedRow((*prompt, *_said(coder, row)), len(prompt)) for row, prompt in prompts if prompt]
    fitting = [row for row in rows if len(row.ids) <= max_length]
    return Fitting(fitting, len(asked) - len(fitting))


def preference_pairs(tokenizer: Any, pairs: Sequence[Pair], *, max_length: int) -> EncodedPairs:
    """Each pair with both sides; left out are those of which one is longer than `max_length`, is missing, or the other.

    Two texts that differ may be the same to a tokenizer.
    """
    coder = Coder(tokenizer)
    encoded = [
        EncodedPair(prompt, coder.completion(pair.chosen), coder.completion(pair.rejected))
        for pair, prompt in _with_prompts(coder, pairs)
        if pair.rejected is not None
    ]
    fitting = [pair for pair in encoded if len(pair.ids) <= max_length and pair.chosen != pair.rejected]
    return EncodedPairs(fitting, len(pairs) - len(fitting))


def labelled_rows(tokenizer: Any, pairs: Sequence[Pair], *, max_length: int) -> Fitting[LabelledRow]:
    """What is chosen as desirable, and what is rejected as not, each as a row of at most `max_length` tokens."""
    coder = Coder(tokenizer)
    rows = [
        LabelledRow(prompt, coder.completion(text), desirable)
        for pair, prompt in _with_prompts(coder, pairs)
        for text, desirable in ((pair.chosen, True), (pair.rejected, False))
        if text is not None
    ]
    fitting = [row for row in rows if len(row.ids) <= max_length]
    whole = len(pairs) + sum(pair.rejected is not None for pair in pairs)
    return Fitting(fitting, whole - len(fitting))


def prompts_for(tokenizer: Any, questions: Sequence[Question], *, max_length: int) -> Fitting[Prompt]:
    """The questions, under their places, as prompts that leave room for an answer within `max_length` tokens."""
    coder = Coder(tokenizer)
    found = ((coder.prompt(question), place) for place, question in enumerate(questions))
    prompts = [Prompt(ids, place) for ids, place in found if ids and len(ids) < max_length]
    return Fitting(prompts, len(questions) - len(prompts))


def _with_prompts(coder: Coder, pairs: Iterable[Pair]) -> Iterator[tuple[Pair, tuple[int, ...]]]:
    """The pairs whose questions can be encoded, with their prompts."""
    for pair in pairs:
        if prompt := coder.prompt(pair.question):
            yield pair, prompt


def _said(coder: Coder, row: Asked) -> tuple[int, ...]:
    written = coder.completion(row.answer)
    return written if row.finish == "stop" else written[:-1]
