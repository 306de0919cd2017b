"""The letter on which an answer to a multiple-choice question settles; imports nothing but the standard library."""

import re
from collections.abc import Sequence

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"

_WRAP = r"(?:[\s*_`\"'([{<$]|\\boxed\{|\\text(?:bf)?\{|\\\(|\b(?:option|choice|letter|answer|the)\b){0,16}"
_END = r"(?![\w'\u2019])"
_VERB = r"(?:is|are|was|:|=|->|(?:would|should|must|has to) be|becomes)"
_THAT = r"\b(?:it|that|this)(?:\s+is|['\u2019]s|\s+(?:must|should|has to) be)(?: actually| really| therefore)?"
_CHOOSE = r"\b(?:choose|chose|select|pick|go(?:ing)? with|settle on|stick with|switch to|conclude(?: that it is)?)"
_ANSWER = rf"\b(?:answer|choice|option|letter|solution)\b(?: here| above| to this(?: question)?)?\W{{0,3}}\s*{_VERB}"
_HEDGE = r"(?:\s{0,9}(?:most likely|probably|clearly|definitely|therefore|thus|indeed|actually|now|:)){0,4}"
# As in: the answer is (B); Answer: **B**; it's B; I would go with B; \boxed{B}
_SAID = rf"(?:{_ANSWER}|{_THAT}|{_CHOOSE}|\\boxed\{{){_HEDGE}{_WRAP}(LETTER){_END}"
# As in: B is correct; option (B) is the best answer
_CALLED = (
    r"(?<![\w'\u2019])(LETTER)[)\]}*_`\"'.$]*\s+(?:is|seems|looks|must be)(?: therefore| thus| indeed| also)?"
    r"(?: the)?(?: only| single| most)? (?:correct|right|best|accurate|appropriate|true|answer)\b"
)
_ALONE = r"^[ \t*_#>`\"'(\[{$\\]{0,16}(LETTER)[)\]}.:*_`\"'$]*[ \t\r]*$"
_HEADING = r"^[ \t*_#>`\"'(\[]{0,16}(LETTER)(?:[)\].:]|[ \t]?-)[*_`\"']{0,9}[ \t]+\S"
_BRACKETED = r"[(\[*]{1,3}(LETTER)[)\]*]{1,3}"
_BARE = r"(?<![\w'\u2019.])(LETTER)(?![\w'\u2019]|\s+[a-z])"


def letter_of(answer: str, choices: Sequence[str]) -> str:
    """The letter that the answer gives last, in the clearest of several forms, or "" without one.

    A plain statement ("the answer is B", "B is correct") counts more than a letter on a line of its own, that more
    than one that begins a line, and so on down to the text of exactly one choice.
    """
    letters = LETTERS[: len(choices)]
    return (
        _stated(answer, letters)
        or _last(_ALONE, answer, letters)
        or _heading(answer, letters)
        or _last(_BRACKETED, answer, letters)
        or _last(_BARE, answer, letters)
        or _named(answer, choices)
    )


def _stated(answer: str, letters: str) -> str:
    """The last plain statement; a small letter counts only where no article could be meant."""
    places: list[tuple[int, str]] = []
    for form in (_SAID, _CALLED):
        for match in re.finditer(form.replace("LETTER", f"[{letters}]"), answer, re.IGNORECASE):
            letter = match[1]
            if letter.isupper() or re.match(r"[)\]}*.,;!]|\s*$|\s*\n", answer[match.end(1) :]):
                places.append((match.start(1), letter.upper()))
    return max(places)[1] if places else ""


def _last(form: str, answer: str, letters: str) -> str:
    found = _all(form, answer, letters)
    return found[-1] if found else ""


def _heading(answer: str, letters: str) -> str:
    """Several lines that begin with different letters are the choices said again, and settle nothing."""
    found = set(_all(_HEADING, answer, letters))
    return found.pop() if len(found) == 1 else ""


def _all(form: str, answer: str, letters: str) -> list[str]:
    return [match[1] for match in re.finditer(form.replace("LETTER", f"[{letters}]"), answer, re.MULTILINE)]


def _named(answer: str, choices: Sequence[str]) -> str:
    """The letter of the only choice whose words stand in the answer."""
    said = f" {_words(answer)} "
    named = [letter for letter, choice in zip(LETTERS, choices, strict=False) if f" {_words(choice)} " in said]
    return named[0] if len(named) == 1 else ""


def _words(text: str) -> str:
    return " ".join(re.findall(r"[\w.]*\w", text.casefold()))
