"""Parts of work, and where they are done."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

from aligner.errors import MisuseError, unknown
from aligner.sharding.calling import Part

EngineName = Literal["local", "ray"]
Done = Callable[[Part, object], None]
"""is told of each part that is done, and what the work gave, in the order in which they end"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Engine:
    """Where parts are done, and how many at a time."""

    name: EngineName = "local"
    workers: int = 0
    """parts at a time; 0 is one for each CPU of the machine or of the cluster, or for each GPU where parts need one"""
    address: str = ""
    """of a Ray cluster; one is started on this machine without it"""
    gpus: int = 0
    """that each part has for itself"""


def run_parts(parts: Sequence[Part], work: str, engine: Engine, on_done: Done) -> None:
    """Do all parts, each in some other process, and again where that process dies.

    `work` is the dotted name (`module:name`) of a function of the part's task and of the number of deaths that the
    part has seen in this run. A part may begin again at any moment, so the work must bear that. An AlignerError of a
    part is raised here and ends the others, as does a part whose process dies again and again.
    """
    if engine.workers < 0:
        raise MisuseError(f"--workers must be at least 1, or 0 for as many as there are CPUs, not {engine.workers}")
    if engine.name not in _ENGINES:
        raise unknown("engine", engine.name, _ENGINES)
    if parts:
        _ENGINES[engine.name](parts, work, engine, on_done)


def _local(parts: Sequence[Part], work: str, engine: Engine, on_done: Done) -> None:
    from aligner.sharding.local import run_local

    run_local(parts, work, workers=engine.workers, on_done=on_done)


def _ray(parts: Sequence[Part], work: str, engine: Engine, on_done: Done) -> None:
    # Ray is an extra, and takes seconds to import.
    from aligner.sharding.on_ray import run_on_ray

    run_on_ray(parts, work, workers=engine.workers, address=engine.address, gpus=engine.gpus, on_done=on_done)


_ENGINES: Mapping[str, Callable[[Sequence[Part], str, Engine, Done], None]] = MappingProxyType(
    {"local": _local, "ray": _ray}
)
