"""One part of a work, called by its dotted name in whichever process; what goes wrong comes back as a value."""

import importlib
import os
import traceback
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from aligner.errors import AlignerError
from aligner.sharding.suspects import given_up

MOST_DEATHS = 12
"""of the process that does a part, in one run, besides those that gave up a row; then the run ends"""


@dataclass(frozen=True, slots=True)
class Part:
    """One part of a work; `task` is a value that can be pickled."""

    number: int
    of: int
    task: object
    suspects: Path | None = None
    """the file in which rows are that ended its processes, where there is one"""

    @property
    def name(self) -> str:
        """What messages call it; parts count from 0, as `--shard` does."""
        return f"part {self.number} of {self.of}"


class Call(NamedTuple):
    """What another process is asked to do."""

    folder: str
    """where relative paths begin"""
    work: str
    """module:name"""
    task: object
    deaths: int


class Outcome(NamedTuple):
    """What the work gave, or why it gave nothing."""

    value: object = None
    error: AlignerError | None = None


def call(asked: Call) -> Outcome:
    """Do what is asked; any exception becomes an AlignerError of one line."""
    module, _, name = asked.work.partition(":")
    try:
        if Path(asked.folder).is_dir():
            os.chdir(asked.folder)
        return Outcome(getattr(importlib.import_module(module), name)(asked.task, asked.deaths))
    except AlignerError as error:
        return Outcome(error=_plain(error))
    # The process goes on with other parts, and whoever asked decides.
    except Exception as error:  # noqa: BLE001
        return Outcome(error=AlignerError(_line(error)))


def value_of(part: Part, outcome: Outcome) -> object:
    """What the work gave; raises its error, which names the part."""
    if outcome.error is None:
        return outcome.value
    raise type(outcome.error)(f"{part.name}: {outcome.error}")


@dataclass(slots=True)
class Deaths:
    """How often the process of a part has ended in this run."""

    part: Part
    count: int = 0
    _given_up_before: int = field(init=False)

    def __post_init__(self) -> None:
        self._given_up_before = given_up(self.part.suspects)

    def add(self, how: str) -> None:
        """One more; raises AlignerError once there are too many. One that gave up a row brought the work forward."""
        self.count += 1
        if self.count - (given_up(self.part.suspects) - self._given_up_before) >= MOST_DEATHS:
            cure = "is there memory enough for that many workers? The same command goes on from here"
            raise AlignerError(f"{self.part.name}: its process ended {self.count} times ({how}); {cure}")


def _plain(error: AlignerError) -> AlignerError:
    """The line as the kind of error that every process knows, and that can be made of a line alone."""
    kind = next(kind for kind in type(error).__mro__ if kind.__module__ == AlignerError.__module__)
    return kind(str(error))


def _line(error: Exception) -> str:
    frames = traceback.extract_tb(error.__traceback__)
    place = "".join(f" at {Path(frame.filename).name}:{frame.lineno}" for frame in frames[-1:])
    return f"{type(error).__name__}{place}: {' '.join(str(error).split())}"
