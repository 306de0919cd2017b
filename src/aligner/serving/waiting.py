"""The rows that wait to be written."""

from collections import deque
from collections.abc import Sequence

from aligner.serving.logged import Logged


class Waiting:
    """A queue of bounded length and bounded size in characters; what is too much is dropped, the oldest rows first."""

    def __init__(self, rows: int, characters: int) -> None:
        self._most_rows = rows
        self._most_characters = characters
        self._rows: deque[Logged] = deque()
        self._characters = 0
        self.dropped = 0
        """how many rows were dropped up to now"""

    def __len__(self) -> int:
        return len(self._rows)

    def add(self, row: Logged) -> None:
        """Let a new row wait."""
        self._rows.append(row)
        self._characters += row.size
        self._drop_excess()

    def take(self, count: int) -> Sequence[Logged]:
        """Take at most so many of the oldest rows."""
        rows = [self._rows.popleft() for _ in range(min(count, len(self._rows)))]
        self._characters -= sum(row.size for row in rows)
        return rows

    def put_back(self, rows: Sequence[Logged]) -> None:
        """Let rows that were taken wait again, in front of all others."""
        self._rows.extendleft(reversed(rows))
        self._characters += sum(row.size for row in rows)
        self._drop_excess()

    def drop_all(self) -> int:
        """Drop what is left, and give its number."""
        left = len(self.take(len(self)))
        self.dropped += left
        return left

    def _drop_excess(self) -> None:
        while len(self._rows) > self._most_rows or self._characters > self._most_characters:
            self.dropped += len(self.take(1))
