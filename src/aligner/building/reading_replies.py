"""Replies of annotators: a verdict as a JSON object, a text in brackets, or a text alone."""

import json
import re
from itertools import accumulate
from typing import NamedTuple, cast

from aligner.building.loose_json import Fields, objects_in
from aligner.building.nouns import Choice

_FENCE = "```"
_BRACKETS = re.compile(r"Edited Answer:[\s*_]*\[\[", re.IGNORECASE)
_BARE_BRACKETS = re.compile(r"""^[\s*_"`]*+\[\[""", re.MULTILINE)
"""without the label, at the start of a line"""
_LABEL = re.compile(r"\s*(?:Edited Version(?: \(by you\))?|Edited Answer|Your Revision|Revision):", re.IGNORECASE)
NO_CORRECTION = 'it says "edit" and gives no correction'


class Verdict(NamedTuple):
    """What a reply says, before it is held against the answer."""

    choice: Choice
    reasons: tuple[str, ...]
    correction: str

    def as_json(self) -> str:
        """The object of our own prompt; half a surrogate, which no file can hold, is escaped."""
        fields = {"verdict": self.choice, "reasons": self.reasons, "correction": self.correction}
        plain = json.dumps(fields, ensure_ascii=False)
        return plain if is_whole(plain) else json.dumps(fields)


def verdict_in(said: str, _: str) -> Verdict | str:
    """The one verdict in a reply, or why there is none; the same one said twice is one."""
    read = [_verdict(fields) for fields in objects_in(said)]
    if not read:
        return "it holds no complete JSON object with a verdict"
    if problem := next((each for each in read if isinstance(each, str)), None):
        return problem
    return read[0] if len(set(read)) == 1 else "it holds more than one verdict"


def text_in_brackets(said: str, answer: str) -> Verdict | str:
    """The text in `Edited Answer: [[…]]`, or why there is none.

    Brackets of its own may stand in it where each is closed, or where the answer has the same ones. Without the label
    it is taken where it is the only one, begins a line, and ends the reply.
    """
    marks = list(_BRACKETS.finditer(said)) or list(_BARE_BRACKETS.finditer(said))
    if len(marks) != 1:
        return "it has more than one text in brackets" if marks else "it has no text in the brackets"
    rest = said[marks[0].end() :].rstrip(' \t\r\n.*_`"')
    if not _BRACKETS.match(marks[0][0]) and not rest.endswith("]]"):
        return "it has no text in the brackets"
    if "]]" not in rest:
        return "its brackets are not closed"
    if not rest.endswith("]]") and rest.count("]]") > 1:
        return "it does not end with the brackets, so that the end of the correction is not clear"
    text = rest[: rest.rindex("]]")].strip()
    if not (_closes_its_brackets(text) or _brackets(text) == _brackets(answer)):
        return "it has brackets inside the brackets, so that the end of the correction is not clear"
    return "it repeats the form and gives no correction" if text == "Your correction" else Verdict("edit", (), text)


def text_alone(said: str, answer: str) -> Verdict | str:
    """The whole reply, without a code fence around it and the name of its part, unless the answer has these too."""
    text = said if _inside_fence(answer) is not None else _inside_fence(said) or said
    label = _LABEL.match(text)
    return Verdict("edit", (), (text[label.end() :] if label and not _LABEL.match(answer) else text).strip())


def is_whole(text: str) -> bool:
    """Whether a text has no half of a surrogate, which no file can hold."""
    return not any("\ud800" <= letter <= "\udfff" for letter in text)


def _closes_its_brackets(text: str) -> bool:
    """Whether a text has no double brackets, or none of its brackets is left open or closed too often."""
    if "[[" not in text and "]]" not in text:
        return True
    depths = list(accumulate(1 if bracket == "[" else -1 for bracket in _brackets(text)))
    return min(depths) >= 0 and depths[-1] == 0


def _brackets(text: str) -> list[str]:
    return [letter for letter in text if letter in "[]"]


def _inside_fence(text: str) -> str | None:
    """What stands in the one code fence around a whole text."""
    bare = text.strip()
    _, line_end, inside = bare.removesuffix(_FENCE).partition("\n")
    fenced = bare.startswith(_FENCE) and bare.endswith(_FENCE) and line_end
    return inside if fenced and _FENCE not in inside else None


def _verdict(fields: Fields) -> Verdict | str:
    named = {name.strip().lower(): value for name, value in fields.items()}
    if set(named) - {"verdict", "reasons", "correction"} or len(named) < len(fields):
        return "its object has other fields than those that were asked for"
    choice, text = named.get("verdict"), named.get("correction")
    choice = choice.strip().lower() if isinstance(choice, str) else None
    if choice not in {"keep", "edit"}:
        return 'its verdict is neither "keep" nor "edit"'
    if text is not None and not isinstance(text, str):
        return "its correction is no text"
    if choice == "edit" and text is None:
        return NO_CORRECTION
    return Verdict(cast("Choice", choice), _reasons(named.get("reasons")), text or "")


def _reasons(said: object) -> tuple[str, ...]:
    items = cast("list[object]", said) if isinstance(said, list) else [said]
    return tuple(item.strip() for item in items if isinstance(item, str) and item.strip())
