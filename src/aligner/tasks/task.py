"""What a benchmark is: where its items come from, how they are asked, and how an answer is marked."""

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple, Protocol, cast

from aligner.errors import InputFileError, MisuseError
from aligner.prompts import Quality
from aligner.records import Question, SamplingParams

_NO_DATA: Mapping[str, object] = MappingProxyType({})


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One thing to ask."""

    id: str
    """of the set: its own, or the number of its row from 0"""
    question: Question
    """what the upstream is asked, the task's wording included"""
    gold: str = ""
    """the right answer as text, where there is one"""
    category: str = ""
    """subject, kind of harm, emotion, ..."""
    data: Mapping[str, object] = field(default_factory=lambda: _NO_DATA)
    """what else the scorer needs: tests, choices, a reference answer under `reference`, ..."""


class Score(NamedTuple):
    """Whether an answer is right, and what was read out of it."""

    right: bool
    read: str
    """the number, the letter, or why the code failed"""


class Scorer(Protocol):
    """Marks a batch of answers, so that code can run in parallel."""

    def __call__(self, items: Sequence[Item], answers: Sequence[str], /) -> list[Score]:
        """One score for each answer."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """A benchmark."""

    name: str
    help: str
    """one line"""
    measures: str = ""
    """what right means; empty where only judges can tell"""
    read: Callable[[Path], Iterator[Item]]
    """the items of a file or a folder; a bad row is an InputFileError that says file:line"""
    score: Scorer | None = None
    qualities: tuple[Quality, ...] = ()
    """what judges look at"""
    sampling: SamplingParams = SamplingParams(max_tokens=1024)
    """how the upstream is asked"""
    private: bool = False
    """whether its questions stay out of logs and reports"""
    licence: str
    """and terms of use"""
    hub: str = ""
    """the data set on the Hugging Face hub that may be named instead of a path"""
    arrange: Callable[[Item, int], Item] | None = None
    """puts an item in the order that a seed gives, as for choices"""


def items_of(task: Task, path: Path | str, *, sample: int | None = None, seed: int = 0) -> list[Item]:
    """The items of a task, or so many of them, drawn by a hash of seed and id: whatever the order of the file.

    A smaller sample of one seed is a part of a larger one. Raises MisuseError for what is not there or too small, and
    InputFileError for a bad row.
    """
    items = list(task.read(_local(task, path)))
    _check_ids(items, path)
    if sample is not None:
        items = _drawn(items, sample, seed=seed, path=path)
    arrange = task.arrange
    return [arrange(item, seed) for item in items] if arrange else items


def rank(seed: int, *names: str) -> bytes:
    """A place in a random order that depends on nothing but the seed and the names."""
    return hashlib.sha256("\0".join([str(seed), *names]).encode()).digest()


def _drawn(items: Sequence[Item], sample: int, *, seed: int, path: Path | str) -> list[Item]:
    if not 0 < sample <= len(items):
        raise MisuseError(f"{path}: holds {len(items)} items; a sample of {sample} cannot be drawn")
    last = sorted(rank(seed, item.id) for item in items)[sample - 1]
    return [item for item in items if rank(seed, item.id) <= last]


def _check_ids(items: Sequence[Item], path: Path | str) -> None:
    seen: set[str] = set()
    for item in items:
        if item.id in seen:
            raise InputFileError(f'{path}: the id "{item.id}" stands there twice')
        seen.add(item.id)


def _local(task: Task, path: Path | str) -> Path:
    """A path, or the folder into which the hub's data set of this task is loaded."""
    if not task.hub or str(path) != task.hub or Path(path).exists():
        return Path(path)
    import huggingface_hub

    try:
        return Path(cast("Any", huggingface_hub).snapshot_download(task.hub, repo_type="dataset"))
    except (OSError, ValueError) as error:
        raise MisuseError(f'the data set "{task.hub}" cannot be loaded from the hub: {error}') from error
