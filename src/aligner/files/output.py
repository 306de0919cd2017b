"""Files that are written whole or not at all, and say clearly when they cannot be written."""

import io
import os
import stat
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import orjson

from aligner.errors import OutputFileError
from aligner.files.paths import beside, is_stream


def write_text_atomic(path: Path | str, text: str) -> None:
    """Write a small file; whoever reads it sees the old text or the new one, whole."""
    with replacing(Path(path)) as file:
        file.write(text.encode())


def write_json_atomic(path: Path | str, value: object) -> None:
    """Write a small JSON file, its keys sorted, two spaces a level."""
    options = orjson.OPT_SORT_KEYS | orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE
    write_text_atomic(path, orjson.dumps(value, option=options).decode())


class OutputFile(io.FileIO):
    """A raw file whose every write is whole, and whose failures name the result `out` that cannot be written."""

    def __init__(self, file: Path | int, mode: str, *, out: Path) -> None:
        self.out = out
        with naming(out):
            super().__init__(file, mode, closefd=isinstance(file, Path))

    def write(self, data: Any, /) -> int:
        """Write all of the bytes."""
        view = memoryview(data)
        size = len(view)
        with naming(self.out):
            while view:
                view = view[super().write(view) or 0 :]
        return size

    def sync(self) -> None:
        """Wait until the disk has it; a pipe or a terminal has none."""
        with naming(self.out):
            if stat.S_ISREG(os.fstat(self.fileno()).st_mode):
                os.fsync(self.fileno())


@contextmanager
def naming(out: Path) -> Generator[None]:
    """Turn what the system says of a failure into an OutputFileError that names the result."""
    try:
        yield
    except OutputFileError:
        raise
    except OSError as error:
        raise OutputFileError(f"{label(out)}: cannot be written: {error.strerror or error}") from error


@contextmanager
def replacing(out: Path) -> Generator[OutputFile]:
    """A file that takes the place of `out` once it is whole, and is removed if it never is."""
    made = beside(out, ".writing")
    try:
        with OutputFile(made, "wb", out=out) as file:
            yield file
            file.sync()
        with naming(out):
            made.replace(out)
    except BaseException:
        made.unlink(missing_ok=True)
        raise


def open_stream(out: Path) -> OutputFile:
    """Standard output (`-`), a pipe or a device, to write to directly."""
    if str(out) != "-":
        return OutputFile(out, "wb", out=out)
    sys.stdout.flush()
    return OutputFile(sys.stdout.fileno(), "wb", out=out)


def is_output_stream(out: Path) -> bool:
    """Whether to write a stream; raises OutputFileError at once where no file can be made."""
    with naming(out):
        if is_stream(out):
            return True
        if out.is_dir():
            raise OutputFileError(f"{out}: cannot be written: it is a folder")
        if not out.parent.is_dir():
            raise OutputFileError(f"{out}: cannot be written: there is no folder {out.parent}")
    return False


def label(out: Path) -> str:
    """What messages call an output."""
    return "stdout" if str(out) == "-" else str(out)
