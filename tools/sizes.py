"""Print how long files and functions are; a sign to look at, never a failure: `python tools/sizes.py [FOLDER ...]`."""

import ast
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import median
from typing import NamedTuple

_SMALL_FILE, _LONG_FILE = 3, 400
_SHORT_FUNCTION, _LONG_FUNCTION = 40, 60


class Size(NamedTuple):
    """How many lines a file or a function has."""

    lines: int
    where: str


def file_sizes(folder: Path) -> Iterator[Size]:
    """The Python files of a folder, without those of a line or two."""
    for path in sorted(folder.rglob("*.py")):
        lines = path.read_text(encoding="utf-8").count("\n")
        if lines > _SMALL_FILE:
            yield Size(lines, str(path))


def function_sizes(folder: Path) -> Iterator[Size]:
    """The functions of a folder, nested ones too; docstrings count, decorators do not."""
    for path in sorted(folder.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                lines = (node.end_lineno or node.lineno) - node.lineno + 1
                yield Size(lines, f"{path}:{node.lineno} {node.name}")


def report(folder: Path) -> str:
    """One line for the files, one for the functions, and one for each that is long."""
    files, functions = list(file_sizes(folder)), list(function_sizes(folder))
    if not files or not functions:
        return f"{folder}: nothing to measure"
    short = sum(size.lines <= _SHORT_FUNCTION for size in functions) / len(functions)
    lines = [
        f"{folder}: {len(files)} files, {sum(size.lines for size in files)} lines, median {_median(files)}",
        f"{folder}: {len(functions)} functions, median {_median(functions)}, {short:.0%} up to {_SHORT_FUNCTION} lines",
    ]
    long = [*_longer(files, _LONG_FILE), *_longer(functions, _LONG_FUNCTION)]
    return "\n".join([*lines, *(f"  long: {size.lines} {size.where}" for size in long)])


def _median(sizes: Sequence[Size]) -> float:
    return median(size.lines for size in sizes)


def _longer(sizes: Sequence[Size], limit: int) -> list[Size]:
    return sorted((size for size in sizes if size.lines > limit), reverse=True)


if __name__ == "__main__":
    print("\n".join(report(Path(folder)) for folder in sys.argv[1:] or ["src", "tests"]))
