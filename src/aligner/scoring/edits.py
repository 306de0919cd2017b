"""What a correction changed, word by word."""

import re
from typing import NamedTuple

from rapidfuzz.distance import Indel

from aligner.records import Edit

_WORD = re.compile(r"\w+|\s+|[^\w\s]")


class _Span(NamedTuple):
    src_start: int
    src_end: int
    dest_start: int
    dest_end: int


def edits_between(answer: str, text: str) -> tuple[Edit, ...]:
    """The edits, in characters of the answer, that make the text of it; whole words are replaced."""
    old, new = _WORD.findall(answer), _WORD.findall(text)
    starts, targets = _starts(old), _starts(new)
    return tuple(
        Edit(starts[code.src_start], starts[code.src_end], text[targets[code.dest_start] : targets[code.dest_end]])
        for code in _merged(old, new)
    )


def _merged(old: list[str], new: list[str]) -> list[_Span]:
    """The changed spans; a deletion and an insertion that touch are one replacement."""
    spans: list[_Span] = []
    for code in Indel.opcodes(old, new):
        if code.tag == "equal":
            continue
        if spans and spans[-1].src_end == code.src_start and spans[-1].dest_end == code.dest_start:
            spans[-1] = _Span(spans[-1].src_start, code.src_end, spans[-1].dest_start, code.dest_end)
        else:
            spans.append(_Span(code.src_start, code.src_end, code.dest_start, code.dest_end))
    return spans


def _starts(words: list[str]) -> list[int]:
    """Where each word begins, and where the last one ends."""
    starts = [0]
    for word in words:
        starts.append(starts[-1] + len(word))
    return starts
