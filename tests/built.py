"""What tests of `aligner build` share: questions of the closed world, and builds that are run in this process."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from random import Random
from typing import Any, Self

import orjson

from aligner.building.ledger import Ledger
from aligner.building.store import Store
from aligner.building.workers import Worker
from aligner.config import BuildAnnotator, BuildConfig, BuildFilters, BuildSource, BuildUpstream
from aligner.world.families import FAMILIES
from aligner.world.questions import ask

ALIKE = BuildFilters(near_duplicate=0.0, language="off")
"""for questions of the closed world, which are alike by nature"""


def world_questions(count: int, *, seed: int = 0) -> list[str]:
    """Different questions of the closed world."""
    found: dict[str, None] = {}
    number = 0
    while len(found) < count:
        asked = ask(Random(f"{seed} {number}"), FAMILIES[number % len(FAMILIES)], "seen")
        found[asked.text] = None
        number += 1
    return list(found)


def written(path: Path, rows: Iterable[Mapping[str, Any]]) -> Path:
    """Rows as JSONL."""
    path.write_bytes(b"".join(orjson.dumps(row) + b"\n" for row in rows))
    return path


def asking(path: Path, questions: Iterable[str]) -> BuildSource:
    """A source of these questions."""
    return BuildSource(path=str(written(path, ({"question": text} for text in questions))))


def world_config(folder: Path, count: int = 12, **given: Any) -> BuildConfig:
    """A build of questions of the closed world that two of its upstreams answer, and somebody echoes."""
    settings: dict[str, Any] = {
        "out": folder / "out",
        "sources": (asking(folder / "questions.jsonl", world_questions(count)),),
        "upstreams": upstreams("careless", "reckless"),
        "annotators": (BuildAnnotator(name="echo", model="echo:"),),
        "filters": ALIKE,
        "pilot": 0,
    }
    return BuildConfig(**{**settings, **given})


def upstreams(*profiles: str, **given: Any) -> tuple[BuildUpstream, ...]:
    """Simulated upstreams by their profiles."""
    return tuple(BuildUpstream(name=name, model=f"world:{name}", **given) for name in profiles)


class Opened:
    """A store and its ledger, for a test that looks at them directly."""

    def __init__(self, folder: Path) -> None:
        self.store = Store(folder / "build.sqlite")
        self.worker = Worker(folder)
        self.ledger = Ledger(self.store, self.worker)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.worker.close()
        self.store.close()


def manifest_of(folder: Path) -> dict[str, Any]:
    """The manifest of a build."""
    return orjson.loads((folder / "dataset" / "manifest.json").read_bytes())


def rows_of(folder: Path, split: str = "train") -> list[dict[str, Any]]:
    """The rows of a split."""
    files = sorted((folder / "dataset").glob(f"{split}-*.jsonl"))
    return [orjson.loads(line) for file in files for line in file.read_bytes().splitlines()]


def dropped_of(folder: Path) -> list[dict[str, Any]]:
    """What was dropped."""
    return [orjson.loads(line) for line in (folder / "dataset" / "dropped.jsonl").read_bytes().splitlines()]


def bytes_of(folder: Path) -> dict[str, bytes]:
    """All files of a data set."""
    root = folder / "dataset"
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


def adds_up(funnel: Sequence[Mapping[str, Any]]) -> None:
    """Every step of a funnel accounts for each of its rows."""
    for step in funnel:
        assert step["came"] == step["left"] + sum(step["dropped"].values()), step
