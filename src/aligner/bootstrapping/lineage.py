"""One folder a round, in which every artefact is named by its hash, and parents.json says what it came from.

A step may be killed at any moment. What it leaves is in order, each on the disk before the next: unfinished work in a
hidden folder; the finished artefact and its seal there; the artefact in its place; its line in parents.json; in the end
the hidden folder is gone. The same step again goes on from whichever of them it finds.
"""

import hashlib
import re
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, cast

import orjson

from aligner.bootstrapping.artefacts import content_hash, link, plain, remove, sync, sync_entry
from aligner.bootstrapping.nouns import Step
from aligner.bootstrapping.parents import is_whole, json_in, records_in, write_down
from aligner.errors import MisuseError
from aligner.files import write_json_atomic

DONE = "DONE"
_SUFFIXES: Mapping[Step, str] = {"reward": "", "model": "", "evaluation": ".json"}
_SEAL = "sealed.json"
_SHORT = 12
"""digits of a hash in a name"""


class Place(NamedTuple):
    """Where a step leaves its artefact, and a folder for unfinished work, which outlives the process."""

    path: Path
    scratch: Path


class Artefact(NamedTuple):
    """What a step made."""

    path: Path
    sha256: str


class _Sealed(NamedTuple):
    """A finished artefact on its way to its place."""

    made: Path
    path: Path
    sha256: str


def nowhere(_: str) -> None:
    """Where an artefact of that key lies besides: nowhere."""


class Lineage:
    """The steps of one round, none of which is made twice.

    `elsewhere` finds the artefact of a key in another folder. One process at a time; whoever opens it sees to that.
    """

    def __init__(self, folder: Path, elsewhere: Callable[[str], Path | None] = nowhere) -> None:
        self.folder = folder
        self._elsewhere = elsewhere
        self._whole: set[Path] = set()
        """what was found undamaged; it is looked at once"""

    def step(self, name: Step, inputs: Mapping[str, Any], make: Callable[[Place], object]) -> Artefact:
        """What the step makes of these inputs, which JSON can hold: as it lies here or elsewhere, or else made now.

        `make` leaves a file at the place, or a folder if it is a model, and may be called again after any end. Raises
        MisuseError in a round that is done, if it was done with other inputs.
        """
        parents = plain(inputs)
        key = _key_of(name, parents)
        kept = self._kept(name, key)
        if kept is None:
            self._check_undecided(name, key)
            work = self.folder / f".{name}-{key[:_SHORT]}"
            sealed = self._sealed(work) or self._taken_over(name, key, work) or self._made(name, work, make)
            kept = self._put(name, key, parents, sealed)
        self._tidy(name, kept.path)
        return kept

    def artefact(self, name: Step) -> Artefact | None:
        """What that step made here, of whatever inputs; none if it is not there, or damaged."""
        record = records_in(self.folder).get(name)
        return self._kept(name, record["key"]) if record else None

    @property
    def verdict(self) -> Mapping[str, Any] | None:
        """What was decided about the round; none while it is not done."""
        try:
            return cast("Mapping[str, Any]", orjson.loads((self.folder / DONE).read_bytes()))
        except FileNotFoundError:
            return None
        except orjson.JSONDecodeError as error:
            raise MisuseError(f"{self.folder / DONE}: damaged; remove it, and the round is decided again") from error

    def finish(self, verdict: Mapping[str, Any]) -> None:
        """Say that the round is done, and what was decided: its last word."""
        if self.verdict != plain(verdict):
            write_json_atomic(self.folder / DONE, plain(verdict))
            sync_entry(self.folder)

    def _kept(self, name: Step, key: str) -> Artefact | None:
        """The artefact of that key that lies here, if it is undamaged."""
        record = records_in(self.folder).get(name)
        if record is None or record["key"] != key:
            return None
        path = self.folder / record["artefact"]
        if path not in self._whole and not is_whole(path, record):
            return None
        self._whole.add(path)
        return Artefact(path, record["sha256"])

    def _check_undecided(self, name: Step, key: str) -> None:
        """A verdict is about what it was reached with."""
        if self.verdict is not None and records_in(self.folder).get(name, {}).get("key") != key:
            cure = f"choose another --out, or remove {DONE} and the round is made again"
            raise MisuseError(f"{self.folder}: the round is done, but its {name} came of something else; {cure}")

    def _sealed(self, work: Path) -> _Sealed | None:
        """What was finished, and did not get as far as its line in parents.json."""
        seal = json_in(work / _SEAL)
        if not seal:
            return None
        sealed = _Sealed(work / seal["made"], self.folder / seal["artefact"], seal["sha256"])
        if any(path.exists() and content_hash(path) == sealed.sha256 for path in (sealed.made, sealed.path)):
            return sealed
        shutil.rmtree(work)
        return None

    def _taken_over(self, name: Step, key: str, work: Path) -> _Sealed | None:
        """The artefact of another folder, if there is one and it still is what its name says."""
        source = self._elsewhere(key)
        if source is None:
            return None
        taken = work / "taken"  # not where a step works: it would write into what two folders share
        remove(taken)
        taken.mkdir(parents=True)
        made = taken / _name(name)
        link(source, made)
        if _name(name, content_hash(made)) == source.name:
            return self._seal(name, work, made)
        remove(taken)
        return None

    def _made(self, name: Step, work: Path, make: Callable[[Place], object]) -> _Sealed:
        place = Place(work / _name(name), work / "scratch")
        place.scratch.mkdir(parents=True, exist_ok=True)
        if place.path.is_dir():
            shutil.rmtree(place.path)  # half filled
        make(place)
        return self._seal(name, work, place.path)

    def _seal(self, name: Step, work: Path, made: Path) -> _Sealed:
        """Note that an artefact is finished, once the disk has it."""
        sync(made)
        sync_entry(made.parent)
        sha256 = content_hash(made)
        path = self.folder / _name(name, sha256)
        write_json_atomic(work / _SEAL, {"made": str(made.relative_to(work)), "artefact": path.name, "sha256": sha256})
        return _Sealed(made, path, sha256)

    def _put(self, name: Step, key: str, parents: Mapping[str, Any], sealed: _Sealed) -> Artefact:
        """Put an artefact in its place, and then its line into parents.json."""
        if sealed.made.exists():
            if sealed.path.is_dir():
                shutil.rmtree(sealed.path)  # damaged, or it would not be made again
            sealed.made.rename(sealed.path)
            sync_entry(self.folder)
        write_down(self.folder, name, sealed.path, {"key": key, "sha256": sealed.sha256, "from": parents})
        self._whole.add(sealed.path)
        return Artefact(sealed.path, sealed.sha256)

    def _tidy(self, name: Step, kept: Path) -> None:
        """Remove unfinished work, and what the step made of other inputs."""
        ours = re.compile(rf"\.{name}-[0-9a-f]{{{_SHORT}}}|{name}-[0-9a-f]{{{_SHORT}}}{re.escape(_suffix(name))}")
        for path in self.folder.iterdir():
            if ours.fullmatch(path.name) and path != kept:
                remove(path)


def _key_of(name: Step, parents: object) -> str:
    return hashlib.sha256(orjson.dumps([name, parents], option=orjson.OPT_SORT_KEYS)).hexdigest()


def _name(name: Step, sha256: str = "") -> str:
    return f"{name}-{sha256[:_SHORT]}{_suffix(name)}" if sha256 else f"{name}{_suffix(name)}"


def _suffix(name: Step) -> str:
    return _SUFFIXES.get(name, ".jsonl")
