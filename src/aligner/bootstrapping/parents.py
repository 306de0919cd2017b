"""parents.json: what each step of a round made, and of what; and all that a study has made, by its key."""

import platform
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, cast, get_args

import orjson

from aligner.bootstrapping.artefacts import content_hash, size_of, sync_entry
from aligner.bootstrapping.nouns import Step
from aligner.files import write_json_atomic
from aligner.training.card import installed_packages

PARENTS = "parents.json"
STEPS: tuple[Step, ...] = get_args(Step)


def records_in(folder: Path) -> Mapping[Step, Mapping[str, Any]]:
    """What is written down of each step; nothing where there is no file, or a damaged one."""
    table = json_in(folder / PARENTS)
    return {name: table[name] for name in STEPS if name in table}


def write_down(folder: Path, name: Step, path: Path, known: Mapping[str, Any]) -> None:
    """Add the artefact of a step to parents.json: its size and what else is known of it."""
    record = {**known, **size_of(path)._asdict(), "artefact": path.name}
    write_json_atomic(folder / PARENTS, {**records_in(folder), name: record, "made_with": _made_with()})
    sync_entry(folder)


def is_whole(path: Path, record: Mapping[str, Any]) -> bool:
    """Whether an artefact is what was written down.

    Rows are hashed. A model, which may have gigabytes, has its files counted and their bytes: it was on the disk before
    it got its name, so that what can happen to it is that files are removed or cut short.
    """
    size = {name: record.get(name) for name in ("files", "bytes")}
    if not path.exists() or size_of(path)._asdict() != size:
        return False
    return path.is_dir() or content_hash(path) == record["sha256"]


def json_in(path: Path) -> dict[str, Any]:
    """The object in a file; an empty one where there is no file, or a damaged one."""
    try:
        found = orjson.loads(path.read_bytes())
    except (OSError, orjson.JSONDecodeError):
        return {}
    return cast("dict[str, Any]", found) if isinstance(found, dict) else {}


def has_begun(study: Path) -> bool:
    """Whether any step of any round of a study has been made."""
    return any(_parents_in(study))


class Shelf:
    """All artefacts that the rounds of a study have made, also since it was last asked."""

    def __init__(self, study: Path) -> None:
        self._study = study
        self._read: dict[Path, tuple[object, Mapping[str, Path]]] = {}
        """for each folder which parents.json was read, which is never written in place, and what is on it"""

    def find(self, key: str, *, but: Path) -> Path | None:
        """The artefact of that key, in another folder than that one."""
        self._look()
        places = (made.get(key) for folder, (_, made) in self._read.items() if folder != but)
        return next((path for path in places if path is not None and path.exists()), None)

    def _look(self) -> None:
        for path in _parents_in(self._study):
            facts, folder = path.stat(), path.parent
            written = (facts.st_ino, facts.st_mtime_ns, facts.st_size)
            if folder not in self._read or self._read[folder][0] != written:
                made = {one["key"]: folder / one["artefact"] for one in records_in(folder).values()}
                self._read[folder] = (written, made)


def _parents_in(study: Path) -> Iterator[Path]:
    """parents.json of every round, round 0 first."""
    for depth in ("*/seed-*", "*/seed-*/round-*"):
        yield from sorted(study.glob(f"{depth}/{PARENTS}"))


def _made_with() -> Mapping[str, Any]:
    packages = installed_packages()
    return {"aligner": packages.pop("aligner-llm"), "python": platform.python_version(), "packages": packages}
