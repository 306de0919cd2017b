"""Requests and tokens per minute, for all workers of a store together.

A generic cell rate algorithm (ITU-T I.371): each limit is a moment up to which it is used up. A call moves it on by
the time in which a server lets in as much, and begins at that moment; who was idle has a small burst to spare.
"""

import asyncio
import random
import time
from typing import Any, NamedTuple

from aligner.building.store import Store

MINUTE = 60.0
_AIM = 0.98
"""of the allowed rate: calls are late by different times, and a server that counts must never see more"""
_BURST = 0.005
"""of a minute's calls may begin at once, or one that is greater"""
_LONGEST_NAP = 5.0
"""seconds after which a waiting call looks again whether everybody was told to pause"""


class Slot(NamedTuple):
    """When a call may begin, and how often a pause had been ordered when this was said."""

    moment: float
    pauses: int


class Pacer:
    """The limits of one server, by a name under which all workers of a store share them.

    0 sets no limit; a pause holds for everybody in any case. `minute` is how many seconds the limits are for.
    """

    def __init__(
        self,
        store: Store,
        name: str,
        requests_per_minute: float = 0.0,
        tokens_per_minute: float = 0.0,
        *,
        minute: float = MINUTE,
    ) -> None:
        self._store, self._name = store, name
        self._each_request, self._each_token = (
            minute / (rate * _AIM) if rate > 0 else 0.0 for rate in (requests_per_minute, tokens_per_minute)
        )
        self._burst = _BURST * minute
        with store.writing() as db:
            db.execute("INSERT INTO pace VALUES (?, 0, 0, 0, 0) ON CONFLICT DO NOTHING", (name,))
            # Where nobody else is at work, places in the queue are of a run that was killed; tokens may be used up.
            sql = (
                "UPDATE pace SET requests = min(requests, ?1), tokens = min(tokens, ?1 + ?2)"
                " WHERE name = ?3 AND (SELECT count(*) FROM workers) < 2"
            )
            db.execute(sql, (time.time(), minute, name))

    async def wait(self, tokens: float = 0) -> None:
        """Return once a call of so many tokens may begin."""
        while True:
            slot = self._slot(tokens)
            while (seconds := slot.moment - time.time()) > 0:
                await asyncio.sleep(min(seconds, _LONGEST_NAP))
                if self._pauses() != slot.pauses:
                    break
            # Who waited through a pause asks anew, or all would begin at its end at once.
            if self._pauses() == slot.pauses:
                return

    def pause(self, seconds: float) -> None:
        """Let nobody begin for so long."""
        until = time.time() + seconds
        sql = (
            "UPDATE pace SET paused = max(paused, ?1), requests = max(paused, ?1), tokens = max(paused, ?1),"
            " pauses = pauses + 1 WHERE name = ?2"
        )
        with self._store.writing() as db:
            db.execute(sql, (until, self._name))

    def settle(self, estimated: float, actual: float) -> None:
        """Correct the tokens that a call was thought to take, once they are known."""
        if self._each_token and estimated != actual:
            seconds = (actual - estimated) * self._each_token
            with self._store.writing() as db:
                db.execute("UPDATE pace SET tokens = tokens + ? WHERE name = ?", (seconds, self._name))

    def _slot(self, tokens: float) -> Slot:
        """Take a place in the queue."""
        if not (self._each_request or self._each_token):
            paused, pauses = self._row("paused, pauses")
            # Nobody knows at which rate to begin again.
            return Slot(paused + random.random() if paused > time.time() else 0.0, pauses)
        with self._store.writing() as db:
            requests, used, paused, pauses = self._row("requests, tokens, paused, pauses")
            requests = self._moved(requests, self._each_request)
            used = self._moved(used, tokens * self._each_token)
            sql = "UPDATE pace SET requests = ?, tokens = ? WHERE name = ?"
            db.execute(sql, (requests, used, self._name))
        return Slot(max(paused, requests, used), pauses)

    def _moved(self, used: float, seconds: float) -> float:
        """The moment of a limit behind a call that takes so many seconds of it."""
        return max(used, time.time() - max(self._burst, seconds)) + seconds

    def _pauses(self) -> int:
        return self._row("pauses")[0]

    def _row(self, columns: str) -> tuple[Any, ...]:
        sql = f"SELECT {columns} FROM pace WHERE name = ?"
        return self._store.connection.execute(sql, (self._name,)).fetchone()
