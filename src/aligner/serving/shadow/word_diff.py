"""A correction as a word diff that can be shown anywhere: cut where nothing happens, and with no sign that acts."""

import re
from collections.abc import Iterator, Sequence
from typing import Literal, NamedTuple

from aligner.errors import visible
from aligner.scoring.edits import edits_between

_CONTEXT = 160
"""characters that are shown around a change"""
_LONGEST = 1_200
"""characters of one change that are shown"""
_ACTING = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u00ad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ud800-\udfff\ufeff"
    "\ufff9-\ufffb\U000e0000-\U000e007f]"
)
"""control characters, those that turn the direction of writing, those that nobody sees, and half letters"""


class Piece(NamedTuple):
    """Some of a diff."""

    kind: Literal["same", "gone", "new", "cut"]
    """cut: what stands for characters that are not shown"""
    text: str


def shown(text: str) -> str:
    """A text in which every sign that acts, and is not seen, stands as a picture of it or as its number."""
    return _ACTING.sub(lambda match: visible(match[0]) if match[0] < "\x80" else f"⟦U+{ord(match[0]):04X}⟧", text)


def pieces_of(answer: str, correction: str) -> list[Piece]:
    """The answer with what went and what came, ready to be shown."""
    whole = [piece for piece in _whole(answer, correction) if piece.text]
    return [Piece(piece.kind, shown(piece.text)) for piece in _short(whole)]


def _whole(answer: str, correction: str) -> Iterator[Piece]:
    position = 0
    for start, end, text in edits_between(answer, correction):
        yield Piece("same", answer[position:start])
        yield Piece("gone", answer[start:end])
        yield Piece("new", text)
        position = end
    yield Piece("same", answer[position:])


def _short(pieces: Sequence[Piece]) -> Iterator[Piece]:
    """The pieces without the middle of what is long; at the ends, only what is next to a change is shown."""
    for number, piece in enumerate(pieces):
        if piece.kind == "same":
            is_last = number == len(pieces) - 1
            yield from _without_middle(piece, _CONTEXT if number else 0, 0 if is_last else _CONTEXT)
        else:
            yield from _without_middle(piece, _LONGEST, 0)


def _without_middle(piece: Piece, before: int, after: int) -> Iterator[Piece]:
    text, left_out = piece.text, len(piece.text) - before - after
    if left_out <= _CONTEXT:
        yield piece
        return
    if before:
        yield Piece(piece.kind, text[:before])
    yield Piece("cut", f" … {left_out:,} characters … ")
    if after:
        yield Piece(piece.kind, text[-after:])
