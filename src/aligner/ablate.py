"""Change one thing at a time, train with several seeds, and say what it did."""

import multiprocessing
import os
import threading
import time
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import replace
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple, cast

import torch

from aligner.ablating.found import Fate, Found
from aligner.ablating.show import show
from aligner.ablating.table import lines_of
from aligner.config import AblateConfig, Ablation, AblationRow, TrainConfig, config_of, read_config, read_toml
from aligner.correct import Aligner
from aligner.data.fields import row_of
from aligner.data.splits import hold_out
from aligner.errors import MisuseError, unknown
from aligner.files import write_rows
from aligner.jobs import progress
from aligner.planning.checking import check
from aligner.planning.given import given_triples
from aligner.planning.sizes import shape_in
from aligner.records import Exchange
from aligner.train import train
from aligner.training.card import Card, file_hash
from aligner.world import questions as world
from aligner.world.oracle import mark
from aligner.world.rows import held_out_rows, training_rows

_MEASURED_SEED = 2_000_003
"""of the held-out answers: others than those on which the demo is measured, for which nothing is chosen here"""


class Job(NamedTuple):
    """One row of a table with one seed; rows of several tables that come to the same are the same job."""

    ablation: Ablation
    row: AblationRow
    seed: int
    out: Path

    @property
    def key(self) -> str:
        """A hash of what is trained and on what it is measured."""
        training = training_of(self.ablation, self.row, seed=self.seed, triples=Path(), out=Path())
        triples = file_hash(self.ablation.triples) if self.ablation.triples else None
        measured = (self.ablation.world, self.ablation.answers, triples)
        return sha256(repr((training, measured)).encode()).hexdigest()[:16]

    @property
    def folder(self) -> Path:
        """Where the run lies."""
        return self.out / "runs" / self.key

    @property
    def result(self) -> Path:
        """Where what it found lies."""
        return self.folder / "found.json"


def ablate(config: AblateConfig) -> None:
    """aligner ablate: all runs that are not done yet, and then the tables."""
    ablations = {path.stem: read_ablation(path) for path in config.tables}
    tables = {name: jobs_of(ablation, config.out) for name, ablation in ablations.items()}
    for job in [job for table in tables.values() for job in table]:
        check(_training(job))
    jobs = {job.key: job for table in tables.values() for job in table}
    todo = [job for job in jobs.values() if not job.result.exists()]
    with progress("ablate", total=len(jobs), done=len(jobs) - len(todo), unit="runs") as tick:
        for found in run_all(todo, config.jobs):
            tick(1, f"{found.row}, seed {found.seed}: {found.seconds:.0f} s")
    for name, ablation in ablations.items():
        runs = {row.name: [Found.load(job.result) for job in tables[name] if job.row == row] for row in ablation.rows}
        show(ablation.title, lines_of(runs, ablation.against), ablation.against, out=config.out / name)


def read_ablation(path: Path) -> Ablation:
    """The table that a file describes; raises MisuseError where a row could not be trained."""
    ablation = read_config(Ablation, path)
    triples = ablation.triples and path.parent / ablation.triples
    ablation = replace(ablation, training=path.parent / ablation.training, triples=triples)
    names = [row.name for row in ablation.rows]
    if ablation.against not in names:
        raise unknown(f"row that {path} holds the others against", ablation.against, names)
    if len(set(names)) < len(names):
        raise MisuseError(f"{path}: two rows have the same name")
    if not ablation.seeds or len(set(ablation.seeds)) < len(ablation.seeds):
        raise MisuseError(f"{path}: seeds are one or more numbers that differ")
    if (ablation.triples is None) == (ablation.world == 0):
        raise MisuseError(f"{path}: name either triples or a number of rows of the closed world")
    for row in ablation.rows:
        training_of(ablation, row, seed=0, triples=path, out=path)
    return ablation


def training_of(ablation: Ablation, row: AblationRow, *, seed: int, triples: Path, out: Path) -> TrainConfig:
    """How a row is trained."""
    where = f'the row "{row.name}"'
    try:
        changes = tomllib.loads("\n".join(row.set))
    except tomllib.TOMLDecodeError as error:
        raise MisuseError(f"{where}: {error}; write a key and its value, as in correction.edit_weight = 3.0") from error
    table = _merged(read_toml(ablation.training), changes)
    return config_of(TrainConfig, {**table, "triples": triples, "out": out, "seed": seed}, where)


def jobs_of(ablation: Ablation, out: Path) -> list[Job]:
    """All runs of a table, seed by seed, so that runs at the same time seldom wait for the same stage."""
    return [Job(ablation, row, seed, out) for row in ablation.rows for seed in ablation.seeds]


def run_all(jobs: Sequence[Job], at_a_time: int) -> Iterator[Found]:
    """What the runs find, as they finish; each in a process of its own, with its share of the cores."""
    threads = max(1, torch.get_num_threads() // at_a_time)
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(at_a_time, context, _begin, (threads,)) as pool:
        try:
            for future in as_completed([pool.submit(run, job) for job in jobs]):
                yield future.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)  # what went wrong is told now, and not after all others
            raise


def _begin(threads: int) -> None:
    """Prepare a process for runs: its share of the cores, and no life of its own behind the command's."""
    torch.set_num_threads(threads)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def run(job: Job) -> Found:
    """Train one row with one seed, correct the held-out answers, and write down what became of them."""
    started = time.monotonic()
    training = _training(job)
    checkpoint = train(training)
    asked = _asked(job, training)
    aligner = Aligner.from_pretrained(str(checkpoint), device=training.device)
    corrections = aligner.correct_many((one.exchange for one in asked), batch=128)
    found = Found(
        row=job.row.name,
        seed=job.seed,
        steps=sum(stage["steps"] for stage in Card.load(checkpoint).stages),
        seconds=round(time.monotonic() - started, 1),
        parameters=shape_in(checkpoint).stored,
        fates=[one.fate(made.text) for one, made in zip(asked, corrections, strict=True)],
    )
    found.save(job.result)
    return found


class Asked(NamedTuple):
    """A held-out answer, and how it is told whether a text is a good one."""

    exchange: Exchange
    is_good: Callable[[str], bool]

    def fate(self, text: str) -> Fate:
        """What became of it."""
        answer = self.exchange.answer
        return Fate(good=self.is_good(answer), right=self.is_good(text), kept=text == answer)


def _asked(job: Job, training: TrainConfig) -> list[Asked]:
    """What a run is measured on: the closed world's oracle marks, or the held-out corrections are what is good."""
    if job.ablation.world:
        rows = held_out_rows(job.ablation.answers, seed=_MEASURED_SEED)
        return [Asked(Exchange(row.asked.text, row.answer), partial(_is_good, row.asked)) for row in rows]
    triples = hold_out(given_triples(training), training.held_out, seed=training.seed).held_out
    return [
        Asked(Exchange(row.question, row.answer, instruction=row.instruction), row.correction.__eq__) for row in triples
    ]


def _is_good(asked: world.Asked, text: str) -> bool:
    return mark(asked, text).good


def _training(job: Job) -> TrainConfig:
    """How the run is trained: what it begins with like others, it shares with them."""
    triples = job.ablation.triples or job.out / f"world-{job.ablation.world}-{job.seed}.jsonl"
    if job.ablation.world and not triples.exists():
        triples.parent.mkdir(parents=True, exist_ok=True)
        write_rows(triples, (row_of(row.triple) for row in training_rows(count=job.ablation.world, seed=job.seed)))
    training = training_of(job.ablation, job.row, seed=job.seed, triples=triples, out=job.folder)
    return replace(training, stages=job.out / "stages")


def _merged(table: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """A table with some of its keys changed, at any depth."""
    merged = dict(table)
    for name, value in changes.items():
        below: Any = merged.get(name)
        both = isinstance(value, dict) and isinstance(below, dict)
        merged[name] = _merged(cast("dict[str, Any]", below), cast("dict[str, Any]", value)) if both else value
    return merged
