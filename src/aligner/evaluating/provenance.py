"""Where the figures of a report come from, so that a sceptic can make them again."""

import hashlib
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, cast

import tomli_w

_PACKAGES = ("aligner-llm", "numpy", "scipy", "scikit-learn", "torch", "transformers", "math-verify")


@dataclass(frozen=True, slots=True, kw_only=True)
class Provenance:
    """What went into a run."""

    command: str
    """that repeats it"""
    aligner: str
    fingerprint: str
    upstreams: Mapping[str, str]
    """models by their names in the report"""
    judges: Sequence[Mapping[str, object]]
    """name, and what each says about itself"""
    files: Mapping[str, str]
    """SHA-256 of each file that was read"""
    versions: Mapping[str, str]
    seed: int


def settings_of(config: object) -> str:
    """A configuration as TOML, which repeats its run; what is not set is left out."""
    return tomli_w.dumps(_plain(asdict(cast("Any", config))))


def hashes_of(paths: Sequence[Path]) -> dict[str, str]:
    """The SHA-256 of each file, and of all files of each folder together."""
    return {str(path): _hash(path) for path in paths}


def identity_of(name: str, environ: Mapping[str, str] = os.environ) -> str:
    """What stands for a model or a judge under a name: another text where it may say something else.

    Of a file its SHA-256; of a folder the names, sizes and times of its files, since weights are large; of a server
    where no address is named the address that the environment names.
    """
    kind, _, rest = name.partition(":")
    path = Path(rest.partition("?")[0] if rest else name)
    if path.is_file():
        return f"{name} {_hash(path)}"
    if rest and path.is_dir():
        files = sorted((str(file.relative_to(path)), file.stat()) for file in path.rglob("*") if file.is_file())
        told = repr([(file, stat.st_size, stat.st_mtime_ns) for file, stat in files])
        return f"{name} {hashlib.sha256(told.encode()).hexdigest()}"
    return f"{name} {environ.get('OPENAI_BASE_URL', '')}" if kind == "openai" and "@" not in rest else name


def versions() -> dict[str, str]:
    """Of Python, and of the packages that decide about figures, where they are installed."""
    found = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _hash(path: Path) -> str:
    digest = hashlib.sha256()
    for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
        if file.is_file():
            digest.update(str(file.relative_to(path)).encode() + b"\0" if path.is_dir() else b"")
            with file.open("rb") as opened:
                while part := opened.read(2**20):
                    digest.update(part)
    return digest.hexdigest()


def _plain(value: Any) -> Any:
    """As TOML knows it."""
    if isinstance(value, dict):
        table = cast("dict[str, Any]", value)
        return {name: _plain(found) for name, found in table.items() if found is not None and found != ()}
    if isinstance(value, list | tuple):
        return [_plain(found) for found in cast("Sequence[Any]", value)]
    return str(value) if isinstance(value, Path) else value
