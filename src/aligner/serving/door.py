"""What the proxy's routes do."""

import asyncio
import logging
import os
import time
import traceback
from collections.abc import Awaitable, Callable, Collection, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any, cast
from urllib.parse import quote, unquote_to_bytes, urlsplit

import orjson
from starlette.routing import Route as Path

from aligner.config import Mode
from aligner.serving.admission import Caller, Keys, Places, Rates
from aligner.serving.aliases import Models, resolve
from aligner.serving.client import JSON, Client, Incoming, Receive, Send, read_body, while_connected
from aligner.serving.database import StoreError
from aligner.serving.engine import EngineFailure
from aligner.serving.journal import feedback_of, key_hash, rows_of
from aligner.serving.lines import tell
from aligner.serving.log import CorrectionLog
from aligner.serving.logged import Outcome
from aligner.serving.metrics import CONTENT_TYPE, Metrics
from aligner.serving.proxy import PATHS, Proxy, error_of, question_of
from aligner.serving.served import Served
from aligner.serving.traces import Traces
from aligner.serving.upstream import Headers
from aligner.serving.wire import Asked, Route, WireError, read_object, read_request, split_reasoning

Scope = Any
Handler = Callable[[Scope, Receive, Client], Awaitable[None]]
Answering = Callable[[Client, Served, Headers], Awaitable[None]]
_PLAIN = "/%:@!$&'()*+,;=-._~?"
"""signs of a URL that stay as they are"""
_ADMITS = (b"host", b"authorization")
"""headers that say who asks"""
_OURS_WITH_A_SLASH = tuple(f"/v1{path}/".encode() for path in PATHS.values())
_ENDING = WireError(
    503, "the proxy is told to end", "shutting_down", "server_error", headers=(("x-should-retry", "false"),)
)


@dataclass(frozen=True, slots=True)
class Admission:
    """Whom the proxy answers."""

    keys: Keys
    rates: Rates
    places: Places
    hosts: Collection[str]
    """names by which it may be called where no key is asked for: those of other machines' pages are not among them"""

    def admit(self, headers: Mapping[str, str]) -> Caller:
        """Who asks; raises WireError, 401, 403 or 429."""
        if not self.keys.are_needed and "host" in headers and _host(headers["host"]) not in self.hosts:
            raise WireError(403, "not called by a name of this machine: see --hosts, or set a key", "wrong_host")
        caller = self.keys.caller(headers.get("authorization", ""))
        self.rates.take(caller.name)
        return caller


@dataclass(frozen=True, slots=True)
class Endpoint:
    """An ASGI application for one route: every failure becomes an error in OpenAI's shape."""

    handle: Handler
    admission: Admission | None
    """none where the route is open to all"""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, for as long as its client is there."""
        if scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1000})
            return
        client = Client(send)
        try:
            if self.admission is None:
                await self.handle(scope, receive, client)
                return
            self.admission.admit(
                {n.decode("latin-1"): v.decode("latin-1") for n, v in scope["headers"] if n in _ADMITS}
            )
            await self.admission.places.take()
            try:
                await self.handle(scope, receive, client)
            finally:
                self.admission.places.give_back()
        except ConnectionAbortedError:
            return
        except asyncio.CancelledError:
            # The server's time to finish what was begun is over.
            with suppress(TimeoutError):
                await asyncio.wait_for(client.refuse(_ENDING), 1)
        except Exception as problem:  # noqa: BLE001  # whatever it is, the client reads OpenAI's shape
            await client.refuse(_told(problem), [("x-request-id", new_id())])


@dataclass(frozen=True, slots=True, kw_only=True)
class Door:
    """What the routes do."""

    upstream: str
    mode: Mode
    allow: Collection[Mode]
    largest_body: int
    relays: bool
    """whether the upstream's other routes are reached"""
    modes: Mapping[Mode, Answering]
    proxy: Proxy
    models: Models
    log: CorrectionLog | None
    metrics: Metrics
    traces: Traces
    lines: Any
    """structlog's logger"""
    admission: Admission

    @property
    def routes(self) -> list[Path]:
        """What is answered where."""
        return [
            Path("/v1/chat/completions", self._at(partial(self.answer, "chat")), methods=["POST"]),
            Path("/v1/completions", self._at(partial(self.answer, "completions")), methods=["POST"]),
            Path("/healthz", self._open(self.healthy)),
            Path("/readyz", self._open(self.ready)),
            Path("/metrics", self._at(self.figures)),
            Path("/v1/aligner/correct", self._at(self.correct), methods=["POST"]),
            Path("/v1/aligner/corrections/{id}", self._at(self.logged), methods=["GET"]),
            Path("/v1/aligner/feedback", self._at(self.feedback), methods=["POST"]),
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
        asked, mode = self._chosen(headers, read_request(route, await self._body(headers, receive)))
        served = Served(new_id(), mode, asked, started)
        with self.metrics.in_flight.track_inprogress(), self.traces.request(served, headers) as onward:
            try:
                outcome = await _ended(self.modes[mode](client, served, onward), receive, client, served)
            except asyncio.CancelledError:
                self._note(served, headers, "cancelled", client.first)
                raise
            if served.copy and outcome == "sent":
                await self.proxy.reflect(served)
        self._note(served, headers, outcome, client.first)

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
        given = read_object(await self._body(headers_of(scope), receive))
        answer = given.get("answer")
        if not isinstance(answer, str):
            raise WireError(400, '"answer" is no text', "wrong_type", param="answer")
        question = question_of(given["question"] if "question" in given else given.get("messages"))
        await while_connected(self._correct(client, question, answer, doubt=given.get("doubt") is True), receive)

    async def logged(self, scope: Scope, _: Receive, client: Client) -> None:
        """/v1/aligner/corrections/{id}: what was logged of an answer."""
        row = await self._opened_log().get(scope["path_params"]["id"])
        if row is None or not self._may_see(scope, row.key_hash):
            raise WireError(404, "no correction of that id was logged", "not_found")
        await client.answer(200, JSON, orjson.dumps({**asdict(row), "lengths": row.lengths._asdict()}))

    async def feedback(self, scope: Scope, receive: Receive, client: Client) -> None:
        """/v1/aligner/feedback: what somebody thinks of a correction."""
        said = feedback_of(read_object(await self._body(headers_of(scope), receive)))
        log = self._opened_log()
        row = await log.get(said.id)
        if row is None or not self._may_see(scope, row.key_hash) or not await log.feedback(said):
            raise WireError(404, "no correction of that id was logged", "not_found", param="id")
        await client.answer(200, JSON, b'{"status":"noted"}')

    async def figures(self, _: Scope, __: Receive, client: Client) -> None:
        """/metrics: figures for Prometheus."""
        dropped = self.log.dropped if self.log is not None else 0
        text = self.metrics.text(
            waiting=self.proxy.engine.waiting,
            dropped=dropped,
            breakers={"upstream": self.proxy.upstream.breaker.state, "aligner": self.proxy.breaker.state},
        )
        await client.answer(200, [("content-type", CONTENT_TYPE)], text)

    async def healthy(self, _: Scope, __: Receive, client: Client) -> None:
        """/healthz: the process is there."""
        await client.answer(200, JSON, b'{"status":"ok"}')

    async def ready(self, _: Scope, __: Receive, client: Client) -> None:
        """/readyz: the Aligner is there, too."""
        is_ready = self.proxy.engine.alive
        await client.answer(
            200 if is_ready else 503, JSON, orjson.dumps({"status": "ready" if is_ready else "the Aligner is starting"})
        )

    async def unknown(self, scope: Scope, _: Receive, __: Client) -> None:
        """Whatever else is asked for."""
        raise WireError(404, f"there is no {scope['path']}", "not_found")

    async def _correct(self, client: Client, question: Any, answer: str, *, doubt: bool) -> None:
        work = self.proxy.engine.open(question)
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

    def _note(self, served: Served, headers: Headers, outcome: Outcome, first: float | None) -> None:
        """Count a request, and log what was sent."""
        self.metrics.note(served, outcome, first)
        tell(self.lines, served, outcome)
        if self.log is None:
            return
        aligner = self.proxy.engine.fingerprint
        for row in rows_of(served, headers, upstream=self.upstream, aligner=aligner, outcome=outcome):
            self.log.put(row)

    def _may_see(self, scope: Scope, owner: str) -> bool:
        """Whether a row is the client's own; the operator sees all."""
        headers = headers_of(scope)
        caller = self.admission.keys.caller(dict(headers).get("authorization", ""))
        return caller.is_operator or key_hash(headers) == owner

    def _opened_log(self) -> CorrectionLog:
        if self.log is None:
            raise WireError(404, "nothing is logged here: serve with --log", "no_log")
        return self.log

    async def _body(self, headers: Headers, receive: Receive) -> bytes:
        named = dict(headers)
        if named.get("content-encoding", "identity") != "identity":
            raise WireError(415, "a compressed request is not read", "unsupported_encoding")
        return await read_body(receive, declared=named.get("content-length"), largest=self.largest_body)

    def _chosen(self, headers: Headers, asked: Asked) -> tuple[Asked, Mode]:
        """The request and its mode: as a header, our own field or the model's name asks, if the operator allows it."""
        resolved, of_name = resolve(asked, self.models.allowed)
        wanted = dict(headers).get("x-aligner-mode") or asked.aligner.get("mode") or of_name or self.mode
        if wanted != self.mode and wanted not in self.allow:
            raise WireError(400, "a request may not choose that mode here", "mode_not_allowed", param="aligner.mode")
        return resolved, cast("Mode", wanted)


def below(raw: bytes) -> str:
    """The path below /v1 as the client wrote it; raises WireError, 404, for one that would lead out of there."""
    plain = unquote_to_bytes(raw)
    leads_out = not {b".", b".."}.isdisjoint(plain.split(b"/"))
    # Servers that merge slashes, or drop the last, would find a route of ours there, and answer uncorrected.
    if not raw.startswith(b"/v1/") or b"//" in raw or leads_out or plain.lower().endswith(_OURS_WITH_A_SLASH):
        raise WireError(404, "there is no such path", "not_found")
    return quote(raw.removeprefix(b"/v1"), safe=_PLAIN)


def new_id() -> str:
    """A UUID of version 7: ids in the order of their making."""
    drawn = int.from_bytes(os.urandom(10), "big")
    value = (time.time_ns() // 1_000_000) << 80 | 7 << 76 | (drawn >> 68) << 64 | 2 << 62 | (drawn & (2**62 - 1))
    digits = f"{value:032x}"
    return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))


async def _ended(work: Awaitable[None], receive: Receive, client: Client, served: Served) -> Outcome:
    """Do the work while the client is there, and say how it ended; an error says which request it was."""
    failed: list[WireError] = []

    async def refusing() -> None:
        try:
            await work
        except Exception as problem:  # noqa: BLE001  # as in Endpoint
            failed.append(_told(problem))
            served.failure = failed[0].code
            await client.refuse(failed[0], served.headers)

    connected = await while_connected(refusing(), receive)
    # Whoever has the whole answer goes away, too.
    return "failed" if failed else "sent" if connected or client.ended else "cancelled"


def _told(problem: Exception) -> WireError:
    """What the client is told of a failure; one that nobody foresaw goes to the log, and says nothing of itself."""
    if (error := error_of(problem)) is not None:
        return error
    if isinstance(problem, StoreError):
        return WireError(503, "the log cannot be reached just now", "log_unavailable", "server_error")
    # The words of an exception may quote a text.
    frames = traceback.extract_tb(problem.__traceback__)
    places = ", ".join(f"{frame.filename.rpartition(os.sep)[2]}:{frame.lineno}" for frame in frames)
    logging.getLogger("aligner").error("a request failed: %s at %s", type(problem).__name__, places)
    return WireError(500, "the proxy failed", "internal_error", "server_error")


def headers_of(scope: Scope) -> Headers:
    """A request's headers; their names are small letters by the law of ASGI."""
    return [(name.decode("latin-1"), value.decode("latin-1")) for name, value in scope["headers"]]


def _host(header: str) -> str:
    """The name or address in a header, without its port."""
    try:
        return urlsplit(f"//{header}").hostname or ""
    except ValueError:
        return ""
