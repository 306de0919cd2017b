"""One call from its first attempt to what comes of it in the end: in its turn, within the purse, tried again."""

import asyncio
import random
from collections.abc import Coroutine
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from aligner.building.endpoint import Endpoint, Forecast, usage_of
from aligner.building.failures import Problem, problem_of
from aligner.building.nouns import Failure, Reply, Request
from aligner.building.pacing import Pacer
from aligner.building.spending import Purse
from aligner.errors import ModelError
from aligner.models.openai import OpenAIModel
from aligner.records import ChatModel, Completion, Usage

_FIRST_WAIT, _LONGEST_WAIT = 0.5, 60.0
"""seconds of back-off"""
_LONGEST_ASKED = 3600.0
"""seconds that a server may ask for, and for which a call is refused for haste before that counts as a failure"""
_IN_A_ROW = 8
"""calls that fail after all their attempts before the server is taken for dead"""


@dataclass(slots=True)
class Stop:
    """Whether, and why, no other call is to be begun; those that are under way are paid for, and come to their end."""

    event: asyncio.Event = field(default_factory=asyncio.Event)
    problems: list[str] = field(default_factory=list[str])
    out_of_money: bool = False

    def because(self, problem: str) -> None:
        """Stop for a problem that any other call would meet, too."""
        self.problems.append(problem)
        self.event.set()

    def for_money(self) -> None:
        """Stop since the purse is empty."""
        self.out_of_money = True
        self.event.set()

    @property
    def is_set(self) -> bool:
        """Whether it is time to stop."""
        return self.event.is_set()

    async def unless(self, waiting: Coroutine[Any, Any, None]) -> bool:
        """Wait for something or for the stop; says whether the run still goes on."""
        task, stop = asyncio.create_task(waiting), asyncio.create_task(self.event.wait())
        try:
            await asyncio.wait([task, stop], return_when=asyncio.FIRST_COMPLETED)
            if task.done():
                task.result()
        finally:
            task.cancel()
            stop.cancel()
            await asyncio.gather(task, stop, return_exceptions=True)
        return not self.is_set


class _Attempt(NamedTuple):
    """What came of asking once, and what that has cost."""

    outcome: Reply | Problem
    cost: float


class Attempts:
    """How calls of an endpoint are made."""

    def __init__(self, endpoint: Endpoint, pacer: Pacer, forecast: Forecast, purse: Purse, stop: Stop) -> None:
        self._endpoint, self._pacer, self._forecast = endpoint, pacer, forecast
        self._purse, self._stop = purse, stop
        self._in_a_row = 0

    async def outcome(self, request: Request) -> Reply | Failure | None:
        """What comes of a request in the end; nothing where the run was stopped before."""
        attempt, waited = 0, 0.0
        while await self._may_ask(request):
            outcome, cost = await self._ask(request)
            if isinstance(outcome, Reply):
                self._in_a_row = 0
                return outcome._replace(cost=cost)
            wait = min(outcome.wait or 0.0, _LONGEST_ASKED)
            waited += wait
            # Whoever is asked to wait has not failed.
            attempt += not (outcome.crowded and wait and waited < _LONGEST_ASKED)
            if not outcome.ends_all and (not outcome.passing or attempt >= self._endpoint.attempts):
                self._note(outcome)
                return outcome.failure(cost)
            if cost:
                # At once, or the purse would not know of it while this call goes on.
                self._purse.ledger.book(request, cost)
            if outcome.ends_all:
                self._stop.because(outcome.said)
            else:
                await self._pause(outcome, wait, attempt)
        return None

    async def _may_ask(self, request: Request) -> bool:
        """Wait for this call's turn; says whether it is to be made."""
        if self._stop.is_set or not await self._stop.unless(self._pacer.wait(_sum(self._forecast.of(request)))):
            return False
        if self._endpoint.prices.are_nothing or self._purse.may_spend():
            return True
        self._stop.for_money()
        return False

    async def _ask(self, request: Request) -> _Attempt:
        expected, model = self._forecast.of(request), self._endpoint.model
        try:
            completion = await _asked(model, request)
        except asyncio.CancelledError:
            self._broken_off(request, expected)
            raise
        except ModelError as error:
            outcome: Reply | Problem = problem_of(error, model)
            used = _used(request, outcome, expected)
        else:
            used = usage_of(request, completion.text, completion.usage)
            self._forecast.learn(request, used)
            outcome = Reply(completion.text, completion.finish_reason, used.prompt_tokens, used.completion_tokens)
        self._pacer.settle(_sum(expected), _sum(used))
        return _Attempt(outcome, self._cost(used))

    def _broken_off(self, request: Request, expected: Usage) -> None:
        """Note what a call may cost whose answer nobody waited for."""
        if cost := self._cost(expected):
            self._purse.ledger.put(request.key, Failure("cut_off", "the run was broken off while it was asked", cost))

    def _cost(self, usage: Usage) -> float:
        return self._endpoint.prices.cost(usage.prompt_tokens, usage.completion_tokens)

    async def _pause(self, problem: Problem, wait: float, attempt: int) -> None:
        """Wait before the next attempt: all together where there are too many calls, or else this one alone."""
        if problem.crowded and wait:
            self._pacer.pause(wait)
        else:
            await self._stop.unless(asyncio.sleep(max(wait, _back_off(attempt))))

    def _note(self, problem: Problem) -> None:
        """A server that fails all calls would fail all that are left."""
        self._in_a_row = self._in_a_row + 1 if problem.passing else 0
        if self._in_a_row >= max(_IN_A_ROW, self._endpoint.at_a_time):
            self._stop.because(f"{problem.said} ({self._in_a_row} calls in a row failed, after all their attempts)")


async def _asked(model: ChatModel, request: Request) -> Completion:
    asks = model.once(request.key) if isinstance(model, OpenAIModel) else model
    return await asks.complete(request.messages, request.sampling)


def _used(request: Request, problem: Problem, expected: Usage) -> Usage:
    """The tokens of a call that failed: none where it was not answered, and what was expected where nobody says."""
    if not problem.answered:
        return Usage()
    return usage_of(request, "", problem.usage) if problem.usage.prompt_tokens else expected


def _sum(usage: Usage) -> int:
    return usage.prompt_tokens + usage.completion_tokens


def _back_off(attempt: int) -> float:
    """Seconds before the next attempt: full jitter, as many callers would else come back at once."""
    return random.uniform(0, min(_LONGEST_WAIT, _FIRST_WAIT * 2**attempt))
