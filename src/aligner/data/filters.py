"""Filters of a build: each looks at one row and says why it is dropped, or None.

They judge by form alone, so that everybody sees why a row went; what an answer is worth is for annotators and judges.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

from aligner.config.building import BuildFilters
from aligner.data import wording
from aligner.data.forms import broken, code_fences, repetition
from aligner.data.languages import language_of, names_of, other_scripts, words
from aligner.prompts import text_of
from aligner.records import Question, as_messages

Row = TypeVar("Row")
QuestionFilter = Callable[[Question], str | None]
CountTokens = Callable[[Question, str, str], int]
"""tokens of the prompt and the correction together"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """What the filters see of a triple."""

    question: Question
    answer: str
    correction: str
    finish_reason: str = "stop"
    """of the call that wrote the correction, or of the answer's where it was kept"""
    tokens: int | None = None
    """of prompt and correction together, where they are counted already"""


TripleFilter = Callable[[Look], str | None]


def question_filters(filters: BuildFilters) -> Mapping[str, QuestionFilter]:
    """The filters of questions by the reason that they give, in the order in which they are asked."""
    return {
        "broken": lambda question: broken(_asked(question)),
        "no_words": no_words,
        "too_short": partial(too_short, filters.shortest_question),
        "too_long": partial(too_long, filters.longest_question),
        "markup": markup,
        "placeholder": lambda question: _shown(wording.unfilled(_asked(question))),
        "repetition": lambda question: repetition(_asked(question)),
    }


def triple_filters(filters: BuildFilters, count_tokens: CountTokens) -> Mapping[str, TripleFilter]:
    """The filters of triples by the reason that they give, in the order in which they are asked.

    A correction that equals its answer is none: it goes into the identity rows, if its form is sound.
    """
    return {
        "broken": lambda look: broken(look.correction) or broken(look.answer),
        "cut_off": cut_off,
        "meta_text": meta_text,
        "refusal": refusal,
        "placeholder": placeholder,
        "code_fences": lambda look: code_fences(look.correction),
        "repetition": lambda look: repetition(look.correction),
        "length_ratio": partial(length_ratio, filters.min_ratio, filters.max_ratio),
        **({"language": language} if filters.language == "same" else {}),
        "too_long": partial(over_budget, filters.max_length, count_tokens),
    }


def first(filters: Mapping[str, Callable[[Row], str | None]], row: Row) -> tuple[str, str] | None:
    """The first reason to drop a row and its detail, or None."""
    found = ((name, examine(row)) for name, examine in filters.items())
    return next(((name, detail) for name, detail in found if detail is not None), None)


def about_tokens(question: Question, answer: str, correction: str) -> int:
    """Tokens of prompt and correction where no tokenizer is given: four characters make one."""
    return (len(text_of(question)) + len(answer) + len(correction)) // 4


# ---- questions -------------------------------------------------------------------------------------------------------


def no_words(question: Question) -> str | None:
    """A user who says no letter and no digit."""
    return None if words(_said(question)) else "no letter and no digit"


def too_short(least: int, question: Question) -> str | None:
    """A user who says fewer letters and digits than that, in all turns together.

    An ideograph or a syllable of Hangul says as much as two letters, a sign of arithmetic between digits as one.
    """
    said = _said(question)
    count = sum(map(str.isalnum, said)) + len(_IDEOGRAPH.findall(said)) + len(_OPERATOR.findall(said))
    return None if count >= least else f"{count} letters and digits"


_IDEOGRAPH = re.compile("[\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af\uf900-\ufaff\U00020000-\U0003ffff]")
_OPERATOR = re.compile(r"(?<=\d)\s?[-+*/^%=<>\u00d7\u00f7\u2212]\s?(?=\d)")


def too_long(most: int, question: Question) -> str | None:
    """More characters in all turns than that."""
    count = len(_asked(question))
    return None if count <= most else f"{count} characters"


def markup(question: Question) -> str | None:
    """Marks of a chat template or another speaker's turn inside what the user said: nobody typed that."""
    said = (turn.content for turn in as_messages(question) if turn.role == "user")
    return _shown(next(filter(None, map(wording.markup, said)), None))


def _asked(question: Question) -> str:
    return question if isinstance(question, str) else "\n".join(turn.content for turn in question)


def _said(question: Question) -> str:
    return "\n".join(turn.content for turn in as_messages(question) if turn.role == "user")


def _last(question: Question) -> str:
    return as_messages(question)[-1].content


# ---- triples ---------------------------------------------------------------------------------------------------------


def cut_off(look: Look) -> str | None:
    """A text that ended because its tokens were used up."""
    return "finish_reason length" if look.finish_reason == "length" else None


def meta_text(look: Look) -> str | None:
    """Words about the correction, or of the prompt, where the correction should stand and the answer has none.

    Who asks for something to be edited may be told how it was.
    """
    editing = wording.asks_to_edit(_last(look.question))
    return _shown(wording.meta_text(look.correction, look.answer, editing=editing))


def refusal(look: Look) -> str | None:
    """An annotator who refuses to edit; a correction that refuses what the question asks for is none of these."""
    asked_for = wording.asks_to_edit(_last(look.question)) or wording.refusal_to_edit(look.answer)
    return None if asked_for else _shown(wording.refusal_to_edit(look.correction))


def placeholder(look: Look) -> str | None:
    """Blanks to be filled in where neither question nor answer has any, or marks of the annotator's prompt.

    Where a letter, a post or such is asked for, blanks are right: there were 119 of the 123 that 4,830 recorded answers
    of AlpacaEval hold.
    """
    given = f"{_asked(look.question)}\n{look.answer}"
    drafting = wording.asks_for_draft(_last(look.question))
    finds = (wording.mark_of_prompt,) if drafting else (wording.mark_of_prompt, wording.blank)
    found = ((find(look.correction), find(given)) for find in finds)
    return next((_shown(blank) for blank, known in found if blank and not known and blank not in given), None)


_LONG = 1000
"""characters"""


def length_ratio(least: float, most: float, look: Look) -> str | None:
    """A correction that is much shorter or longer than its answer, in characters; 0 as `most` sets no limit.

    Where neither has 1,000 characters it may be: a short refusal of harm is right, and of the triples that people wrote
    (HH-RLHF, TruthfulQA) a quarter would be dropped, but less than one in a hundred with this limit.
    """
    if max(len(look.correction), len(look.answer)) < _LONG:
        return None
    ratio = len(look.correction) / max(1, len(look.answer))
    return None if ratio >= least and (not most or ratio <= most) else f"{ratio:.2f} times as long"


def over_budget(most: int, count_tokens: CountTokens, look: Look) -> str | None:
    """More tokens of prompt and correction together than that."""
    tokens = look.tokens if look.tokens is not None else count_tokens(look.question, look.answer, look.correction)
    return None if tokens <= most else f"{tokens} tokens"


def language(look: Look) -> str | None:
    """A correction in another language or script than the question's, where that can be told.

    Not where the question names the language, or something is to be translated; the user's last turn is what counts.
    """
    asked, said = language_of(_last(look.question)), language_of(look.correction)
    known = asked is not None and said is not None
    if asked == said or not (known or other_scripts(_last(look.question), look.correction)):
        return None
    named = set(words(_asked(look.question)))
    if named.intersection(names_of(said or "")) or named & _TRANSLATING:
        return None
    return f"{said or 'another script'}, where the question is {asked or 'in another script'}"


_TRANSLATING = frozenset(
    "translate translated translation translating traduire traduis traduction traducir traduce traducción "
    "übersetze übersetzen übersetzung tradurre traduci traduzir traduza vertaal vertalen".split()
)


def _shown(found: str | None) -> str | None:
    return None if found is None else f'"{found[:80]}"'
