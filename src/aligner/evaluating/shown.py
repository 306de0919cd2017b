"""Texts of models as a report shows them: all of them can be read, and nothing in them acts."""

import re
from collections.abc import Iterator
from typing import NamedTuple

from markupsafe import Markup
from rapidfuzz.distance import Postfix, Prefix

from aligner.records import Edit, Question, as_messages
from aligner.scoring.edits import edits_between

_HIDDEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u00ad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff"
    "\ufff9-\ufffb\U000e0000-\U000e0fff\ud800-\udfff]"
)
"""characters without a picture, and those that turn the direction of a text about"""
_BLANK = re.compile("[\\s\u200c\u200d]*")
_BLANKS = str.maketrans({" ": "␣", "\t": "⇥", "\n": "⏎\n", "\u200c": "⟦U+200C⟧", "\u200d": "⟦U+200D⟧"})
_WHOLE = 20_000
"""characters of changed text up to which it is compared word by word"""
_AROUND = 240
"""unchanged characters that are shown on each side of a change"""
_CHANGE = 1500
"""characters of one change that are shown"""
_DIFF = 5000
"""characters of a whole diff that are shown"""


_TAGS = {
    "same": Markup("{}"),
    "gap": Markup("<i>{}</i>"),
    "del": Markup("<del>{}</del>"),
    "ins": Markup("<ins>{}</ins>"),
}


class Part(NamedTuple):
    """A piece of a diff: what is the `same`, what went (`del`), what came (`ins`), and what is left out (`gap`)."""

    kind: str
    text: str


def visible(text: str) -> str:
    """A text with numbers in the place of hidden characters, but for tabs and line ends."""
    return _HIDDEN.sub(_number, text)


def cut(text: str, longest: int) -> str:
    """A visible text of about so many characters, which says how much is left out."""
    shown = visible(text)
    if len(shown) <= longest:
        return shown
    return f"{shown[:longest]} … ({len(shown) - longest:,} more characters)"


def asked(question: Question, longest: int) -> str:
    """A question as one visible text, the turns of a conversation under the names of their roles."""
    if isinstance(question, str):
        return cut(question, longest)
    return cut("\n".join(f"{turn.role}: {turn.content}" for turn in as_messages(question)), longest)


def parts(answer: str, correction: str) -> list[Part]:
    """The word diff of two texts: same and del make the answer, same and ins the correction."""
    found, position = list[Part](), 0
    for start, end, text in _joined(answer, _edits(answer, correction)):
        found += Part("same", answer[position:start]), Part("del", answer[start:end]), Part("ins", text)
        position = end
    return [part for part in (*found, Part("same", answer[position:])) if part.text]


def diff(answer: str, correction: str) -> Markup:
    """The word diff as HTML, visible, its long parts cut."""
    return Markup("").join(map(_markup, _within(_DIFF, _shortened(parts(answer, correction)))))


def _number(match: re.Match[str]) -> str:
    return f"⟦U+{ord(match[0]):04X}⟧"


def _edits(answer: str, correction: str) -> tuple[Edit, ...]:
    """The edits; of texts whose comparison would take long, one edit between what they have in common."""
    if max(len(answer), len(correction)) <= _WHOLE:
        return edits_between(answer, correction)
    start = Prefix.similarity(answer, correction)
    tail = Postfix.similarity(answer[start:], correction[start:])
    return (Edit(start, len(answer) - tail, correction[start : len(correction) - tail]),)


def _joined(answer: str, edits: tuple[Edit, ...]) -> list[Edit]:
    """Edits between which there is nothing but spaces are one: that reads better."""
    found: list[Edit] = []
    for edit in edits:
        between = answer[found[-1].end : edit.start] if found else "\n"
        if between.strip() or "\n" in between:
            found.append(edit)
        else:
            found[-1] = Edit(found[-1].start, edit.end, found[-1].text + between + edit.text)
    return found


def _shortened(whole: list[Part]) -> Iterator[Part]:
    for place, (kind, text) in enumerate(whole):
        if kind != "same":
            blank = _BLANK.fullmatch(text)
            yield Part(kind, cut(text.translate(_BLANKS) if blank else text, _CHANGE))
        elif len(whole) > 1 and len(text) > 3 * _AROUND:
            yield Part("same", visible(text[:_AROUND] if place else ""))
            yield Part("gap", f" … {len(text) - _AROUND * (2 if 0 < place < len(whole) - 1 else 1):,} the same … ")
            yield Part("same", visible(text[-_AROUND:] if place < len(whole) - 1 else ""))
        else:
            yield Part("same", visible(text))


def _within(longest: int, found: Iterator[Part]) -> Iterator[Part]:
    left = longest
    for kind, text in found:
        if left <= 0:
            yield Part("gap", " … and more")
            return
        yield Part(kind, cut(text, left))
        left -= len(text)


def _markup(part: Part) -> Markup:
    return _TAGS[part.kind].format(part.text) if part.text else Markup("")
