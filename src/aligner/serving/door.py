"""What the proxy's routes do."""

import asyncio
import time
from collections.abc import Awaitable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple, cast
from urllib.parse import quote, unquote_to_bytes

import orjson
from starlette.routing import Route as Path

from aligner.config import Mode, Telling
from aligner.serving.admission import Admission
from aligner.serving.aliases import Models, resolve
from aligner.serving.asking import Events, read_ask
from aligner.serving.client import JSON, Client, Incoming, Receive, while_connected
from aligner.serving.endpoint import Endpoint, Handler, Scope, body_of, headers_of, new_id, told_of
from aligner.serving.engine import EngineFailure, Work
from aligner.serving.journal import rows_of
from aligner.serving.keys import caller_of, require
from aligner.serving.lines import tell
from aligner.serving.log import CorrectionLog
from aligner.serving.logged import Outcome
from aligner.serving.metrics import CONTENT_TYPE, Metrics
from aligner.serving.named import Answering, Named, Pair
from aligner.serving.proxy import PATHS, Proxy, question_of
from aligner.serving.reports import Reports
from aligner.serving.review.handlers import Review
from aligner.serving.served import Served
from aligner.serving.telling import instruction_in
from aligner.serving.traces import Traces
from aligner.serving.upstream import Headers
from aligner.serving.wire import Asked, Route, WireError, read_object, read_request, renamed, split_reasoning

_PLAIN = "/%:@!$&'()*+,;=-._~?"
"""signs of a URL that stay as they are"""
_OF_WHO_ASKS = ("authorization", "user-agent", "traceparent", "tracestate")
"""headers that go on with what a page asks"""
_OURS_WITH_A_SLASH = tuple(f"/v1{path}/".encode() for path in PATHS.values())


class _Taken(NamedTuple):
    """A request that was taken in."""

    pair: Pair
    """who answers it"""
    served: Served
    headers: Headers
    owner: str
    """whose row it will be"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Door:
    """What the routes do."""

    mode: Mode
    allow: Collection[Mode]
    largest_body: int
    relays: bool
    """whether the upstream's other routes are reached"""
    named: Named
    by_name: bool
    """whether a request may choose an upstream and an Aligner"""
    tells: Telling
    """what a request may tell its Aligner"""
    pages: Sequence[Path]
    """routes of the pages, where there are any"""
    reports: Reports
    log: CorrectionLog | None
    metrics: Metrics
    traces: Traces
    lines: Any
    """structlog's logger"""
    admission: Admission

    @property
    def proxy(self) -> Proxy:
        """The first upstream and the first Aligner."""
        return self.named.default.proxy

    @property
    def models(self) -> Models:
        """The first upstream's."""
        return self.named.default.models

    @property
    def routes(self) -> list[Path]:
        """What is answered where; they are tried in turn, so that what is asked most comes first."""
        return [
            Path("/v1/chat/completions", self._at(partial(self.answer, "chat")), methods=["POST"]),
            Path("/v1/completions", self._at(partial(self.answer, "completions")), methods=["POST"]),
            *self.pages,
            Path("/healthz", self._open(self.healthy)),
            Path("/readyz", self._open(self.ready)),
            Path("/metrics", self._at(self.figures)),
            *self.reports.routes,
            *Review(self.admission, self.log, self.largest_body).routes,
            Path("/v1/aligner/ask", Endpoint(self.ask, self.admission, Events), methods=["POST"]),
            Path("/v1/aligner/correct", self._at(self.correct), methods=["POST"]),
            Path("/v1/aligner/{path:path}", self._at(self.unknown)),
            Path("/v1/models", self._at(self.list_models), methods=["GET"]),
            Path("/v1/models/{id:path}", self._at(self.relay), methods=["GET"]),
            Path("/v1/{path:path}", self._at(self.relay if self.relays else self.unknown)),
            Path("/{path:path}", self.elsewhere),
        ]

    @property
    def elsewhere(self) -> Endpoint:
        """Whatever no route is for."""
        return self._open(self.unknown)

    def _at(self, handle: Handler) -> Endpoint:
        return Endpoint(handle, self.admission)

    def _open(self, handle: Handler) -> Endpoint:
        return Endpoint(handle, None)

    async def answer(self, route: Route, scope: Scope, receive: Receive, client: Client) -> None:
        """/v1/chat/completions and /v1/completions: ask the upstream, and correct its answer."""
        headers, started = headers_of(scope), time.perf_counter()
        asked, mode = self._chosen(headers, read_request(route, await body_of(scope, receive, self.largest_body)))
        pair = self._pair(asked)
        asked = replace(asked, instruction=self._told(asked.aligner, headers, pair))
        served = Served(new_id(), mode, asked, started)
        taken = _Taken(pair, served, headers, caller_of(scope).owner)
        await self._serve(taken, pair.modes[mode], receive, client)

    async def ask(self, scope: Scope, receive: Receive, client: Client) -> None:
        """/v1/aligner/ask: the original as it comes, its correction, and what became of both, as named events."""
        started, owner = time.perf_counter(), require(scope, "viewer").owner
        wanted = read_ask(await body_of(scope, receive, self.largest_body))
        pair, mode = self.named.pair(wanted.upstream, wanted.aligner), cast("Mode", wanted.mode or self.mode)
        if mode not in pair.asks:
            raise WireError(400, f'"mode" is none of {", ".join(pair.asks)}', "wrong_value", param="mode")
        headers = [(name, value) for name, value in headers_of(scope) if name in _OF_WHO_ASKS]
        headers += [("content-type", "application/json"), ("x-aligner-conversation", wanted.conversation or "")]
        asked = replace(wanted.asked, instruction=self._told(wanted._asdict(), headers, pair))
        if "model" not in asked.payload:
            asked = renamed(asked, (await pair.models.names(headers))[0])
        served = Served(new_id(), mode, asked, started)
        await self._serve(_Taken(pair, served, headers, owner), pair.asks[mode], receive, client)

    async def _serve(self, taken: _Taken, answering: Answering, receive: Receive, client: Client) -> None:
        """Answer a request, and note how it ended."""
        served, headers = taken.served, taken.headers
        with self.metrics.in_flight.track_inprogress(), self.traces.request(served, headers) as onward:
            try:
                outcome = await _ended(answering(client, served, onward), receive, client, served)
            except asyncio.CancelledError:
                self._note(taken, "cancelled", client.first)
                raise
            if served.copy and outcome == "sent":
                await taken.pair.proxy.reflect(served)
        self._note(taken, outcome, client.first)

    async def relay(self, scope: Scope, receive: Receive, client: Client) -> None:
        """Any other route of the upstream, as it is."""
        headers = headers_of(scope)
        query = cast("bytes", scope["query_string"]).decode("latin-1")
        path = below(cast("bytes", scope["raw_path"])) + (f"?{quote(query, safe=_PLAIN)}" if query else "")
        named, incoming = dict(headers), Incoming(receive)
        has_body = "content-length" in named or "transfer-encoding" in named
        work = self.proxy.relay(
            client,
            scope["method"],
            path,
            headers=headers,
            body=incoming.pieces() if has_body else None,
            told=[("x-request-id", new_id())],
        )
        await while_connected(work, incoming.rest if has_body else receive)

    async def list_models(self, scope: Scope, receive: Receive, client: Client) -> None:
        """/v1/models: the upstream's list, and the aliases that choose a mode, where requests may choose one."""
        if not self.models.allowed:
            await self.relay(scope, receive, client)
            return
        found = await self.models.listed(headers_of(scope))
        await client.answer(found.status, [*found.headers, ("x-request-id", new_id())], found.body)

    async def correct(self, scope: Scope, receive: Receive, client: Client) -> None:
        """/v1/aligner/correct: question and answer in, correction out; no upstream."""
        given = read_object(await body_of(scope, receive, self.largest_body))
        answer = given.get("answer")
        if not isinstance(answer, str):
            raise WireError(400, '"answer" is no text', "wrong_type", param="answer")
        question = question_of(given["question"] if "question" in given else given.get("messages"))
        work = self.proxy.engine.open(question, self._told(given, headers_of(scope), self.named.default))
        await while_connected(self._correct(client, work, answer, doubt=given.get("doubt") is True), receive)

    async def figures(self, _: Scope, __: Receive, client: Client) -> None:
        """/metrics: figures for Prometheus."""
        dropped = self.log.dropped if self.log is not None else 0
        text = self.metrics.text(
            waiting=self.named.waiting,
            dropped=dropped,
            breakers=self.named.breakers,
        )
        await client.answer(200, [("content-type", CONTENT_TYPE)], text)

    async def healthy(self, _: Scope, __: Receive, client: Client) -> None:
        """/healthz: the process is there."""
        await client.answer(200, JSON, b'{"status":"ok"}')

    async def ready(self, _: Scope, __: Receive, client: Client) -> None:
        """/readyz: the Aligner is there, too."""
        is_ready = self.named.alive
        await client.answer(
            200 if is_ready else 503, JSON, orjson.dumps({"status": "ready" if is_ready else "the Aligner is starting"})
        )

    async def unknown(self, scope: Scope, _: Receive, __: Client) -> None:
        """Whatever else is asked for."""
        raise WireError(404, f"there is no {scope['path']}", "not_found")

    async def _correct(self, client: Client, work: Work, answer: str, *, doubt: bool) -> None:
        found: dict[str, Any] = {}
        thought, answer = split_reasoning(answer)
        try:
            async for item in work.finish(answer, doubt=doubt):
                if not isinstance(item, str):
                    found = {
                        "correction": thought + item.text,
                        "changed": item.changed,
                        "kept_reason": item.kept_reason,
                        "edits": [[len(thought) + start, len(thought) + end, text] for start, end, text in item.edits],
                        "confidence": item.confidence,
                        "doubt": item.doubt,
                    }
        except EngineFailure as failure:
            status = 400 if failure.cause == "too_long" else 503
            raise WireError(status, f"the answer could not be corrected: {failure.cause}", failure.cause) from None
        finally:
            work.cancel()
        await client.answer(200, JSON, orjson.dumps(found))

    def _note(self, taken: _Taken, outcome: Outcome, first: float | None) -> None:
        """Count a request, and log what was sent."""
        pair, served, headers, owner = taken
        self.metrics.note(served, outcome, first)
        tell(self.lines, served, outcome)
        if self.log is None:
            return
        upstream, aligner = pair.proxy.upstream.url, pair.proxy.engine.told(served.asked.instruction)
        for row in rows_of(served, headers, owner=owner, upstream=upstream, aligner=aligner, outcome=outcome):
            self.log.put(row)

    def _chosen(self, headers: Headers, asked: Asked) -> tuple[Asked, Mode]:
        """The request and its mode: as a header, our own field or the model's name asks, if the operator allows it."""
        resolved, of_name = resolve(asked, self.models.allowed)
        wanted = dict(headers).get("x-aligner-mode") or asked.aligner.get("mode") or of_name or self.mode
        if wanted != self.mode and wanted not in self.allow:
            raise WireError(400, "a request may not choose that mode here", "mode_not_allowed", param="aligner.mode")
        return resolved, cast("Mode", wanted)

    def _told(self, fields: Mapping[str, object], headers: Headers, pair: Pair) -> str:
        """What a request tells its Aligner, if the operator allows it; "" where that is what it is told anyway."""
        engine = pair.proxy.engine
        told = instruction_in(fields, headers, self.tells, takes=engine.takes_instructions)
        return "" if told == engine.options.instruction else told

    def _pair(self, asked: Asked) -> Pair:
        """The upstream and the Aligner that our own field names, if the operator allows it; raises WireError, 400."""
        pair = self.named.pair(asked.aligner.get("upstream"), asked.aligner.get("aligner"))
        if pair is not self.named.default and not self.by_name:
            raise WireError(
                400, "a request may not choose an upstream or an Aligner here", "choice_not_allowed", param="aligner"
            )
        return pair


def below(raw: bytes) -> str:
    """The path below /v1 as the client wrote it; raises WireError, 404, for one that would lead out of there."""
    plain = unquote_to_bytes(raw)
    leads_out = not {b".", b".."}.isdisjoint(plain.split(b"/"))
    # Servers that merge slashes, or drop the last, would find a route of ours there, and answer uncorrected.
    if not raw.startswith(b"/v1/") or b"//" in raw or leads_out or plain.lower().endswith(_OURS_WITH_A_SLASH):
        raise WireError(404, "there is no such path", "not_found")
    return quote(raw.removeprefix(b"/v1"), safe=_PLAIN)


async def _ended(work: Awaitable[None], receive: Receive, client: Client, served: Served) -> Outcome:
    """Do the work while the client is there, and say how it ended; an error says which request it was."""
    failed: list[WireError] = []

    async def refusing() -> None:
        try:
            await work
        except Exception as problem:  # noqa: BLE001  # as in Endpoint
            failed.append(told_of(problem))
            served.failure = failed[0].code
            await client.refuse(failed[0], served.headers)

    connected = await while_connected(refusing(), receive)
    # Whoever has the whole answer goes away, too.
    return "failed" if failed else "sent" if connected or client.ended else "cancelled"
