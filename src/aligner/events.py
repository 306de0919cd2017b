"""Server-sent events, as OpenAI-compatible servers stream them."""

import re

_LINE_END = re.compile(rb"\r\n|\r|\n")
_MARK = b"\xef\xbb\xbf"


class EventReader:
    """Makes the data of each event out of bytes that come in any chunks; the WHATWG rules, but for names and ids.

    A last event is given out by `rest` even if no empty line ends it, since some servers leave that out.
    """

    def __init__(self) -> None:
        self._bytes = b""
        self._data: list[str] = []
        self._started = False

    def add(self, chunk: bytes) -> list[str]:
        """The data of the events that this chunk completes."""
        self._bytes += chunk
        # A carriage return at the very end may be the first half of a line end.
        whole = self._bytes[:-1] if self._bytes.endswith(b"\r") else self._bytes
        *lines, last = _LINE_END.split(whole)
        self._bytes = last + self._bytes[len(whole) :]
        return [data for line in lines for data in self._line(line)]

    def rest(self) -> list[str]:
        """The data of the event that the end of the bytes completes, if any."""
        lines = [*_LINE_END.split(self._bytes), b""]
        self._bytes = b""
        return [data for line in lines for data in self._line(line)]

    def _line(self, line: bytes) -> list[str]:
        """Take a line; an empty one ends an event."""
        if not self._started:
            line, self._started = line.removeprefix(_MARK), True
        if not line:
            data, self._data = self._data, []
            return ["\n".join(data)] if data else []
        name, _, value = line.partition(b":")
        if name == b"data":
            self._data.append(value.removeprefix(b" ").decode("utf-8", errors="replace"))
        return []
