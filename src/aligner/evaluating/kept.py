"""Findings that are kept at once, so that nothing is asked twice: JSON lines under the keys of what was asked."""

import hashlib
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

import orjson

from aligner.errors import InputFileError


class Kept:
    """A file of findings by key; used as `with`, it is open for more, and what was put is never lost to a kill.

    A line that a kill cut off is dropped. Raises InputFileError for a file that holds something else.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._found: dict[str, Any] = {}
        self._file: IO[bytes] | None = None

    def __enter__(self) -> Self:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        # What models said of private tasks stands here, too.
        self._file = os.fdopen(os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600), "a+b")
        try:
            self._file.truncate(self._load(self._file))
        except BaseException:
            self._file.close()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, _: BaseException | None, __: TracebackType | None) -> None:
        if self._file is not None:
            self._file.close()

    def __contains__(self, key: str) -> bool:
        return key in self._found

    def __getitem__(self, key: str) -> Any:
        return self._found[key]

    def put(self, found: Iterable[tuple[str, Mapping[str, Any]]]) -> None:
        """Keep findings; they are in the file when this returns."""
        if self._file is None:
            raise ValueError("findings are put within `with kept:`")
        new = dict(found)
        self._found.update(new)
        self._file.write(b"".join(orjson.dumps({"key": key, **value}) + b"\n" for key, value in new.items()))
        self._file.flush()

    def _load(self, file: IO[bytes]) -> int:
        """Read what was found before, and give the bytes of whole lines."""
        whole = file.seek(0)
        for number, line in enumerate(file, 1):
            if not line.endswith(b"\n"):
                break
            self._found.update([self._read(number, line)])
            whole += len(line)
        return whole

    def _read(self, number: int, line: bytes) -> tuple[str, Any]:
        try:
            row = orjson.loads(line)
            return row.pop("key"), row
        except (orjson.JSONDecodeError, AttributeError, KeyError, TypeError):
            raise InputFileError(
                f"{self.path}:{number}: is no finding of an evaluation: move the file away, or name another --out"
            ) from None


def key_of(*parts: object) -> str:
    """The key of what was asked: equal for equal parts, whatever the process."""
    return hashlib.sha256(orjson.dumps(parts, option=orjson.OPT_SORT_KEYS | orjson.OPT_SERIALIZE_DATACLASS)).hexdigest()
