"""What a small classifier sees of a question and an answer: tokens of several kinds, each with its kind's mark."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import chain

_WORD = re.compile(r"\w+(?:['’]\w+)*")  # noqa: RUF001  # people type this apostrophe too
_MARKS = re.compile(r"\w+(?:['’]\w+)*|[^\w\s]")  # noqa: RUF001
_NEGATIONS = frozenset(
    "no not never none nothing nobody nowhere neither nor without cannot can't don't doesn't didn't isn't aren't "
    "wasn't weren't won't wouldn't shouldn't couldn't haven't hasn't".split()
)
_HEDGES = frozenset(
    "may might could can some many most often sometimes usually generally typically probably likely possibly depends "
    "unclear unknown unlikely disagree varies various different opinion believe".split()
)

Tokens = Callable[[str, str], Iterator[str]]
"""The tokens of a question and an answer."""


def form(question: str, answer: str) -> Iterator[str]:
    """How the answer is built: its length, its end, whether it negates, hedges, and says the question again."""
    asked, said = _words(question), _words(answer)
    new, known = set(said) - set(asked), set(said) & set(asked)
    yield f"form words {_size(len(said))}"
    yield f"form new {_size(len(new))}"
    yield f"form asked {_size(len(asked))}"
    yield f"form known {_share(len(known), len(set(said)))}"
    yield f"form covered {_share(len(known), len(set(asked)))}"
    yield f"form ends {answer.rstrip()[-1:]}"
    yield f"form sentences {min(answer.count('.'), 3)}"
    for name, words in (("negates", _NEGATIONS), ("hedges", _HEDGES), ("I", {"i", "my", "we"})):
        yield f"form {name} {not words.isdisjoint(said)} {not words.isdisjoint(asked)}"
    yield f"form digits {_has_digit(answer)} {_has_digit(question)}"
    yield f"form capital {answer[:1].isupper()}"
    yield f"form names {_size(sum(map(str.isupper, answer[1:])))}"


def words(_: str, answer: str) -> Iterator[str]:
    """The answer's runs of one to three words and marks."""
    said = [mark.lower() for mark in _MARKS.findall(answer)]
    return (f"said {run}" for run in _runs(["^", *said, "$"], 3))


def question(question: str, answer: str) -> Iterator[str]:
    """The question's words, what of the answer is new, and which answers begin how after which questions."""
    asked, said = _words(question), _words(answer)
    known, negated = frozenset(asked), not _NEGATIONS.isdisjoint(said)
    yield from (f"asked {run}" for run in _runs(asked, 2))
    yield from (f"told {run}" for run in _runs([f"={word}" if word in known else word for word in said], 2))
    yield from (f"after {word} {negated}" for word in sorted(known))
    for first in (1, 2):
        for begin in (1, 2):
            yield f"begins {' '.join(asked[:first])} | {' '.join(said[:begin])}"


FEATURES: Mapping[str, Sequence[Tokens]] = {
    "form": (form,),
    "words": (words,),
    "form+words": (form, words),
    "form+words+question": (form, words, question),
}
"""From the name of a set of features to the kinds of tokens in it."""


def tokens_of(features: str, question: str, answer: str) -> list[str]:
    """All tokens of one set of features, some of them more than once."""
    return list(chain.from_iterable(kind(question, answer) for kind in FEATURES[features]))


def _words(text: str) -> list[str]:
    return [word.lower().replace("’", "'") for word in _WORD.findall(text)]  # noqa: RUF001


def _runs(words: Sequence[str], longest: int) -> Iterator[str]:
    for size in range(1, longest + 1):
        for start in range(len(words) - size + 1):
            yield " ".join(words[start : start + size])


def _size(count: int) -> int:
    """A count on a scale that doubles."""
    return count.bit_length()


def _share(part: int, whole: int) -> int:
    """A share in fifths."""
    return 5 * part // whole if whole else -1


def _has_digit(text: str) -> bool:
    return any(map(str.isdigit, text))
