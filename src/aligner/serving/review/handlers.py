"""The routes of the review: the queue, one correction, what people say of it, and how well they agree."""

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, cast
from urllib.parse import parse_qsl

import orjson
from starlette.routing import Route

from aligner.scoring.agreement import alpha, pairs
from aligner.serving.admission import Admission
from aligner.serving.client import JSON, Client, Receive
from aligner.serving.endpoint import Endpoint, Scope, body_of, new_id
from aligner.serving.journal import feedback_of
from aligner.serving.keys import caller_of, require
from aligner.serving.log import CorrectionLog
from aligner.serving.logged import Reviewer
from aligner.serving.review import cursors, reading
from aligner.serving.review.asked import page_asked, since_asked
from aligner.serving.review.showing import Json, preview, whole
from aligner.serving.wire import WireError, read_object

_FRESH = (*JSON, ("cache-control", "no-store"))
_LONGEST_KEPT = 60.0
_MISSING = WireError(404, "no correction of that id was logged", "not_found", param="id")


@dataclass(slots=True)
class Review:
    """What reviewers, and people who were answered, find and say.

    How well they agree is found out by one at a time, and told again for ten times as long as that took.
    """

    admission: Admission
    log: CorrectionLog | None
    largest_body: int
    _busy: asyncio.Lock = field(default_factory=asyncio.Lock)
    _last: tuple[float | None, float, Json] | None = None
    """since when agreement was asked for last, until when it holds, and what it was"""

    @property
    def routes(self) -> list[Route]:
        """What is answered where."""
        read = {
            "corrections": self.queue,
            "corrections/{id}": self.logged,
            "agreement": self.agreement,
            "facets": self.facets,
        }
        told = {"feedback": self.feedback, "feedback/undo": self.undo}
        return [
            Route(f"/v1/aligner/{path}", Endpoint(handle, self.admission), methods=[method])
            for method, handled in (("GET", read), ("POST", told))
            for path, handle in handled.items()
        ]

    async def queue(self, scope: Scope, _: Receive, client: Client) -> None:
        """/v1/aligner/corrections: a page of the queue."""
        require(scope, "viewer")
        filters, behind, limit = page_asked(_query(scope))
        page = await self._log.ask(partial(reading.page, filters=filters, behind=behind, limit=limit))
        rows = await asyncio.to_thread(lambda: [preview(row) for row in page.rows])
        following = page.next and cursors.written(page.next, filters)
        await client.answer(200, _FRESH, _dumped({"rows": rows, "next": following}))

    async def logged(self, scope: Scope, _: Receive, client: Client) -> None:
        """/v1/aligner/corrections/{id}: what was logged of an answer; viewers see all, others their own."""
        caller = caller_of(scope)
        row = await self._log.reviewed(scope["path_params"]["id"])
        if row is None or not (caller.may("viewer") or caller.owner == row.logged.key_hash):
            raise _MISSING
        shown = await asyncio.to_thread(whole, row)
        await client.answer(200, _FRESH, _dumped(shown))

    async def feedback(self, scope: Scope, receive: Receive, client: Client) -> None:
        """/v1/aligner/feedback: what somebody thinks of corrections; reviewers judge all, others their own."""
        given, caller, batch = read_object(await body_of(scope, receive, self.largest_body)), caller_of(scope), new_id()
        said = feedback_of(given, reviewer=caller.name or None, batch=batch)
        found = await self._log.note(said, None if caller.may("reviewer") else caller.owner)
        missing = [one.id for one in said if one.id not in found]
        if missing and "ids" not in given:
            raise _MISSING
        noted = {"status": "noted", "batch": batch, "noted": len(found), "missing": missing}
        await client.answer(200, JSON, orjson.dumps(noted))

    async def undo(self, scope: Scope, receive: Receive, client: Client) -> None:
        """/v1/aligner/feedback/undo: an action of one's own taken back."""
        batch = read_object(await body_of(scope, receive, self.largest_body)).get("batch")
        if not isinstance(batch, str):
            raise WireError(400, '"batch" is no text', "wrong_type", param="batch")
        undone = await self._log.undo(batch, caller_of(scope).name or None)
        if not undone:
            raise WireError(404, "no action of yours has that name, or it was undone", "not_found", param="batch")
        await client.answer(200, JSON, orjson.dumps({"status": "undone", "undone": undone}))

    async def agreement(self, scope: Scope, _: Receive, client: Client) -> None:
        """/v1/aligner/agreement: how well reviewers agree."""
        require(scope, "viewer")
        await client.answer(200, _FRESH, _dumped(await self._agreement(since_asked(_query(scope)))))

    async def facets(self, scope: Scope, _: Receive, client: Client) -> None:
        """/v1/aligner/facets: the values that filters can have."""
        require(scope, "viewer")
        await client.answer(200, _FRESH, _dumped(await self._log.ask(reading.facets)))

    async def _agreement(self, since: float | None) -> Json:
        async with self._busy:
            if self._last and self._last[0] == since and time.monotonic() < self._last[1]:
                return self._last[2]
            begun = time.monotonic()
            votes = await self._log.ask(partial(reading.votes, since=since))
            agreed = await asyncio.to_thread(_agreed, votes)
            took = time.monotonic() - begun
            self._last = (since, time.monotonic() + min(10 * took, _LONGEST_KEPT), agreed)
            return agreed

    @property
    def _log(self) -> CorrectionLog:
        if self.log is None:
            raise WireError(404, "nothing is logged here: serve with --log", "no_log")
        return self.log


def _agreed(votes: Mapping[str, Mapping[Reviewer, str]]) -> Json:
    units = list(votes.values())
    return {
        "reviewed": len(units),
        "twice": sum(len(unit) > 1 for unit in units),
        "pairs": [{**pair._asdict(), "a": _name(pair.a), "b": _name(pair.b)} for pair in pairs(units)],
        "alpha": alpha([list(unit.values()) for unit in units]),
    }


def _name(reviewer: Reviewer) -> Json:
    return dict(zip(("reviewer", "user"), reviewer, strict=True))


def _dumped(value: Json) -> bytes:
    try:
        return orjson.dumps(value)
    except orjson.JSONEncodeError:
        return orjson.dumps(_sound(value))


def _sound(value: Any) -> Any:
    """The value with signs in place of half surrogate pairs, which JSON cannot hold: edits keep their places."""
    if isinstance(value, str):
        return value.encode(errors="replace").decode()
    if isinstance(value, Mapping):
        return {_sound(name): _sound(item) for name, item in cast("Json", value).items()}
    if isinstance(value, list | tuple):
        return [_sound(item) for item in cast("list[Any]", value)]
    return value


def _query(scope: Scope) -> Mapping[str, str]:
    return dict(parse_qsl(scope["query_string"].decode("latin-1"), errors="replace"))
