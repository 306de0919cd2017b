"""Builds in parts: each has a store of its own, on any machine, and all of them end in one."""

import hashlib
import importlib
import os
import sqlite3
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple, TypeVar, cast

import orjson

from aligner.building.books import Books
from aligner.building.checking import HUMAN, way_of
from aligner.building.dealing import Dealer, bring_calls, is_open, spent, spent_here
from aligner.building.held import hold_to
from aligner.building.principles import load
from aligner.building.questions import is_gathered
from aligner.building.schema import BUSY_SECONDS
from aligner.building.spending import BudgetError
from aligner.building.store import Store
from aligner.config.building import BuildAnnotator, BuildConfig, BuildUpstream
from aligner.errors import MisuseError, OutputFileError
from aligner.files import write_json_atomic
from aligner.files.output import naming
from aligner.jobs import progress
from aligner.sharding.calling import Part
from aligner.sharding.cutting import shard_of
from aligner.sharding.engines import Engine, run_parts
from aligner.sharding.locking import holding

Limited = TypeVar("Limited", BuildUpstream, BuildAnnotator)
_STORE = "build.sqlite"
_PASSING = ("transient", "expired", "cut_off")
_FOR_GOOD = ("refused", "context", "auth", "unusable", "missing")


class PartTask(NamedTuple):
    """A part that is to be built by a function with a dotted name."""

    config: BuildConfig
    """of the part: its folder, and its share of limits and money"""
    build_part: str
    purpose: Mapping[str, object]
    """all that its answers and corrections depend on, to know whether it is finished"""


class Ending(NamedTuple):
    """How the build of a part ended."""

    waits: bool = False
    """whether calls wait for batches, files or people"""
    stopped: bool = False
    """whether its share of the money is spent"""


def run(config: BuildConfig, build_part: str) -> int:
    """Build all parts on the engine of the configuration, and bring them into the main store.

    Gives the number of parts of which calls still wait: for batches, files or people.

    `build_part` is the dotted name (`module:name`) of a function of a BuildConfig, which asks for all answers and
    corrections to the questions in the store of `config.out`. The main store has the questions already. Limits are
    divided by the parts that are built at a time, and what may be spent by the questions. A part that is finished is
    not built again; where all are, no engine is started.
    """
    workers = config.workers or os.cpu_count() or 1
    parts = _Parts.of(config.out, config.shards or count_of(config.out) or workers)
    with Store(config.out / _STORE) as store:
        collect(config, store)
        # Without a number of workers, a cluster may build all parts at once.
        at_once = min(parts.count, workers) if config.workers or not config.ray_address else parts.count
        tasks = _deal(config, parts, store, range(parts.count), build_part=build_part, at_once=at_once)
    doing = [Part(number, parts.count, task) for number, task in tasks.items()]
    engine = Engine(name=config.engine, workers=config.workers, address=config.ray_address)
    ended: list[Ending] = []
    with progress("build", parts.count, done=parts.count - len(doing), unit="parts") as tick:

        def note(_: Part, ending: object) -> None:
            ended.append(cast(Ending, ending))
            tick()

        try:
            run_parts(doing, "aligner.building.sharded:build", engine, note)
        finally:
            with Store(config.out / _STORE) as store:
                collect(config, store)
                total = spent(store)
    if stopped := sum(ending.stopped for ending in ended):
        raise BudgetError(
            f"stopped: {total:,.4g} {config.currency} spent of --max-cost {config.max_cost:g}, {stopped:,} of"
            f" {parts.count:,} parts are left; the same command with a greater --max-cost goes on"
        )
    return sum(ending.waits for ending in ended)


def build(task: PartTask, _deaths: int = 0) -> Ending:
    """Build one part in this process, however often its process died; without money for more it ends, others go on."""
    module, _, name = task.build_part.partition(":")
    try:
        _build(task, getattr(importlib.import_module(module), name))
    except BudgetError:
        return Ending(stopped=True)
    with Store(task.config.out / _STORE) as store:
        return Ending(waits=is_open(store, ()))


def run_shard(config: BuildConfig, build_part: Callable[[BuildConfig], None]) -> None:
    """`--shard i/N`: build that one part in this process, with its share of limits and money.

    Raises MisuseError where the main store has no questions: they are gathered once, before the parts.
    """
    number, count = shard_of(config.shard)
    main = config.out / _STORE
    if not main.is_file():
        raise MisuseError(_no_questions(config))
    parts = _Parts.of(config.out, count)
    # Looks at many questions take long, and many machines have them at a time.
    with copied(main, parts.folder(number)) as copy, Store(copy) as store:
        if not is_gathered(store):
            raise MisuseError(_no_questions(config))
        hold_to(config, store)
        tasks = _deal(config, parts, store, [number], build_part="", at_once=count)
    for task in tasks.values():
        _build(task, build_part)


def collect(config: BuildConfig, store: Store) -> int:
    """Bring what parts have so far into the main store, and give the number of parts; does nothing without parts.

    A part that has not changed since is left out. Of calls without an outcome only those to people come along, who
    write on the page of the main store.
    """
    parts = _Parts(config.out, count_of(config.out))
    people = [one.name for one in config.annotators if way_of(one) == HUMAN]
    for number in range(parts.count):
        path, mark = parts.store(number), parts.folder(number) / "merged.json"
        # Taken before the rows are read, so that what is written behind that has another one.
        stamp = _stamp(path)
        if path.is_file() and _read(mark) != stamp:
            store.merge(path)
            if people:
                with Store(path) as part:
                    bring_calls(store, part, people)
            write_json_atomic(mark, stamp)
    return parts.count


def count_of(out: Path) -> int:
    """The number of parts of a build; 0 for one that was not begun in parts."""
    found = _read(out / "parts" / "manifest.json")
    return cast(int, found["parts"]) if found else 0


@dataclass(frozen=True, slots=True)
class _Parts:
    """The folders of a build's parts."""

    out: Path
    count: int

    @classmethod
    def of(cls, out: Path, count: int) -> "_Parts":
        """So many, unless another run has begun with another number, which is a MisuseError."""
        folder = out / "parts"
        with naming(out):
            folder.mkdir(parents=True, exist_ok=True)
        with holding(folder / "lock"):
            found = count_of(out) or count
            write_json_atomic(folder / "manifest.json", {"parts": found})
        if found != count:
            cure = f"delete {folder}, or name another folder with --out"
            raise MisuseError(f"{folder}: the build was begun in {found} parts, not in {count}; {cure}")
        return cls(out, count)

    def folder(self, number: int) -> Path:
        """The folder of a part, which is the `out` of its build."""
        return self.out / "parts" / f"{number:05d}"

    def store(self, number: int) -> Path:
        """The store of a part."""
        return self.folder(number) / _STORE


def _build(task: PartTask, build_part: Callable[[BuildConfig], None]) -> None:
    build_part(task.config)
    faults = (*_PASSING, *_FOR_GOOD) if task.config.failed == "retry" else _PASSING
    with Store(task.config.out / _STORE) as store:
        if not is_open(store, faults):
            write_json_atomic(task.config.out / "done.json", task.purpose)


def _deal(
    config: BuildConfig, parts: _Parts, store: Store, numbers: Sequence[int], *, build_part: str, at_once: int
) -> dict[int, PartTask]:
    """Give each part that is not finished what is known of its questions, and say what to build."""
    dealer = Dealer(store, parts.count)
    purposes = {number: _purpose(config, dealer.sizes[number]) for number in numbers if dealer.sizes[number]}
    left = {n: purpose for n, purpose in purposes.items() if _read(parts.folder(n) / "done.json") != purpose}
    for number in left:
        with Store(parts.store(number)) as part:
            dealer.deal(number, part.path)
    limits = _limits(config, parts, store, {number: dealer.sizes[number] for number in left}, of=dealer.sizes)
    shared = _shared(config, at_once)
    return {
        number: PartTask(
            replace(shared, out=parts.folder(number), max_cost=limits.get(number)), build_part, purposes[number]
        )
        for number in left
    }


def _limits(
    config: BuildConfig, parts: _Parts, store: Store, left: Mapping[int, int], *, of: Mapping[int, int]
) -> Mapping[int, float]:
    """What each part that is left may spend, all its runs together, by its questions; nothing without a limit.

    What batches may still cost counts as spent.
    """
    if config.max_cost is None or not left:
        return {}
    if config.shard:
        # A part that is alone does not know how far the others are, so its share is one of the whole, in every run.
        may_spend = max(config.max_cost - spent_here(store) - Books(store).promised(), 0.0)
        return {number: may_spend * questions / sum(of.values()) for number, questions in left.items()}
    begun = {number: _bound(parts.store(number)) for number in of if parts.store(number).is_file()}
    promised = Books(store).promised() + sum(open_ for _, open_ in begun.values())
    may_spend = max(config.max_cost - spent(store) - promised, 0.0)
    return {
        number: sum(begun[number]) + may_spend * questions / sum(left.values()) for number, questions in left.items()
    }


def _bound(path: Path) -> tuple[float, float]:
    """What a part has spent, and what its batches may still cost."""
    with Store(path) as part:
        return spent(part), Books(part).promised()


def _shared(config: BuildConfig, at_once: int) -> BuildConfig:
    """The configuration of one part of so many that run at a time."""
    return replace(
        config,
        stage="all",
        shard="",
        engine="local",
        shards=0,
        workers=0,
        yes=True,
        upstreams=tuple(_limited(one, at_once) for one in config.upstreams),
        annotators=tuple(_limited(one, at_once) for one in config.annotators),
    )


def _limited(model: Limited, at_once: int) -> Limited:
    return replace(
        model,
        requests_per_minute=model.requests_per_minute / at_once,
        tokens_per_minute=model.tokens_per_minute / at_once,
    )


def _purpose(config: BuildConfig, questions: int) -> Mapping[str, object]:
    """All that decides about the answers and corrections of a part; how fast and at what price does not."""
    asked = [
        replace(one, requests_per_minute=0.0, tokens_per_minute=0.0, at_a_time=1, price_in=0.0, price_out=0.0)
        for one in (*config.upstreams, *config.annotators)
    ]
    others = config.answers_per_question, config.twice, config.seed, config.failed, load(config.principles).version_hash
    return {"questions": questions, "of": hashlib.sha256(repr((asked, others)).encode()).hexdigest()}


def _stamp(path: Path) -> Mapping[str, object]:
    """What changes when a store or its log does."""
    return {"store": _seen(path), "log": _seen(path.with_name(path.name + "-wal"))}


def _seen(path: Path) -> list[int]:
    try:
        seen = path.stat()
    except FileNotFoundError:
        return []
    return [seen.st_size, seen.st_mtime_ns]


def _read(path: Path) -> Mapping[str, object]:
    return cast(Mapping[str, object], orjson.loads(path.read_bytes())) if path.is_file() else {}


@contextmanager
def copied(main: Path, folder: Path) -> Generator[Path]:
    """A copy of a store that nobody else opens, as it was at one moment, whoever writes to it."""
    copy = folder / "questions.sqlite"
    with naming(folder):
        folder.mkdir(parents=True, exist_ok=True)
        _remove(copy)
    try:
        _copy(main, copy)
        yield copy
    finally:
        _remove(copy)


def _copy(main: Path, copy: Path) -> None:
    try:
        with closing(sqlite3.connect(main, timeout=BUSY_SECONDS)) as source, closing(sqlite3.connect(copy)) as target:
            source.backup(target)
    except sqlite3.Error as error:
        raise OutputFileError(f"{main}: cannot be copied to {copy}: {error}") from error


def _remove(store: Path) -> None:
    for ending in ("", "-wal", "-shm"):
        store.with_name(store.name + ending).unlink(missing_ok=True)


def _no_questions(config: BuildConfig) -> str:
    return f'{config.out}: has no questions yet: run "aligner build questions" with this configuration once, then parts'
