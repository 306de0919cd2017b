"""Where the parts of a file of rows begin and end."""

from collections.abc import Iterable, Iterator, Mapping
from itertools import islice, pairwise, takewhile
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple, TypeVar

from aligner.errors import MisuseError
from aligner.files.bad_rows import BadRow
from aligner.files.paths import is_stream, kind_of
from aligner.files.reading import Parsed, Place, line_starts

T = TypeVar("T")

_KINDS = (".jsonl", ".jsonl.gz", ".ndjson", ".ndjson.gz", ".parquet")
"""files whose rows are found again by their lines; a .json list may have many rows in one line"""
_WINDOWS = 16
"""windows in a part, unless the number of parts is given"""


class LeaveOut:
    """What becomes of bad rows while places are looked for: nothing."""

    reasons: Mapping[str, int] = MappingProxyType({})

    def __call__(self, row: BadRow, /) -> None:
        """Whoever reads the part sees it again."""

    def finish(self) -> None:
        """Nothing was written down."""


class Slice(NamedTuple):
    """Some rows of a file, one behind the other; bad ones between them belong to it, too."""

    begin: Place
    end: int
    """the line at which the next one begins; 0 for the last"""
    rows: int
    """that can be used"""

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to read; a part may also have bad rows alone."""
        return self.begin.line == self.end

    def of(self, rows: Iterator[Parsed[T]]) -> Iterator[Parsed[T]]:
        """What belongs to it of the usable rows from its place on; no more of them are read than one."""
        if self.is_empty:
            return iter(())
        return takewhile(lambda parsed: parsed.row.line < self.end, rows) if self.end else rows


def shard_of(text: str) -> tuple[int, int]:
    """`i/N` as the number of a part, from 0, and the number of parts; raises MisuseError for anything else."""
    number, slash, count = text.partition("/")
    if not (slash and number.isdecimal() and count.isdecimal() and int(number) < int(count)):
        raise MisuseError(f'--shard is i/N with i from 0 to N-1, as in "--shard 3/64", and not "{text}"')
    return int(number), int(count)


def check_cuttable(path: Path) -> None:
    """Raises MisuseError for what cannot be read in parts."""
    if is_stream(path):
        raise MisuseError(f"{path}: a stream cannot be read in parts: name a file")
    if path.name.lower().endswith((".json", ".json.gz")):
        raise MisuseError(f"{path}: a .json file is read whole, and not in parts: write it as JSONL or Parquet")
    kind_of(path, _KINDS)


def cut(path: Path, lines: Iterable[int], *, window: int, parts: int = 0) -> list[Slice]:
    """Cut a file into parts of whole windows, so that no window is another one than in a single run.

    `lines` are those of the usable rows, ascending; `window` rows are worked on together. `parts` is the number of
    parts, some of them empty where there are fewer windows; 0 makes one of each 16 windows, and one where there are no
    rows. The parts of a file depend on nothing else.
    """
    begins: list[int] = []
    rows = 0
    for line in lines:
        if rows % window == 0:
            begins.append(line)
        rows += 1
    count = parts or max(-(-len(begins) // _WINDOWS), 1)
    edges = [len(begins) * i // count for i in range(count + 1)]
    # The rows before the first good one belong to the first part, and those behind the last to the last.
    wanted = [1 if edge == 0 else begins[edge] if edge < len(begins) else 0 for edge in edges]
    places = _places(path, wanted[:-1])
    sizes = [min(b * window, rows) - min(a * window, rows) for a, b in pairwise(edges)]
    ends = [*wanted[1:-1], 0]
    return [Slice(begin, end, size) for begin, end, size in zip(places, ends, sizes, strict=True)]


def _places(path: Path, lines: Iterable[int]) -> Iterator[Place]:
    """Ascending lines as places, with their bytes where the file can be read from there on."""
    starts, passed, byte = line_starts(path), 0, 0
    for line in lines:
        if line > passed:
            byte, passed = next(islice(starts, line - passed - 1, None), 0), line
        yield Place(line, byte)
