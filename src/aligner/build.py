"""Build: questions, answers of many upstreams, corrections, filters, and triples. This file is the whole algorithm.

Every step reads and writes one store, and doing it again does nothing. So any number of processes may run the same
command at once, each may be killed at any moment, and the same command goes on where it was.
"""

import asyncio
import sys
import time
from collections.abc import Collection, Generator, Iterable
from contextlib import contextmanager
from functools import partial
from typing import NamedTuple

import orjson

from aligner.building import answers, corrections, estimating, judged, output, questions, sharded, showing, verdicts
from aligner.building.books import Books
from aligner.building.checking import check
from aligner.building.endpoints import Calls, Corrector, Waiting, check_collected, make
from aligner.building.estimating import Measured
from aligner.building.facts import facts
from aligner.building.held import begin, hold_to
from aligner.building.ledger import Ledger
from aligner.building.nouns import Fault, Stage
from aligner.building.spending import Purse
from aligner.building.status import figures
from aligner.building.store import Store
from aligner.building.workers import Worker
from aligner.config import BuildConfig
from aligner.errors import MisuseError, visible
from aligner.records import Question
from aligner.sharding.locking import holding

_PASSING: tuple[Fault, ...] = ("transient", "expired", "cut_off")
_FOR_GOOD: tuple[Fault, ...] = ("refused", "context", "auth", "unusable", "missing")


class Work(NamedTuple):
    """One process at work on a build."""

    config: BuildConfig
    store: Store
    ledger: Ledger
    calls: Calls


def build(config: BuildConfig) -> None:
    """aligner build: one stage, or all of them."""
    check(config)
    if config.stage == "review":
        from aligner.building import reviewing

        reviewing.serve(config)
    elif config.stage == "status":
        show_status(config)
    elif config.shard:
        sharded.run_shard(config, build_part)
    else:
        with _opened(config) as work:
            sharded.collect(config, work.store)
            build_triples(work)


def build_triples(work: Work) -> None:
    """The stages that are wanted, in their order; those that cost money only once their price is known and agreed."""
    config, store, wanted = work.config, work.store, _wanted(work.config)
    if "questions" in wanted:
        questions.gather(config, store)
        _say(questions.empty_lines(store))
    if not questions.is_gathered(store):
        raise MisuseError(f"{config.out}: has no questions yet; begin with aligner build questions")
    if wanted & {"answers", "corrections"}:
        agreed = what_is_agreed(work, wanted)
        if agreed is not None and not agreed:
            return
        waiting = make_calls(work, wanted, agreed)
        _say(showing.waiting_lines(waiting))
        if waiting:
            return
    # Two processes that end at the same time write the data set one behind the other: the last one has seen all.
    with holding(config.out / "verdicts.lock"):
        if "verdicts" in wanted:
            give_verdicts(work)
        _say(undecided := verdicts.waiting_lines(store))
        if "export" in wanted and not undecided:
            folder = output.write(config, store, work.ledger, facts(config, store))
            _say([f"{folder}: {store.kept('checked'):,} triples"])


def make_calls(work: Work, wanted: Collection[str], only: Collection[str] | None) -> list[Waiting]:
    """Ask for answers and corrections, in parts on many machines where that is wanted; gives what has to wait."""
    if work.config.engine == "ray" or work.config.shards or sharded.count_of(work.config.out):
        check_collected(work.calls, "answers", work.config.upstreams)
        check_collected(work.calls, "corrections", work.config.annotators)
        left = sharded.run(work.config, "aligner.build:build_part")
        return [Waiting(left, "batches, files or people: run the same command again", "parts")] if left else []
    return ask(work, wanted, only)


def build_part(config: BuildConfig) -> None:
    """All calls for the questions in a store, which are a part of those of a build."""
    with _opened(config) as work:
        ask(work, {"answers", "corrections"})


def ask(
    work: Work, wanted: Collection[str], only: Collection[str] | None = None, *, pilot: bool = False
) -> list[Waiting]:
    """Ask upstreams for answers and annotators for corrections, to all questions or to some; gives what has to wait."""
    config, store, ledger, calls = work
    if only is not None and not only:
        return []
    calls = calls._replace(ledger=ledger.up_to(estimating.last_place(config, only)))
    waiting: list[Waiting] = []
    if "answers" in wanted:
        begin(config, store, "answers")
        ledger.add(answers.requests(config, store, only))
        waiting += make(calls, "answers", config.upstreams, pilot=pilot)
        answers.collect(config, store, ledger, only)
    if "corrections" in wanted:
        begin(config, store, "corrections")
        left: list[Waiting] = []
        before = -1
        # Where a reply cannot be read, the next round asks again; the last round brings nothing new.
        while (ended := _ended(ledger, "corrections")) != before:
            before = ended
            ledger.add(corrections.requests(config, store, ledger, only))
            left = make(calls, "corrections", config.annotators, pilot=pilot)
        corrections.collect(config, store, ledger, only)
        waiting += left
    return waiting


def what_is_agreed(work: Work, wanted: Collection[str]) -> Collection[str] | None:
    """Ask for the pilot alone, say what the whole will take, and give the questions that may be asked: None for all."""
    config, store, ledger, _ = work
    if not config.upstreams and not config.annotators:
        return None
    found = estimating.estimate(config, store, ledger, _pilot(work, wanted))
    _say(showing.estimate_lines(config, found))
    if estimating.is_finished(config, store, ledger, wanted):
        return None
    if not estimating.has_prices(config) or found.cost <= found.spent or config.yes or config.max_cost is not None:
        return estimating.affordable(config, store, found)
    _say(["nothing more is asked until that is agreed to: the same command with --yes, or with --max-cost AMOUNT"])
    return ()


def give_verdicts(work: Work) -> None:
    """Filter all corrections, have a judge look at his share of them, and keep what passes as triples."""
    config, store, ledger, _ = work
    count_tokens = verdicts.token_counter(config.filters.tokenizer, config.filters.template)
    if config.judge:
        ledger.add(verdicts.requests(config, store, count_tokens))
        asyncio.run(judged.run(ledger, _judge(config)))
    verdicts.collect(config, store, ledger, count_tokens)


def show_status(config: BuildConfig) -> None:
    """Print how far the build is."""
    if not (config.out / "build.sqlite").exists():
        raise MisuseError(f"{config.out}: holds no build; begin with aligner build")
    with Store(config.out / "build.sqlite") as store:
        for line in showing.status_lines(config, figures(config, store, Books(store))):
            sys.stdout.write(f"{visible(line)}\n")


# ---- what these need -------------------------------------------------------------------------------------------------


def _wanted(config: BuildConfig) -> frozenset[str]:
    return frozenset(
        ("questions", "answers", "corrections", "verdicts", "export") if config.stage == "all" else (config.stage,)
    )


def _pilot(work: Work, wanted: Collection[str]) -> Measured:
    """Make the pilot's calls, once, and measure them."""
    config, store, ledger, _ = work
    name = f"pilot {config.stage}"
    if (kept := store.value(name)) is None:
        pilot = estimating.pilot_of(config, store)
        began, before = time.monotonic(), _counts(ledger)
        if not sharded.count_of(config.out):  # parts may have calls under way that are not known here
            ask(work, wanted, pilot, pilot=True)
        seconds = max(time.monotonic() - began, 1e-6)
        pace = {stage: (count - before[stage]) / seconds for stage, count in _counts(ledger).items()}
        found = estimating.measured(config, store, ledger, pilot, pace)
        kept = store.once(name, orjson.dumps(found._asdict()).decode())
    return Measured(**orjson.loads(kept))


def _counts(ledger: Ledger) -> dict[Stage, int]:
    return {"answers": _ended(ledger, "answers"), "corrections": _ended(ledger, "corrections")}


def _ended(ledger: Ledger, stage: Stage) -> int:
    state = ledger.state(stage)
    return state.done + sum(state.failed.values())


def _judge(config: BuildConfig) -> judged.Compare:
    from aligner.judge import load_judge

    judge = load_judge(config.judge)

    async def compare(question: Question, answer: str, correction: str) -> tuple[float, str]:
        verdict = await judge.compare(question, answer, correction, config.quality)
        return verdict.preference, verdict.said

    return compare


def _aligner(config: BuildConfig, name: str) -> Corrector:
    from aligner.correct import Aligner

    return Aligner.from_pretrained(name, device=config.device).correct_many


@contextmanager
def _opened(config: BuildConfig) -> Generator[Work]:
    """The store of the build; what failed in a way that may pass is to be done again, the rest where that is wanted."""
    with Store(config.out / "build.sqlite") as store, Worker(config.out) as worker:
        hold_to(config, store)
        ledger = Ledger(store, worker)
        ledger.reopen(_PASSING)
        if config.failed == "retry":
            ledger.reopen(_FOR_GOOD)
            for stage in ("answers", "corrections", "verdicts"):
                store.restore(stage, _FOR_GOOD)
        purse = Purse(ledger, config.max_cost, config.currency)
        yield Work(
            config, store, ledger, Calls(ledger, purse, config.out / "batches", partial(_aligner, config), _tell)
        )


def _say(lines: Iterable[str]) -> None:
    for line in lines:
        _tell(line)


def _tell(line: str) -> None:
    sys.stderr.write(f"{visible(line)}\n")
    sys.stderr.flush()
