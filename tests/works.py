"""Works that tests give to other processes, and an Aligner under which a process dies."""

import os
import signal
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from aligner.config import BuildConfig
from aligner.errors import MisuseError, ModelError
from aligner.models.server import RefusedError
from aligner.sharding.suspects import Suspects

POISON = '''
"""Read by each Python that starts with its folder on the path: one more kind of Aligner."""

import os
import signal
from dataclasses import dataclass

from aligner.correcting import writers
from aligner.models.rules import Rules


@dataclass(frozen=True, slots=True)
class PoisonedWriter(writers.RulesWriter):
    def write(self, exchanges, sampling, *, batch=64, doubt=False):
        for exchange in exchanges:
            if "RAISE" in exchange.answer:
                raise ValueError("what no rule foresaw")
            if "DIE" in exchange.answer:
                os.kill(os.getpid(), signal.SIGKILL)
        return writers.RulesWriter.write(self, exchanges, sampling, batch=batch, doubt=doubt)


writers.WRITERS = {**writers.WRITERS, "poisoned": lambda _, __: PoisonedWriter(Rules(()), "poisoned:")}
'''


def doubled(task: int, deaths: int) -> tuple[int, int]:
    """Twice the number, and how often its process died before."""
    return 2 * task, deaths


def dying(task: Mapping[str, Any], deaths: int) -> int:
    """Leaves its mark, and dies so often before it does its work."""
    with Path(task["log"]).open("a") as log:
        log.write(f"{deaths}\n")
    if deaths < task["times"]:
        os.kill(os.getpid(), signal.SIGKILL)
    return deaths


def poisoned(task: Mapping[str, Any], deaths: int) -> list[int]:
    """Dies under each of so many rows; gives those that were given up."""
    suspects = Suspects(Path(task["suspects"]), deaths=deaths)
    for line in range(task["rows"]):
        if not suspects.is_given_up(line):
            if not suspects.careful:
                os.kill(os.getpid(), signal.SIGKILL)
            with suspects.trying(line):
                os.kill(os.getpid(), signal.SIGKILL)
    return [line for line in range(task["rows"]) if suspects.is_given_up(line)]


def failing(task: str, _: int) -> None:
    """Fails in the way that is asked for."""
    if task == "refused":
        raise RefusedError("the server refuses", 400)
    if task == "misuse":
        raise MisuseError("no such thing")
    if task == "down":
        raise ModelError("nobody listens")
    if task == "bug":
        raise KeyError("a bug\nof two lines")


def waiting(task: str, _: int) -> None:
    """Says which process it is, and works on for longer than anybody waits."""
    Path(task).write_text(str(os.getpid()))
    time.sleep(600)


def built(config: BuildConfig) -> None:
    """Is asked to build a part; stands for what asks models."""
    with (config.out / "calls.log").open("a") as log:
        log.write(f"{config.max_cost} {[one.requests_per_minute for one in config.upstreams]}\n")
