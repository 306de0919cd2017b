"""What a path tells: a stream or a file, and which kind of file."""

from collections.abc import Iterable
from pathlib import Path

from aligner.errors import MisuseError


def is_stream(path: Path) -> bool:
    """Whether a path is standard input or output (`-`), a pipe or a device."""
    return str(path) == "-" or (path.exists() and not path.is_file() and not path.is_dir())


def kind_of(path: Path, known: Iterable[str]) -> str:
    """The ending by which the kind of a file is known; raises MisuseError for any other."""
    for ending in known:
        if path.name.lower().endswith(ending):
            return ending
    raise MisuseError(f'{path}: unknown kind of file "{path.suffix}" (known: {", ".join(known)})')


def beside(path: Path, ending: str) -> Path:
    """The path with something added to its name."""
    return path.with_name(path.name + ending)
