"""Rows under which a process died: tried alone, and given up when they end another one."""

from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import cast

import orjson

from aligner.files.output import write_json_atomic

CAREFUL_FROM = 2
"""deaths of a part in one run, from which on its rows are tried one by one; machines fail, too"""
_GIVEN_UP = 2
"""deaths under one row that was alone"""


class Suspects:
    """How often a process died while it had only this row of a part; kept in a file, since no process can tell it.

    A count that did not suffice is forgotten by a run whose part has seen no death: it may have been a `kill -9`.
    Without a file there are none.
    """

    def __init__(self, path: Path | None = None, *, deaths: int = 0) -> None:
        self._path = path
        self.careful = path is not None and deaths >= CAREFUL_FROM
        found = _load(path) if path else {}
        self._deaths = found if deaths else {line: count for line, count in found.items() if count >= _GIVEN_UP}

    def is_given_up(self, line: int) -> bool:
        """Whether the row in that line is not to be tried again."""
        return self._deaths.get(line, 0) >= _GIVEN_UP

    @contextmanager
    def trying(self, line: int) -> Generator[None]:
        """Try the row in that line: if the process ends within, the row has one more death."""
        before = self._deaths.get(line, 0)
        self._save(line, before + 1)
        yield
        self._save(line, before)

    def _save(self, line: int, count: int) -> None:
        self._deaths[line] = count
        if self._path is None:
            return
        write_json_atomic(self._path, {str(key): value for key, value in self._deaths.items() if value})


def given_up(path: Path | None) -> int:
    """How many rows were given up; none without a file."""
    return sum(count >= _GIVEN_UP for count in _load(path).values()) if path else 0


def _load(path: Path) -> dict[int, int]:
    try:
        found = cast(dict[str, int], orjson.loads(path.read_bytes()))
    except FileNotFoundError:
        return {}
    return {int(line): count for line, count in found.items()}
