"""What a correction changed, word by word."""

import re
from collections.abc import Iterator
from typing import NamedTuple

from rapidfuzz.distance import Indel

from aligner.records import Edit

_WORD = re.compile(r"\w+|\s+|[^\w\s]")
_SENTENCE = re.compile(r"[^.!?\n]+[.!?\n]*|[.!?\n]+")
_MOST = 2 * 10**8
"""pairs of words that are compared: some 25 MB and 20 ms"""


class _Span(NamedTuple):
    src_start: int
    src_end: int
    dest_start: int
    dest_end: int


def edits_between(answer: str, text: str, *, most: int = _MOST) -> tuple[Edit, ...]:
    """The edits, in characters of the answer, that make the text of it; whole words are replaced.

    Of texts so long and so different that more than `most` pairs of words would have to be compared, first whole
    sentences are, and then the words of those that differ.
    """
    old, new = _WORD.findall(answer), _WORD.findall(text)
    if _pairs(old, new) <= most:
        return tuple(_replaced(old, new))
    sentences = _SENTENCE.findall(answer), _SENTENCE.findall(text)
    if _pairs(*sentences) > most:
        return tuple(_middle(old, new))
    return tuple(finer for edit in _replaced(*sentences) for finer in _within(answer, edit, most))


def _within(answer: str, edit: Edit, most: int) -> Iterator[Edit]:
    """An edit of whole sentences as edits of their words, or of all that differs where those are too many."""
    old, new = _WORD.findall(answer[edit.start : edit.end]), _WORD.findall(edit.text)
    found = _replaced(old, new) if _pairs(old, new) <= most else _middle(old, new)
    return (Edit(edit.start + start, edit.start + end, text) for start, end, text in found)


def _replaced(old: list[str], new: list[str]) -> Iterator[Edit]:
    starts = _starts(old)
    for span in _merged(old, new):
        text = "".join(new[span.dest_start : span.dest_end])
        yield Edit(starts[span.src_start], starts[span.src_end], text)


def _middle(old: list[str], new: list[str]) -> Iterator[Edit]:
    """One edit for all that is between the common beginning and the common end."""
    begin, end = _shared(old, new)
    starts = _starts(old)
    yield Edit(starts[begin], starts[len(old) - end], "".join(new[begin : len(new) - end]))


def _pairs(old: list[str], new: list[str]) -> int:
    """How many pairs have to be compared."""
    shared = sum(_shared(old, new))
    return (len(old) - shared) * (len(new) - shared)


def _shared(old: list[str], new: list[str]) -> tuple[int, int]:
    """How many pieces both begin with, and how many of the others they end with."""
    most = min(len(old), len(new))
    begin = next((i for i, pair in enumerate(zip(old, new, strict=False)) if pair[0] != pair[1]), most)
    ends = zip(reversed(old), reversed(new), strict=False)
    end = next((i for i, pair in enumerate(ends) if pair[0] != pair[1]), most)
    return begin, min(end, most - begin)


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
