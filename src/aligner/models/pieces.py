"""Text that comes piece by piece; whatever the pieces, they add up to the text."""

import re
from collections.abc import Callable, Iterator, Sequence

_WORD = re.compile(r"\S+\s*|\s+")


def words(text: str) -> Iterator[str]:
    """A text word by word, each with the white space after it."""
    return (match.group() for match in _WORD.finditer(text))


class TokenText:
    """Turns token ids into text as they come, and gives out no half of a character."""

    def __init__(self, decode: Callable[[list[int]], str]) -> None:
        self._decode = decode
        self._ids: list[int] = []
        self._shown = 0
        """how many of the ids have been given out as text; the ids before them are context for tokens that need it"""

    def add(self, *tokens: int) -> str:
        """The text that these tokens complete, often of these alone; many at once are far cheaper than one by one."""
        self._ids += tokens
        before, text = self._decode(self._ids[: self._shown]), self._decode(self._ids)
        # An unfinished character decodes as U+FFFD.
        if len(text) <= len(before) or text.endswith("\ufffd"):
            return ""
        self._ids, self._shown = self._ids[self._shown :], len(self._ids) - self._shown
        return text[len(before) :]

    def rest(self) -> str:
        """What is left at the end."""
        before, text = self._decode(self._ids[: self._shown]), self._decode(self._ids)
        self._ids, self._shown = [], 0
        return text[len(before) :]


class StopCutter:
    """Ends a text before the first stop string, and holds back what may be the beginning of one."""

    def __init__(self, stop: Sequence[str]) -> None:
        self._stop = [text for text in stop if text]
        self._held = ""
        self.stopped = False
        """whether a stop string was met; nothing is given out after it"""

    def add(self, piece: str) -> str:
        """What can be given out of the text so far."""
        if self.stopped:
            return ""
        text = self._held + piece
        ends = [(place + len(stop), place) for stop in self._stop if (place := text.find(stop)) >= 0]
        self.stopped = bool(ends)
        # The stop string that is whole first counts, so that it does not matter how the text is cut into pieces.
        cut = min(ends)[1] if ends else len(text) - self._overlap(text)
        self._held = "" if self.stopped else text[cut:]
        return text[:cut]

    def rest(self) -> str:
        """What was held back, when the text ends without a stop string."""
        held, self._held = self._held, ""
        return held

    def _overlap(self, text: str) -> int:
        """The length of the longest end of the text that begins a stop string."""
        longest = min(max(map(len, self._stop), default=1) - 1, len(text))
        ends = (size for size in range(longest, 0, -1) if any(s.startswith(text[-size:]) for s in self._stop))
        return next(ends, 0)
