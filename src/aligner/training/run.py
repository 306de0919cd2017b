"""The run folder of one training: what it was, how far it came, and what it made."""

import hashlib
import shutil
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, cast

import orjson
import tomli_w
from rich.console import Console
from rich.text import Text

from aligner.config import OnBadRow, TrainConfig
from aligner.data.fields import row_of, triple_of
from aligner.errors import MisuseError, OutputFileError
from aligner.files import bad_rows_named, read, write_rows, write_text_atomic
from aligner.records import Triple
from aligner.training.adapter import Progress

_PLACES = ("triples", "out", "feedback")
"""fields that name places on one machine; they do not change what is made"""
_OF_FEEDBACK = ("feedback", "reviewers", "votes", "most_per_reviewer")
"""fields that mean nothing where no log is read"""


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
        self._claim("config.toml", tomli_w.dumps(_table(config)))

    def keep_feedback(self, rows: Callable[[], Iterable[Mapping[str, object]]]) -> None:
        """Write down what a log gives now: it goes on growing, and a run that is taken up again must not see that."""
        if not self._feedback.exists():
            write_rows(self._feedback, rows())

    def read_triples(self) -> list[Triple]:
        """The triples of the run; raises MisuseError when they are not those that it began with."""
        given = self._read(self.config.triples, self.config.on_bad_row) if self.config.triples else []
        judged = self._read(self._feedback, "stop") if self.config.feedback else []
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
        return {name: value for name, value in _table(self.config).items() if name not in _PLACES}

    def log(self, stage: str, progress: Progress) -> None:
        """Add a line to metrics.jsonl."""
        self._append("metrics.jsonl", {"stage": stage, **progress._asdict()})

    def save_samples(self, samples: Iterable[Mapping[str, object]]) -> None:
        """Write what the finished Aligner makes of held-out answers."""
        text = b"".join(orjson.dumps(sample, option=orjson.OPT_APPEND_NEWLINE) for sample in samples)
        write_text_atomic(self.folder / "samples.jsonl", text.decode())

    def say(self, line: str) -> None:
        """Tell the user something, on standard error."""
        print(line, file=sys.stderr, flush=True)

    def show(self, title: str, sample: Text) -> None:
        """Show a masked sample, on standard error."""
        console = Console(stderr=True, highlight=False, soft_wrap=True)
        console.print(Text(f"{title}, one row (loss on green): ") + sample)

    @property
    def _feedback(self) -> Path:
        return self.folder / "feedback.jsonl"

    def _read(self, path: Path, on_bad_row: OnBadRow) -> list[Triple]:
        bad_rows = bad_rows_named(on_bad_row, self.folder / "triples")
        triples = [triple for _, triple in read(path, triple_of, bad_rows=bad_rows)]
        bad_rows.finish()
        for reason, count in bad_rows.reasons.items():
            self.say(f"{count:,} rows skipped: {reason}")
        return triples

    def _append(self, name: str, row: Mapping[str, object]) -> None:
        with (self.folder / name).open("ab") as file:
            file.write(orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE))

    def _claim(self, name: str, text: str) -> None:
        """Write down what this run is, or make sure that the folder holds the same run."""
        path = self.folder / name
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
    left_out = () if config.feedback else _OF_FEEDBACK
    return {name: value for name, value in _plain(asdict(config)).items() if name not in left_out}


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        items = cast("dict[str, Any]", value).items()
        return {name: _plain(item) for name, item in items if item is not None}
    if isinstance(value, tuple):
        return list(cast("tuple[Any, ...]", value))
    return str(value) if isinstance(value, Path) else value
