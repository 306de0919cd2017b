"""What is asked of the whole log: the shadow report, and training data of it; read beside the log that is written."""

import asyncio
import re
import time
from collections.abc import AsyncGenerator, Generator, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from typing import TypeVar
from urllib.parse import parse_qsl

import orjson
from starlette.routing import Route

from aligner.errors import MisuseError
from aligner.serving.admission import Admission
from aligner.serving.blocking import BlockingThread
from aligner.serving.client import JSON, Client, Receive, while_connected
from aligner.serving.database import Place
from aligner.serving.endpoint import Endpoint, Scope
from aligner.serving.exporting.lessons import MAKERS, Lessons, Row, Wanted
from aligner.serving.exporting.portable import WRITERS
from aligner.serving.keys import require
from aligner.serving.log import CorrectionLog
from aligner.serving.moments import moment_of
from aligner.serving.shadow.figures import MODES, Report
from aligner.serving.shadow.page import page_of
from aligner.serving.shadow.rows import ShadowRows
from aligner.serving.store import Store
from aligner.serving.wire import WireError

S = TypeVar("S", bound=Store)
T = TypeVar("T")
Query = Mapping[str, str]

_ROWS = 200
"""that are written at a time"""
_LONGEST_KEPT = 60.0
_NEVER_KEPT = ("cache-control", "no-store")
_SAFE = (("x-content-type-options", "nosniff"), _NEVER_KEPT)
_KINDS = (*MAKERS, *WRITERS)
_GUARDS = ("reviewers", "votes", "most_per_reviewer", "told")
_BOOLEANS = {"true": True, "false": False}


@dataclass(slots=True)
class Reports:
    """Reports on the whole log, one at a time; a connection of their own keeps them from holding up the log.

    A report that took long is given again for some while, at most a minute: ten times as long as it took.
    """

    admission: Admission
    log: CorrectionLog | None
    place: Place | None
    """where the log is kept"""
    _busy: asyncio.Lock = field(default_factory=asyncio.Lock)
    _last: tuple[tuple[str, float | None], float, Report] | None = None
    """what was asked for last, until when it holds, and what it was"""

    @property
    def routes(self) -> list[Route]:
        """What is answered where."""
        handled = {
            "/v1/aligner/shadow": self.shadow,
            "/v1/aligner/export": self.export,
            "/shadow.html": self.page,
        }
        return [Route(path, Endpoint(handle, self.admission), methods=["GET"]) for path, handle in handled.items()]

    async def shadow(self, scope: Scope, receive: Receive, client: Client) -> None:
        """/v1/aligner/shadow: the figures of the report."""
        require(scope, "viewer")

        async def work() -> None:
            report = await self._report(_query(scope))
            await client.answer(200, [*JSON, _NEVER_KEPT], report.as_json)

        await while_connected(work(), receive)

    async def page(self, scope: Scope, receive: Receive, client: Client) -> None:
        """/shadow.html: the report as one file."""
        require(scope, "viewer")

        async def work() -> None:
            report = await self._report(_query(scope))
            if not report.figures.answers:
                mode = report.figures.mode
                raise WireError(404, f"nothing was logged in mode {mode}, so there is no report", "nothing_logged")
            headers = [("content-type", "text/html; charset=utf-8"), *_attached("shadow.html")]
            await client.answer(200, headers, page_of(report).encode())

        await while_connected(work(), receive)

    async def export(self, scope: Scope, receive: Receive, client: Client) -> None:
        """/v1/aligner/export: rows of a kind, as `aligner export` writes them."""
        require(scope, "operator")
        query = _query(scope)
        kind, since, wanted = _one_of(query, "kind", _KINDS), _since(query), _wanted(query)
        _check_names(query, kind)
        await while_connected(self._export(client, kind, since, wanted), receive)

    async def _export(self, client: Client, kind: str, since: float | None, wanted: Wanted) -> None:
        async with self._reading(Store) as (store, thread):
            more = partial(_joined, map(_line, _rows(store, kind, since, wanted)))
            piece = await thread.call(more)  # before the status: the log may be out of reach
            await client.start(200, [("content-type", "application/jsonl"), *_attached(f"{kind}.jsonl")])
            while piece:
                await client.write(piece)
                piece = await thread.call(more)
            await client.end()

    async def _report(self, query: Query) -> Report:
        asked = (_one_of(query, "mode", MODES), _since(query))
        async with self._busy:
            if self._last and self._last[0] == asked and time.monotonic() < self._last[1]:
                return self._last[2]
            begun = time.monotonic()
            async with self._reading(ShadowRows) as (store, thread):
                report = await _finished(store.report(*asked), thread)
            took = time.monotonic() - begun
            self._last = (asked, time.monotonic() + min(10 * took, _LONGEST_KEPT), report)
            return report

    @asynccontextmanager
    async def _reading(self, kind: type[S]) -> AsyncGenerator[tuple[S, BlockingThread]]:
        """A store to read from, and the thread for its calls; all that was logged so far is in it."""
        if self.log is None or self.place is None:
            raise WireError(404, "nothing is logged here: serve with --log", "no_log")
        await self.log.flush()
        thread, store = BlockingThread("report"), kind(self.place, writable=False)
        try:
            yield store, thread
        finally:
            try:
                await thread.call(store.close)
            finally:
                thread.end()


async def _finished(reading: Generator[int, None, T], thread: BlockingThread) -> T:
    """What a generator gives in the end, each of its steps a call, so that it ends with whoever waits for it."""

    def step() -> list[T]:
        try:
            next(reading)
        except StopIteration as end:
            return [end.value]
        return []

    while not (found := await thread.call(step)):
        pass
    return found[0]


def _rows(store: Store, kind: str, since: float | None, wanted: Wanted) -> Iterator[Row]:
    if kind in MAKERS:
        yield from Lessons(wanted).rows(store.rows(since), MAKERS[kind])
    else:
        for logged in store.rows(since):
            yield from WRITERS[kind](logged)


def _line(row: Row) -> bytes:
    return orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE)


def _joined(lines: Iterator[bytes]) -> bytes:
    return b"".join(islice(lines, _ROWS))


def _attached(name: str) -> list[tuple[str, str]]:
    return [("content-disposition", f'attachment; filename="{name}"'), *_SAFE]


def _query(scope: Scope) -> Query:
    """What is asked; `reviewers` may be given more than once."""
    pairs = parse_qsl(scope["query_string"].decode("latin-1"))
    reviewers = [value for name, value in pairs if name == "reviewers"]
    return {**dict(pairs), "reviewers": ",".join(reviewers)} if reviewers else dict(pairs)


def _check_names(query: Query, kind: str) -> None:
    """A guard must not be passed over because of how its name is written, or of the kind; raises WireError, 400."""
    if query.keys() - {"kind", "since", *_GUARDS}:
        raise WireError(400, f"there is no such guard; there are since, {', '.join(_GUARDS)}", "unknown_filter")
    if kind in WRITERS and (given := [name for name in _GUARDS if name in query]):
        raise WireError(400, f"kind {kind} writes all of them, whoever judged", "wrong_value", param=given[0])


def _one_of(query: Query, name: str, known: tuple[str, ...]) -> str:
    value = query.get(name, known[0])
    if value not in known:
        raise WireError(400, f'"{name}" is none of {", ".join(known)}', "wrong_value", param=name)
    return value


def _since(query: Query) -> float | None:
    text = query.get("since") or None
    try:
        return moment_of(text, "since")
    except MisuseError as error:
        if not re.fullmatch(r"\d{1,12}(\.\d*)?", text or ""):
            raise WireError(400, str(error), "wrong_value", param="since") from None
        return float(text or "")


def _wanted(query: Query) -> Wanted:
    try:
        return Wanted(
            reviewers=tuple(filter(None, query.get("reviewers", "").split(","))),
            votes=int(query.get("votes", "1")),
            most_per_reviewer=int(query.get("most_per_reviewer", "0")),
            told=_BOOLEANS[query.get("told", "false")],
        )
    except KeyError:
        raise WireError(400, '"told" is neither true nor false', "wrong_value", param="told") from None
    except ValueError as error:
        raise WireError(400, f"the guards cannot be read: {error}", "wrong_value", param="votes") from None
