"""Calls that are made at once: leased, made by many at a time, and put into the ledger."""

import asyncio
from collections.abc import Collection, Coroutine, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any

from aligner.building.attempts import Attempts, Stop
from aligner.building.endpoint import Endpoint, Forecast
from aligner.building.failures import is_of_all, one_line
from aligner.building.ledger import Ledger
from aligner.building.nouns import Failure, Reply, Request, Stage
from aligner.building.pacing import Pacer
from aligner.building.spending import Purse
from aligner.errors import ModelError
from aligner.jobs import Tick
from aligner.models.openai import OpenAIModel
from aligner.records import Usage

_BETWEEN_BEATS = 20.0
_BETWEEN_LOOKS = 0.5
"""seconds between two looks whether other workers are done, or gone"""
_FIRST_REFUSALS = 8
"""of a model that has never answered, before it is taken to refuse all: a wrong parameter, or a wrong address"""


@dataclass(slots=True)
class _Run:
    """What the calls of one run have in common."""

    ledger: Ledger
    stage: Stage
    purse: Purse
    tick: Tick
    stop: Stop = field(default_factory=Stop)
    held: set[str] = field(default_factory=set[str])
    """keys that are leased"""


async def run_live(
    ledger: Ledger,
    stage: Stage,
    endpoints: Sequence[Endpoint],
    purse: Purse,
    tick: Tick,
) -> None:
    """Ask until nothing of these endpoints is to be done, neither here nor by any other worker that lives.

    Of what a model says is wrong, what may pass is tried again, the rest is kept as a failure. Whatever ends the run,
    what was leased and not asked is free again. Interrupted once, it asks nothing new and takes the replies to what it
    asked; a second time, it breaks off, and what was asked counts as paid. Raises BudgetError once the purse is empty,
    ModelError where a model can answer no call at all, and what a model raises besides.
    """
    run = _Run(ledger, stage, purse, tick)
    beat = asyncio.create_task(_beat(ledger))
    try:
        async with AsyncExitStack() as opened:
            for model in (endpoint.model for endpoint in endpoints):
                if isinstance(model, OpenAIModel):
                    await opened.enter_async_context(model)
            await _together(run, [_Caller(run, endpoint).work() for endpoint in endpoints])
    finally:
        beat.cancel()
        ledger.give_back(list(run.held))
    if run.stop.problems:
        raise ModelError(one_line(run.stop.problems))
    if run.stop.out_of_money:
        raise purse.error(_left(ledger, stage, endpoints))


def _left(ledger: Ledger, stage: Stage, endpoints: Sequence[Endpoint]) -> int:
    state = ledger.state(stage, [endpoint.name for endpoint in endpoints])
    return state.todo + state.leased


async def _together(run: _Run, work: Sequence[Coroutine[Any, Any, None]]) -> None:
    """Do all at once; the first error ends the others, and is raised as it is."""
    tasks = [asyncio.create_task(each) for each in work]
    try:
        await _ending(run, tasks)
        for task in tasks:
            if task.done():
                task.result()
    finally:
        await _ended(tasks)


async def _ending(run: _Run, tasks: Collection[asyncio.Task[None]]) -> None:
    """Wait for all, or for an error; where that is interrupted, only for what is under way."""
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
    except asyncio.CancelledError:
        run.stop.event.set()
        run.tick(0, "interrupted: waits for the calls that are under way")
        await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
        raise


async def _ended(tasks: Collection[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def _beat(ledger: Ledger) -> None:
    while True:
        await asyncio.sleep(_BETWEEN_BEATS)
        ledger.beat()


class _Caller:
    """All calls of one endpoint."""

    def __init__(self, run: _Run, endpoint: Endpoint) -> None:
        self._run, self._endpoint = run, endpoint
        state = run.ledger.state(run.stage, [endpoint.name])
        forecast = Forecast(state.done, Usage(state.prompt_tokens, state.completion_tokens))
        self._attempts = Attempts(endpoint, _pacer(run, endpoint), forecast, run.purse, run.stop)
        self._has_answered = state.done > 0
        self._refusals: list[tuple[Request, Failure]] = []
        """of a model that has never answered"""

    async def work(self) -> None:
        """Lease and ask until nothing is left."""
        calls = set[asyncio.Task[None]]()
        try:
            while True:
                for request in self._lease(self._endpoint.at_a_time - len(calls)):
                    calls.add(asyncio.create_task(self._call(request)))
                if not calls and (self._run.stop.is_set or not await self._others()):
                    return
                if calls:
                    done, _ = await asyncio.wait(calls, return_when=asyncio.FIRST_COMPLETED)
                    await asyncio.gather(*done)
                    calls -= done
        finally:
            await _ended(calls)

    def _lease(self, free: int) -> list[Request]:
        run = self._run
        if run.stop.is_set or free < 1:
            return []
        requests = run.ledger.lease(run.stage, [self._endpoint.name], free)
        run.held.update(request.key for request in requests)
        return requests

    async def _others(self) -> bool:
        """Wait for other workers; says whether there still is something to be done."""
        run = self._run
        self._put_refusals()
        name = self._endpoint.name
        todo = run.ledger.state(run.stage, [name]).todo
        if not todo and not run.ledger.is_under_way(run.stage, name):
            return False
        if not todo and not run.ledger.recover():
            await run.stop.unless(asyncio.sleep(_BETWEEN_LOOKS))
        return True

    async def _call(self, request: Request) -> None:
        outcome = await self._attempts.outcome(request)
        if isinstance(outcome, Failure) and not self._has_answered and is_of_all(outcome):
            self._refused(request, outcome)
        elif outcome is not None:
            self._has_answered = self._has_answered or isinstance(outcome, Reply)
            self._put(request, outcome)

    def _put(self, request: Request, outcome: Reply | Failure) -> None:
        self._run.ledger.put(request.key, outcome)
        self._run.held.discard(request.key)
        self._run.tick(1)

    def _refused(self, request: Request, failure: Failure) -> None:
        """Whether it is the request or all of them that a model refuses, its first answer tells."""
        self._refusals.append((request, failure))
        if len(self._refusals) >= _FIRST_REFUSALS:
            self._run.stop.because(f"{failure.said} (it has answered no call, and refused {len(self._refusals)})")

    def _put_refusals(self) -> None:
        for request, failure in self._refusals:
            self._put(request, failure)
        self._refusals.clear()


def _pacer(run: _Run, endpoint: Endpoint) -> Pacer:
    limits = endpoint.limits
    rates = limits.requests_per_minute, limits.tokens_per_minute
    return Pacer(run.ledger.store, endpoint.name, *rates, minute=limits.minute)
