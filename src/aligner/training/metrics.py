"""Where the figures of a training go: metrics.jsonl always, TensorBoard and Trackio where they are asked for."""

import hashlib
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any, Protocol, cast

import orjson

from aligner.errors import MissingExtraError
from aligner.files import write_text_atomic

NAME = "metrics.jsonl"
_PROJECT = "aligner"
"""what Trackio calls all runs together"""


class Sink(Protocol):
    """A place for figures besides metrics.jsonl."""

    def log(self, stage: str, step: int, figures: Mapping[str, float], *, again: bool) -> None:
        """Take figures of one step of a stage; `again` where a killed run may have logged this step before."""
        ...

    def close(self) -> None:
        """Take no more."""
        ...


class Metrics:
    """The figures of one run, a line for each logged step; of a step that is made again after a kill, the last counts.

    Stages follow one another, and within one steps only rise. So a first line of a stage that is not beyond all lines
    of the stage shows that the run was taken up again, and lines from that step on are removed.
    """

    def __init__(self, folder: Path, sinks: Sequence[Sink] = ()) -> None:
        self._path = folder / NAME
        self._sinks = sinks
        self._known: dict[str, int] = {}
        """for each stage of this process, the last step that an earlier one logged"""

    def log(self, stage: str, step: int, figures: Mapping[str, Any]) -> None:
        """Add a line with the stage, the step and the figures, and tell the sinks the numbers among them."""
        if stage not in self._known:
            self._known[stage] = self._rewind(stage, step)
        row = {"stage": stage, "step": step, **figures}
        with self._path.open("ab") as file:
            file.write(orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE))
        numbers = dict(_numbers(figures))
        for sink in self._sinks:
            sink.log(stage, step, numbers, again=step <= self._known[stage])

    def close(self) -> None:
        """Close the sinks; without it they may lose their last figures."""
        for sink in self._sinks:
            sink.close()

    def _rewind(self, stage: str, step: int) -> int:
        """Remove lines of the stage from the step on, and what a kill left half-written; returns the last step."""
        rows = read_metrics(self._path)
        kept = [row for row in rows if row["stage"] != stage or row["step"] < step]
        if kept != rows or not _is_whole(self._path):
            text = b"".join(orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE) for row in kept)
            write_text_atomic(self._path, text.decode())
        return max((row["step"] for row in rows if row["stage"] == stage), default=0)


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The rows of a metrics.jsonl, without one that a kill left half-written; none where there is no file."""
    lines = path.read_bytes().splitlines(keepends=True) if path.exists() else []
    return [orjson.loads(line) for line in lines if line.endswith(b"\n")]


def sinks_named(names: Sequence[str], folder: Path, settings: Mapping[str, Any]) -> list[Sink]:
    """The sinks `tensorboard` and `trackio` of a run folder; raises MissingExtraError where one is not installed."""
    return [SINKS[name](folder, settings) for name in dict.fromkeys(names)]


class _TensorBoard:
    """Event files in `tensorboard/` in the run folder, a folder for each stage."""

    def __init__(self, folder: Path, _: Mapping[str, Any]) -> None:
        try:
            from torch.utils.tensorboard.writer import SummaryWriter
        except ImportError as error:
            raise _missing("tensorboard") from error
        self._folder = folder / "tensorboard"
        self._open = cast("Callable[..., Any]", SummaryWriter)
        self._writers: dict[str, Any] = {}

    def log(self, stage: str, step: int, figures: Mapping[str, float], *, again: bool) -> None:
        if stage not in self._writers:
            # TensorBoard's own way of a restart: what stands from this step on in older files is not shown.
            self._writers[stage] = self._open(str(self._folder / stage), purge_step=step)
        for name, value in figures.items():
            self._writers[stage].add_scalar(name, value, step)
        self._writers[stage].flush()  # what waits in memory is lost by a kill, and not logged again

    def close(self) -> None:
        for writer in self._writers.values():
            writer.close()


class _Trackio:
    """A run of Trackio, which keeps it on this machine, unless its own variables name a server."""

    def __init__(self, folder: Path, settings: Mapping[str, Any]) -> None:
        try:
            import trackio
        except ImportError as error:
            raise _missing("trackio") from error
        with redirect_stdout(sys.stderr):
            self._run = cast("Any", trackio).init(
                project=_PROJECT,
                name=_name_of(folder),
                config=dict(settings),
                resume="allow",
                embed=False,
                auto_log_gpu=False,
                auto_log_cpu=False,
            )

    def log(self, stage: str, step: int, figures: Mapping[str, float], *, again: bool) -> None:
        # It has no way to take figures back.
        if not again:
            self._run.log({f"{stage}/{name}": value for name, value in figures.items()}, step=step)

    def close(self) -> None:
        with redirect_stdout(sys.stderr):
            self._run.finish()


SINKS: Mapping[str, Callable[[Path, Mapping[str, Any]], Sink]] = {"tensorboard": _TensorBoard, "trackio": _Trackio}


def _name_of(folder: Path) -> str:
    """A name for the run of a folder, which folders of the same name elsewhere do not share."""
    place = folder.resolve()
    return f"{place.name}-{hashlib.sha256(str(place).encode()).hexdigest()[:8]}"


def _missing(name: str) -> MissingExtraError:
    return MissingExtraError(f"report = [\"{name}\"] needs an extra: pip install 'aligner-llm[report]'")


def _numbers(figures: Mapping[str, Any], within: str = "") -> Iterator[tuple[str, float]]:
    """The numbers by their names, and of a rate with its interval the rate; groups of rows stay in metrics.jsonl."""
    for name, value in figures.items():
        if isinstance(value, bool) or name.startswith("by_"):
            continue
        if isinstance(value, int | float):
            yield within + name, float(value)
        elif isinstance(value, list) and value:
            yield within + name, float(cast("list[float]", value)[0])
        elif isinstance(value, Mapping):
            yield from _numbers(cast("Mapping[str, Any]", value), f"{within}{name}/")


def _is_whole(path: Path) -> bool:
    return not path.exists() or path.read_bytes()[-1:] in (b"", b"\n")
