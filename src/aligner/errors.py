"""What can go wrong, said in one line: what, where, and the cure.

AlignerError
├── MisuseError (ValueError)       the command or its configuration is wrong: exit code 2
├── InputFileError (ValueError)    a row or a file cannot be used; says file:line
├── OutputFileError (OSError)      a result cannot be written
├── CheckpointError (ValueError)   a folder is not an Aligner, or is damaged
├── ModelError (RuntimeError)      a model gave no usable answer
└── MissingExtraError (ImportError)  a feature needs an optional dependency
"""

import difflib
from collections.abc import Iterable
from pathlib import Path


class AlignerError(Exception):
    """Anything that the user can mend; the command line prints it as one line."""

    exit_code = 1


class MisuseError(AlignerError, ValueError):
    """The command or its configuration is wrong."""

    exit_code = 2


class InputFileError(AlignerError, ValueError):
    """A file or a row of it cannot be used."""


class OutputFileError(AlignerError, OSError):
    """A result cannot be written."""


class CheckpointError(AlignerError, ValueError):
    """A folder does not hold an Aligner, or holds a damaged one."""


class ModelError(AlignerError, RuntimeError):
    """A model is down, slow, or answers what cannot be used."""


class MissingExtraError(AlignerError, ImportError):
    """A feature needs an optional dependency that is not installed."""


_LONGEST_NAME = 200
"""characters that are compared and shown of a name, which may come out of a file"""
_LOW = {i: 0x2400 + i for i in range(32) if chr(i) not in "\n\t"}
_VISIBLE = {**_LOW, 0x7F: 0x2421, **dict.fromkeys(range(0x80, 0xA0), 0xFFFD)}


def visible(text: str) -> str:
    """A text for a terminal, in which control characters are pictures, but for line ends and tabs.

    A terminal would obey them, whoever wrote them.
    """
    return text.translate(_VISIBLE)


def bad_row(path: Path | str, line: int, problem: str) -> InputFileError:
    """The error for one row of a file, as `file:line: problem`; lines count from 1."""
    return InputFileError(f"{path}:{line}: {problem}")


def unknown(kind: str, name: str, known: Iterable[str]) -> MisuseError:
    """The error for a name that is not known, with the nearest that is."""
    names = sorted(known)
    shown = name if len(name) <= _LONGEST_NAME else f"{name[:_LONGEST_NAME]}…"
    close = difflib.get_close_matches(shown, names, n=1)
    hint = f'; did you mean "{close[0]}"?' if close else ""
    return MisuseError(f'unknown {kind} "{shown}"{hint} (known: {", ".join(names)})')
