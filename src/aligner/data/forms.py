"""What is wrong with the form of a text by itself: each function says what, or None."""

import re
import zlib

from aligner.data.languages import words

_CONTROL = re.compile(r"[\x00-\x08\x0b\x0e-\x1f\x7f]")
_LEAST_LOOP = 12
"""words"""
_LONGEST_UNIT = 60
"""words that are repeated"""
_LEAST_REPEATS = 4
_LEAST_SQUEEZED = 800
"""bytes"""
_SQUEEZED = 0.08
"""of its bytes that a text of nothing but repetition is squeezed to, at most"""


def broken(text: str) -> str | None:
    """Half a surrogate pair, control characters, or characters that were lost in another encoding."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return "half a surrogate pair"
    if match := _CONTROL.search(text):
        return f"control character U+{ord(match[0]):04X}"
    return "replacement characters" if "\ufffd" in text else None


def repetition(text: str) -> str | None:
    """A text that ends in a loop of four rounds or more, or that is nearly nothing but repetition."""
    found = words(text)
    size = _loop(found[::-1][: _LONGEST_UNIT * _LEAST_REPEATS])
    if size:
        return f'ends in a loop of "{" ".join(found[-size:])[:60]}"'
    data = text.encode("utf-8", "replace")
    if len(data) < _LEAST_SQUEEZED:
        return None
    share = len(zlib.compress(data, 1)) / len(data)
    return f"squeezed to {share:.1%}" if share < _SQUEEZED else None


def _loop(backwards: list[str]) -> int:
    """How many words are said again and again at the start of a list, or 0."""
    for size in range(1, _LONGEST_UNIT + 1):
        length = size * max(_LEAST_REPEATS, -(-_LEAST_LOOP // size))
        if length > len(backwards):
            continue
        unit = backwards[:size]
        # Figures in a row are a table more often than a loop.
        if backwards[:length] == unit * (length // size) and not all(map(str.isdigit, unit)):
            return size
    return 0


_FENCE = re.compile(r"^[ \t]{0,12}(`{3,}|~{3,})([^\n`]*)$", re.MULTILINE)


def code_fences(text: str) -> str | None:
    """A block of code that is not closed, or closed twice."""
    opened = ""
    for fence, info in _FENCE.findall(text):
        if not opened:
            opened = fence
        elif fence[0] == opened[0] and len(fence) >= len(opened) and not info.strip():
            opened = ""
    return f'"{opened}" is not closed' if opened else None
