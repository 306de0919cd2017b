"""How long rows are, in tokens, and what they add up to; of many rows a sample is measured."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import NamedTuple

from aligner.records import Triple, as_messages
from aligner.templates import PromptEncoder, Template

SAMPLE = 2000
"""rows of a kind, at the most, whose tokens are counted"""
_LONGEST = 64
"""those with most characters, which are looked at in any case: they decide about memory"""
_LETTERS_PER_TOKEN = 4
"""where there is no tokenizer to count with"""


class Length(NamedTuple):
    """Tokens of one row."""

    prompt: int
    """question and answer in the template"""
    learnt: int
    """correction and end of text, which bear the loss"""

    @property
    def total(self) -> int:
        """Of both."""
        return self.prompt + self.learnt


_NOTHING = Length(0, 0)


@dataclass(frozen=True, slots=True)
class Rows:
    """What some rows add up to."""

    count: int = 0
    """those that fit"""
    too_long: int = 0
    tokens: int = 0
    learnt: int = 0
    """tokens that bear the loss"""
    longest: Length = _NOTHING
    """the most tokens of a row that fits, and the most that one learns"""
    exact: bool = True
    """false where a sample stands for all of them"""


Measure = Callable[[Triple], Length]
"""The tokens of a triple, as training will encode it."""


def measure_with(template: Template, encoder: PromptEncoder | None, instruction: str) -> Measure:
    """Counts the tokens of a triple; without an encoder, guesses them from its letters."""
    if encoder is None:
        return lambda row: _guessed(row, len(template.text))

    def measure(row: Triple) -> Length:
        prompt = encoder.prompt_ids(row.question, row.answer, row.instruction or instruction)
        return Length(len(prompt), len(encoder.text_ids(row.correction)) + 1)

    return measure


def rows_of(triples: Sequence[Triple], measure: Measure, limit: int, *, seed: int) -> Rows:
    """What the triples add up to as rows; those of more than `limit` tokens are left out."""
    if len(triples) <= SAMPLE:
        return add_up(map(measure, triples), limit)
    sample = add_up(map(measure, Random(seed).sample(triples, SAMPLE)), limit)
    extremes = add_up(map(measure, sorted(triples, key=_letters)[-_LONGEST:]), limit)
    # If even the longest fit, then so do all of them.
    share = sample.count / SAMPLE if extremes.too_long else 1.0
    found = scaled(sample, share * len(triples) / max(sample.count, 1))
    too_long = max(len(triples) - found.count, extremes.too_long)
    longest = _larger(found.longest, extremes.longest)
    return replace(found, count=len(triples) - too_long, too_long=too_long, longest=longest, exact=False)


def add_up(lengths: Iterable[Length], limit: int) -> Rows:
    """What rows of these lengths add up to."""
    whole = list(lengths)
    fit = [length for length in whole if length.total <= limit]
    longest = max(fit, key=lambda length: length.total, default=_NOTHING)
    return Rows(
        count=len(fit),
        too_long=len(whole) - len(fit),
        tokens=sum(length.total for length in fit),
        learnt=sum(length.learnt for length in fit),
        longest=_larger(longest, max(fit, key=lambda length: length.learnt, default=longest)),
    )


def both(one: Rows, other: Rows) -> Rows:
    """What two kinds of rows add up to together."""
    return Rows(
        one.count + other.count,
        one.too_long + other.too_long,
        one.tokens + other.tokens,
        one.learnt + other.learnt,
        _larger(one.longest, other.longest),
        one.exact and other.exact,
    )


def scaled(rows: Rows, times: float) -> Rows:
    """So many times as many rows of the same kind; no longer exact, but for whole numbers."""
    return replace(
        rows,
        count=round(rows.count * times),
        too_long=round(rows.too_long * times),
        tokens=round(rows.tokens * times),
        learnt=round(rows.learnt * times),
        exact=rows.exact and times == int(times),
    )


def _larger(one: Length, other: Length) -> Length:
    """A length with the larger total and the larger learnt part of two."""
    total, learnt = max(one.total, other.total), max(one.learnt, other.learnt)
    return Length(total - learnt, learnt)


def _letters(row: Triple) -> int:
    return _asked(row) + len(row.answer) + len(row.correction)


def _asked(row: Triple) -> int:
    return sum(len(message.content) for message in as_messages(row.question))


def _guessed(row: Triple, template: int) -> Length:
    read, written = template + _asked(row) + len(row.answer), len(row.correction)
    return Length(read // _LETTERS_PER_TOKEN + 1, written // _LETTERS_PER_TOKEN + 1)
