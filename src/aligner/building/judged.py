"""Verdicts of a judge, as replies to the requests that wait for them."""

from collections.abc import Awaitable, Callable
from functools import partial

from aligner.building.ledger import Ledger
from aligner.building.nouns import Failure, Reply, Request
from aligner.building.verdicts import JUDGE, judged_reply
from aligner.errors import ModelError
from aligner.jobs import map_ordered, progress
from aligner.models.server import RefusedError
from aligner.records import Question, as_question

Compare = Callable[[Question, str, str], Awaitable[tuple[float, str]]]
"""the preference for the second text, from 0 to 1, and what was said; raises ModelError"""
_AT_A_TIME = 8
_LEASED = 64
_FIRST = 8


async def run(ledger: Ledger, compare: Compare) -> None:
    """Put verdicts until nothing waits for one; what was leased and not judged is free again, whatever happens.

    Raises ModelError, and keeps nothing of it, where the judge gives no verdict in its first 8 calls: then it is not a
    correction that is wrong.
    """
    state = ledger.state("verdicts", [JUDGE])
    done = state.done + sum(state.failed.values())
    outcomes = _Outcomes(ledger)
    with progress("verdicts", done + state.todo + state.leased, done=done) as tick:
        while leased := ledger.lease("verdicts", [JUDGE], _LEASED):
            waiting = {request.key for request in leased}
            try:
                judging = map_ordered(partial(_outcome, compare), leased, limit=_AT_A_TIME)
                async for key, outcome in judging:
                    waiting -= outcomes.take(key, outcome)
                    tick(1)
                waiting -= outcomes.put()
            finally:
                ledger.give_back(waiting)


class _Outcomes:
    """What the judge said, kept back until it has given a verdict or its last call is made."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._held: dict[str, Reply | Failure] = {}
        self._answers = False

    def take(self, key: str, outcome: Reply | Failure) -> set[str]:
        """Put it, with those that were kept back, or keep it back; gives the keys that were put."""
        self._held[key] = outcome
        self._answers |= isinstance(outcome, Reply)
        if self._answers:
            return self.put()
        if isinstance(outcome, Failure) and len(self._held) == _FIRST:
            raise ModelError(f"the judge gave no verdict in its first {_FIRST} calls: {outcome.said}")
        return set()

    def put(self) -> set[str]:
        """Put what is kept back; gives its keys."""
        held, self._held = self._held, {}
        for key, outcome in held.items():
            self._ledger.put(key, outcome)
        return set(held)


async def _outcome(compare: Compare, request: Request) -> tuple[str, Reply | Failure]:
    *turns, answer, correction = request.messages
    try:
        preference, said = await compare(as_question(turns), answer.content, correction.content)
    except RefusedError as error:
        return request.key, Failure("refused", str(error))
    except ModelError as error:
        return request.key, Failure("transient", str(error))
    return request.key, judged_reply(preference, said)
