"""What a step leaves behind: a file or a folder, known by the hash of what is in it."""

import os
import shutil
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple, cast

import orjson

from aligner.training.card import file_hash


class Size(NamedTuple):
    """How large an artefact is."""

    files: int
    bytes: int


def plain(value: object) -> Any:
    """A value as JSON has it: paths are texts, named tuples and dataclasses are objects."""
    return orjson.loads(orjson.dumps(value, default=_plainer, option=orjson.OPT_SORT_KEYS))


def content_hash(path: Path) -> str:
    """The SHA-256 of a file; of a folder, that of the lines that `sha256sum` prints of its files, by their names.

    Hidden files and locks do not count.
    """
    if path.is_file():
        return file_hash(path)
    lines = [f"{file_hash(file)}  {file.relative_to(path).as_posix()}\n" for file in _files_in(path)]
    return sha256("".join(lines).encode()).hexdigest()


def size_of(path: Path) -> Size:
    """How many files count, and how many bytes they have together; nothing where there is nothing."""
    files = [path] if path.is_file() else _files_in(path)
    return Size(len(files), sum(file.stat().st_size for file in files))


def sync(path: Path) -> None:
    """Wait until the disk has a file, or a folder with all that is in it."""
    for one in _with_all_below(path):
        handle = os.open(one, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def sync_entry(folder: Path) -> None:
    """Wait until the disk has the names in a folder."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def link(source: Path, target: Path) -> None:
    """Make a file or a folder appear a second time: by hard links, and by copies where there can be none."""
    if source.is_file():
        _link(source, target)
        return
    target.mkdir()
    for file in _files_in(source):
        copy = target / file.relative_to(source)
        copy.parent.mkdir(parents=True, exist_ok=True)
        _link(file, copy)


def remove(path: Path) -> None:
    """Remove a file or a folder, if it is there."""
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _link(source: Path, target: Path) -> None:
    try:
        target.hardlink_to(source.resolve())
    except OSError:  # another file system, or one without links
        shutil.copyfile(source, target)


def _files_in(folder: Path) -> list[Path]:
    files = [path for path in folder.rglob("*") if path.is_file() and _counts(path.relative_to(folder))]
    return sorted(files, key=lambda path: path.relative_to(folder).as_posix())


def _counts(name: Path) -> bool:
    return name.suffix != ".lock" and not any(part.startswith(".") for part in name.parts)


def _with_all_below(path: Path) -> Iterator[Path]:
    yield from path.rglob("*")
    yield path


def _plainer(value: object) -> object:
    if isinstance(value, Path):
        return str(value)
    if hasattr(value, "_asdict"):  # a named tuple
        return cast("Any", value)._asdict()
    raise TypeError(type(value).__name__)
