"""What annotators go by: named, versioned principles, as TOML."""

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib.resources import files
from pathlib import Path

import orjson

from aligner.config import read_config
from aligner.errors import MisuseError, unknown


@dataclass(frozen=True, slots=True, kw_only=True)
class Principle:
    """What one quality asks of an answer."""

    name: str
    version: int
    text: tuple[str, ...]
    """one sentence or a few each, as they are put to the annotator"""


@dataclass(frozen=True)
class Principles:
    """Principles that hold together, in the order in which the annotator reads them."""

    of: tuple[Principle, ...]

    @property
    def text(self) -> str:
        """As annotators read them."""
        return "\n\n".join(
            "\n".join([f"{part.name.capitalize()}:", *(f"- {line}" for line in part.text)]) for part in self.of
        )

    @cached_property
    def version_hash(self) -> str:
        """Twelve hexadecimal digits that change with every name, version and text."""
        parts = [[part.name, part.version, part.text] for part in self.of]
        return hashlib.sha256(orjson.dumps(parts)).hexdigest()[:12]

    def as_json(self) -> list[Mapping[str, object]]:
        """Names, versions and texts, for a manifest."""
        return [{"name": part.name, "version": part.version, "text": list(part.text)} for part in self.of]


def shipped() -> tuple[str, ...]:
    """The names of the principles that come with the package."""
    folder = files("aligner") / "principles"
    return tuple(sorted(file.name.removesuffix(".toml") for file in folder.iterdir() if file.name.endswith(".toml")))


def load(names: Sequence[str]) -> Principles:
    """The principles of these names, or of TOML files with a `name`, a `version` and the list `text`.

    Raises MisuseError for none at all, an unknown name, a file that cannot be used, and two of one name.
    """
    if not names:
        raise MisuseError(f"no principles: name at least one of {', '.join(shipped())}, or a TOML file")
    found = tuple(map(_principle, names))
    name, count = Counter(part.name for part in found).most_common(1)[0]
    if count > 1:
        raise MisuseError(f'{count} principles are called "{name}": name each once')
    return Principles(found)


def _principle(name: str) -> Principle:
    if name.endswith(".toml"):
        return _checked(read_config(Principle, Path(name)), name)
    if name not in shipped():
        raise unknown("principle", name, shipped())
    return _checked(read_config(Principle, Path(str(files("aligner") / "principles" / f"{name}.toml"))), name)


def _checked(principle: Principle, where: str) -> Principle:
    if not principle.name.strip() or principle.version < 1:
        raise MisuseError(f"{where}: needs a name, and a version that is at least 1")
    if not principle.text or not all(line.strip() for line in principle.text):
        raise MisuseError(f"{where}: text needs at least one line, and each must say something")
    return principle
