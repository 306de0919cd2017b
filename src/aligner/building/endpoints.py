"""How the calls of a stage are made: each model in its own way, all with the same ledger."""

import asyncio
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from aligner.building import batches, first_aligner
from aligner.building.batches import BatchEndpoint, FilesEndpoint, Progress
from aligner.building.checking import ALIGNER, HUMAN, way_of
from aligner.building.endpoint import Endpoint, Limits
from aligner.building.ledger import Ledger
from aligner.building.live import run_live
from aligner.building.nouns import Stage
from aligner.building.spending import Prices, Purse
from aligner.config import BuildAnnotator, BuildUpstream
from aligner.errors import MisuseError
from aligner.jobs import Tick, progress
from aligner.models import load_model
from aligner.records import Correction, Exchange

Model = BuildUpstream | BuildAnnotator
Corrector = Callable[[Sequence[Exchange]], Iterable[Correction]]


class Calls(NamedTuple):
    """What it takes to make calls."""

    ledger: Ledger
    purse: Purse
    folder: Path
    """of the batch files"""
    aligner: Callable[[str], Corrector]
    """loads a first Aligner"""
    say: Callable[[str], None]


class Waiting(NamedTuple):
    """Calls that nobody here can bring to an end, and what would."""

    calls: int
    cure: str
    what: str = "calls"


def make(calls: Calls, stage: Stage, models: Sequence[Model], *, pilot: bool = False) -> list[Waiting]:
    """Make all calls of some models that can be made now, and give what has to wait.

    In a pilot batches are asked live, as nobody waits a day for an estimate; files and people are left out. Raises
    BudgetError once all money is spent, and ModelError where a model can answer nothing.
    """
    by_way = {way: [model for model in models if way_of(model) == way] for way in _WAYS}
    waiting = [] if pilot else _sent(calls, stage, by_way["batch"])
    check_collected(calls, stage, by_way["live"])
    asked_live = [model for model in by_way["batch"] if pilot and not batches.waiting(calls.ledger, stage, model.name)]
    _live(calls, stage, [*by_way["live"], *asked_live])
    for model in by_way[ALIGNER]:
        _here(calls, stage, model)
    if pilot:
        return []
    # What was sent before the live calls may be done behind them.
    waiting = _sent(calls, stage, by_way["batch"]) if waiting else []
    return [*waiting, *_written(calls, stage, by_way["files"]), *_people(calls.ledger, stage, by_way[HUMAN])]


_WAYS = ("live", "batch", "files", ALIGNER, HUMAN)


def prices_of(model: Model, *, live: bool = False) -> Prices:
    """What its calls cost; live ones cost all of it, whatever the others do."""
    share = model.batch_price if way_of(model) == "batch" and not live else 1.0
    return Prices(model.price_in, model.price_out, share)


def endpoint_of(model: Model) -> Endpoint:
    """A model as one that is asked live; raises what loading it raises."""
    return Endpoint(
        name=model.name,
        model=load_model(model.model),
        prices=prices_of(model, live=True),
        limits=Limits(model.requests_per_minute, model.tokens_per_minute),
        at_a_time=model.at_a_time,
        attempts=model.attempts,
    )


def check_collected(calls: Calls, stage: Stage, models: Sequence[Model]) -> None:
    """Raise MisuseError for a model that would be asked in another way, while calls that were paid are in batches."""
    for model in models:
        if count := batches.waiting(calls.ledger, stage, model.name):
            raise MisuseError(
                f"{model.name}: {count:,} calls are in batches or files that were not collected;"
                " leave its calling as it was, and begin no parts, until they are"
            )


def _live(calls: Calls, stage: Stage, models: Sequence[Model]) -> None:
    names = [model.name for model in models]
    state = calls.ledger.state(stage, names)
    if not names or not state.todo + state.leased:
        return
    endpoints = [endpoint_of(model) for model in models]
    done = state.done + sum(state.failed.values())
    with progress(stage, done + state.todo + state.leased, done=done, unit="calls") as tick:
        asyncio.run(run_live(calls.ledger, stage, endpoints, calls.purse, _with_money(calls.purse, tick)))


def _here(calls: Calls, stage: Stage, model: Model) -> None:
    """Have a first Aligner correct in this process, which is loaded only where there is something to do."""
    state = calls.ledger.state(stage, [model.name])
    if not state.todo:
        return
    correct_many = calls.aligner(model.model.partition(":")[2])
    done = state.done + sum(state.failed.values())
    with progress(f"{stage} of {model.name}", done + state.todo + state.leased, done=done) as tick:

        def ticking(exchanges: Sequence[Exchange]) -> Iterator[Correction]:
            for correction in correct_many(exchanges):
                yield correction
                tick(1)

        first_aligner.run(calls.ledger, stage, model.name, ticking)


def _with_money(purse: Purse, tick: Tick) -> Tick:
    def told(count: int = 1, note: str = "") -> None:
        spent = purse.ledger.spent()
        tick(count, note or (f"{spent:,.2f} {purse.currency} spent" if spent else ""))

    return told


def _sent(calls: Calls, stage: Stage, models: Sequence[Model]) -> list[Waiting]:
    found: list[Waiting] = []
    for model in models:
        endpoint = BatchEndpoint.of(model.name, model.model, prices_of(model))
        left = batches.run(calls.ledger, stage, endpoint, calls.folder, calls.purse, calls.say)
        _check_paid(calls.purse, left)
        if left.todo + left.waiting:
            found.append(Waiting(left.todo + left.waiting, f"batches of {model.name}: run the same command again"))
    return found


def _check_paid(purse: Purse, left: Progress) -> None:
    """Raise BudgetError where calls wait for money alone, or where all of it is spent."""
    if left.unpaid and (not left.waiting or purse.unspent() <= 0):
        raise purse.error(left.todo)


def _written(calls: Calls, stage: Stage, models: Sequence[Model]) -> list[Waiting]:
    found: list[Waiting] = []
    for model in models:
        endpoint = FilesEndpoint.of(model.name, model.model, prices_of(model))
        left = batches.files.run(calls.ledger, stage, endpoint, calls.folder, calls.purse, calls.say)
        _check_paid(calls.purse, left)
        if left.todo + left.waiting:
            cure = (
                f"files of {model.name} in {calls.folder}: let the engine answer them, and run the same command again"
            )
            found.append(Waiting(left.todo + left.waiting, cure))
    return found


def _people(ledger: Ledger, stage: Stage, models: Sequence[Model]) -> list[Waiting]:
    states = ((model.name, ledger.state(stage, [model.name])) for model in models)
    return [
        Waiting(state.todo + state.leased, f"{name}, on the page of aligner build review")
        for name, state in states
        if state.todo + state.leased
    ]
