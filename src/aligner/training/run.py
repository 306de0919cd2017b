"""The run folder of one training: what it was, how far it came, and what it made.

Of several processes that train one model, the main one alone writes and speaks.
"""

import fcntl
import hashlib
import os
import shutil
import sys
import weakref
from collections.abc import Callable, Generator, Iterable, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, TextIO, cast

import orjson
import tomli_w
from rich.console import Console
from rich.text import Text

from aligner.config import OnBadRow, TrainConfig
from aligner.data.fields import row_of, triple_of
from aligner.errors import MisuseError, OutputFileError
from aligner.files import bad_rows_named, read, write_json_atomic, write_rows, write_text_atomic
from aligner.records import Triple
from aligner.training.adapter import Progress
from aligner.training.measured import Measured
from aligner.training.metrics import Metrics, read_metrics, sinks_named
from aligner.training.model_card import without_places
from aligner.training.plot import curves
from aligner.training.processes import is_main, main_first, told_by_main, wait

_ORIGIN = "stage.json"
_LOCK = ".lock"
_PLACES = ("triples", "out", "feedback", "stages", "report")
"""fields that name places on one machine; they do not change what is made"""
_OF_A_START = ("plan", "if_too_large")
"""fields that say how a run may begin, and nothing of what it is"""
_OF_FEEDBACK = ("feedback", "reviewers", "votes", "most_per_reviewer", "told")
"""fields that mean nothing where no log is read"""

_OF_EVERY_STAGE = (
    "template",
    "max_length",
    "held_out",
    "measure",
    "lora",
    "packing",
    "gradient_checkpointing",
    "instruction",
    "objective",
    "device",
    "seed",
)
"""fields on which the weights of any stage may depend"""


class Run:
    """A folder with config.toml, metrics.jsonl, samples.jsonl, one folder a stage, and checkpoint/."""

    def __init__(self, config: TrainConfig) -> None:
        self.config = config
        self.folder = config.out
        self.checkpoint = config.out / "checkpoint"
        self.data: Mapping[str, Any] = {}
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputFileError(f"{config.out}: cannot be made: {error.strerror}") from error
        self._lock = os.open(self.folder / _LOCK, os.O_RDWR | os.O_CREAT, 0o644)
        self.close = weakref.finalize(self, os.close, self._lock)
        """lets go of the folder"""
        try:
            told_by_main(self._hold)
            self._claim("config.toml", tomli_w.dumps(_table(config)))
        except BaseException:
            self.close()
            raise
        sinks = sinks_named(config.report, self.folder, self.settings()) if is_main() else []
        self._metrics = Metrics(self.folder, sinks)

    def _hold(self) -> None:
        """Hold the folder as long as this process lives; the system lets go of it however that ends."""
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            cure = "wait for it, or choose another --out"
            raise MisuseError(f"{self.folder}: another process trains here; {cure}") from None

    def keep_feedback(self, rows: Callable[[], Iterable[Mapping[str, object]]]) -> None:
        """Write down what a log gives now: it goes on growing, and a run that is taken up again must not see that."""
        told_by_main(lambda: None if self._feedback.exists() else write_rows(self._feedback, rows()))

    def read_triples(self) -> list[Triple]:
        """The triples of the run; raises MisuseError when they are not those that it began with."""
        given, judged = main_first(self._read_all)
        triples = given + judged
        if not triples:
            self._feedback.unlink(missing_ok=True)  # somebody may judge yet
            raise MisuseError(f"{self.config.triples or ', '.join(self.config.feedback)}: no triples to learn from")
        self.data = {"rows": len(triples), "sha256": data_hash(triples)}
        if self.config.feedback:
            self.data = {**self.data, "judged": len(judged)}
        self._claim("data.toml", tomli_w.dumps(self.data))
        return triples

    def settings(self) -> dict[str, Any]:
        """The configuration without the places of one machine."""
        kept = {name: value for name, value in _table(self.config).items() if name not in _PLACES}
        return without_places(kept)

    @property
    def shared(self) -> dict[str, Any]:
        """What every stage depends on besides its own settings and its parent."""
        settings = self.settings()
        return {"data": self.data["sha256"], **{name: settings[name] for name in _OF_EVERY_STAGE}}

    def key_of_base(self, weights: str | None) -> str:
        """What names the model that training starts from: a hash of its weights, or of how it was made."""
        made = {"weights": weights} if weights else {"new": asdict(self.config.new), **self.shared}
        return hashlib.sha256(orjson.dumps(made, option=orjson.OPT_SORT_KEYS)).hexdigest()

    def stage_folder(self, name: str, key: str) -> Path:
        """Where a stage lies: in the run, or under its hash among those that runs share."""
        return self.config.stages / f"{name}-{key[:16]}" if self.config.stages else self.folder / name

    @contextmanager
    def claimed(self, folder: Path) -> Generator[None]:
        """Hold a stage's folder, so that two runs that share it do not make it at the same time."""
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / _LOCK).open("w") as lock:
            if is_main():
                self._wait_for(lock, folder)
            yield

    def _wait_for(self, lock: TextIO, folder: Path) -> None:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self.say(f"{folder}: another run makes this stage; waiting for it")
            fcntl.flock(lock, fcntl.LOCK_EX)

    def finish_stage(self, folder: Path, origin: Mapping[str, Any], write: Callable[[Path], object]) -> None:
        """Put a stage's model in its place, and beside it what it came from; checkpoints on the way are removed."""
        if is_main():
            write_json_atomic(folder / _ORIGIN, origin)
            publish(folder / "model", write)
            for done in (*folder.glob("checkpoint-*"), *folder.glob("torn-*"), folder / "best"):
                shutil.rmtree(done, ignore_errors=True)
        wait()

    def origin_of(self, folder: Path) -> dict[str, Any]:
        """What a finished stage came from."""
        return orjson.loads((folder / _ORIGIN).read_bytes())

    def log(self, stage: str, progress: Progress) -> None:
        """Note how far a stage has come."""
        figures = progress._asdict()
        self._metrics.log(stage, figures.pop("step"), figures)

    def log_measured(self, stage: str, step: int, measured: Measured) -> None:
        """Note what a model made of held-out rows on the way."""
        self._metrics.log(stage, step, {"measured": measured.figures()})

    def plot(self) -> None:
        """Draw the curves of all that was noted."""
        self._metrics.close()
        write_text_atomic(self.folder / "curves.svg", curves(read_metrics(self.folder / "metrics.jsonl")))

    def save_samples(self, samples: Iterable[Mapping[str, object]]) -> None:
        """Write what the finished Aligner makes of held-out answers."""
        text = b"".join(orjson.dumps(sample, option=orjson.OPT_APPEND_NEWLINE) for sample in samples)
        write_text_atomic(self.folder / "samples.jsonl", text.decode())

    def say(self, line: str) -> None:
        """Tell the user something, on standard error."""
        if is_main():
            print(line, file=sys.stderr, flush=True)

    def show(self, title: str, sample: Text) -> None:
        """Show a masked sample, on standard error."""
        if not is_main():
            return
        console = Console(stderr=True, highlight=False, soft_wrap=True)
        console.print(Text(f"{title}, one row (loss on green): ") + sample)

    @property
    def _feedback(self) -> Path:
        return self.folder / "feedback.jsonl"

    def _read_all(self) -> tuple[list[Triple], list[Triple]]:
        """The triples that were given, and those of the feedback."""
        given = self._read(self.config.triples, self.config.on_bad_row) if self.config.triples else []
        return given, self._read(self._feedback, "stop") if self.config.feedback else []

    def _read(self, path: Path, on_bad_row: OnBadRow) -> list[Triple]:
        bad_rows = bad_rows_named(on_bad_row, self.folder / "triples")
        triples = [triple for _, triple in read(path, triple_of, bad_rows=bad_rows)]
        bad_rows.finish()
        for reason, count in bad_rows.reasons.items():
            self.say(f"{count:,} rows skipped: {reason}")
        return triples

    def _claim(self, name: str, text: str) -> None:
        """Write down what this run is, or make sure that the folder holds the same run."""
        told_by_main(lambda: _claim(self.folder / name, text))


def _claim(path: Path, text: str) -> None:
    if not path.exists():
        write_text_atomic(path, text)
    elif (found := path.read_text(encoding="utf-8")) != text:
        changes = sorted(set(text.splitlines()) ^ set(found.splitlines()))
        raise MisuseError(f"{path}: the folder holds another run ({'; '.join(changes)}); choose another --out")


def publish(folder: Path, write: Callable[[Path], object]) -> None:
    """Let `write` fill a folder that appears under its name only when it is whole."""
    partial = folder.with_name(f"{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    write(partial)
    shutil.rmtree(folder, ignore_errors=True)
    partial.rename(folder)


def data_hash(triples: Iterable[Triple]) -> str:
    """A hash of the triples in their order, whatever file they came from."""
    digest = hashlib.sha256()
    for triple in triples:
        digest.update(orjson.dumps(row_of(triple), option=orjson.OPT_APPEND_NEWLINE))
    return digest.hexdigest()


def _table(config: TrainConfig) -> dict[str, Any]:
    """A configuration as TOML can hold it."""
    left_out = _OF_A_START if config.feedback else (*_OF_A_START, *_OF_FEEDBACK)
    return {name: value for name, value in _plain(asdict(config)).items() if name not in left_out}


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        items = cast("dict[str, Any]", value).items()
        return {name: _plain(item) for name, item in items if item is not None}
    if isinstance(value, tuple):
        return list(cast("tuple[Any, ...]", value))
    return str(value) if isinstance(value, Path) else value
