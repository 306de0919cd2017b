"""What tells whether an Aligner or a file is still the same, without loading it."""

import hashlib
from collections.abc import Mapping
from pathlib import Path

from aligner.correcting.writers import shipped
from aligner.errors import MisuseError

_CARD = "aligner.json"
"""holds the digest of the weights beside it"""


def stamp_of_aligner(name: str) -> str:
    """The digest of an Aligner's rules or card; "" where those are not on this machine."""
    kind, colon, rest = name.partition(":")
    folder = shipped("aligner") if name == "demo" else Path(name)
    path = Path(rest) if colon and kind == "rules" else folder / _CARD
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""


def stamp_of_rows(path: Path) -> Mapping[str, object]:
    """A file's name, bytes and time of its last change, since the digest of a large one takes minutes."""
    try:
        seen = path.stat()
    except OSError as error:
        raise MisuseError(f"{path}: {'no such file' if not path.exists() else error.strerror}") from error
    return {"file": str(path), "bytes": seen.st_size, "changed": seen.st_mtime_ns}
