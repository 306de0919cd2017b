"""Serve: a proxy between any application and any OpenAI-compatible model, which gives back better answers."""

import asyncio
import contextlib
import hmac
import ipaddress
import logging
import os
import secrets
import signal
import socket
import sys
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from typing import Any, cast, get_args
from urllib.parse import urlsplit

import orjson

from aligner.config import Mode, ServeConfig
from aligner.errors import MissingExtraError, MisuseError
from aligner.serving.client import JSON, Client, Receive, Send, read_body, while_connected
from aligner.serving.engine import Cause, Engine, EngineFailure, EngineOptions
from aligner.serving.journal import feedback_of, rows_of
from aligner.serving.log import CorrectionLog, LogOptions, open_log
from aligner.serving.logged import Outcome
from aligner.serving.metrics import CONTENT_TYPE, Metrics
from aligner.serving.proxy import PATHS, Proxy, error_of, question_of
from aligner.serving.served import Policy, Served
from aligner.serving.upstream import Headers, Upstream, Waits
from aligner.serving.wire import Route, WireError, read_object, read_request

try:
    import uvicorn
    from starlette.applications import Starlette
    from starlette.routing import Route as Path
except ImportError as error:
    raise MissingExtraError("serving needs an extra: pip install 'aligner-llm[serve]'") from error

Scope = Any
_SECONDS_TO_FINISH = 30
"""for what was begun when the process is told to end"""

Handler = Callable[[Scope, Receive, Client], Awaitable[None]]

_CAUSES: tuple[Cause, ...] = get_args(Cause)
FAILS_OPEN: Mapping[str, Mapping[str, bool]] = {
    "helpful": dict.fromkeys(_CAUSES, True),
    "safety": dict.fromkeys(_CAUSES, False),
}
"""For each profile and cause of a failure, whether the original is sent, and not an error."""


def serve(config: ServeConfig) -> None:
    """aligner serve: listen until the process is told to end, and finish what was begun."""
    check(config)
    # Uvicorn finishes what was begun, and then raises the signal again, as if it had not been obeyed.
    signal.signal(signal.SIGTERM, _unmoved)
    with contextlib.closing(_listener(config.host, config.port)) as listener:
        how = uvicorn.Config(
            "", log_level="warning", access_log=False, server_header=False, date_header=False, lifespan="off"
        )
        with asyncio.Runner(loop_factory=how.get_loop_factory()) as runner:
            runner.run(_serve(config, how, listener))


def _unmoved(_: int, __: object) -> None:
    return None


async def _serve(config: ServeConfig, how: uvicorn.Config, listener: socket.socket) -> None:
    async with opened(config) as app:
        how.app, how.timeout_graceful_shutdown = app, _SECONDS_TO_FINISH
        told = f"http://{config.host}:{listener.getsockname()[1]}/v1"
        sys.stderr.write(f"aligner serve: {told} answers for {config.upstream}, mode {config.mode}\n")
        await uvicorn.Server(how).serve([listener])


def _listener(host: str, port: int) -> socket.socket:
    """A socket that listens; raises MisuseError where it cannot."""
    # Event loops send small answers at once only through sockets that were made for TCP by name.
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(2048)
    except OSError as error:
        listener.close()
        raise MisuseError(f"cannot listen on {host}:{port}: {error.strerror or error}") from error
    return listener


def check(config: ServeConfig, environ: Mapping[str, str] = os.environ) -> None:
    """Refuse what cannot work, before anything is started; raises MisuseError."""
    parts = urlsplit(config.upstream)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise MisuseError("the upstream is not like https://host/v1")
    if parts.username or parts.password or parts.query or parts.fragment:
        raise MisuseError("the upstream's URL holds a user, a query or a fragment; keys come from the environment")
    modes = {config.mode, *config.allow}
    if "gate" in modes and config.gate is None:
        raise MisuseError("mode gate needs --gate, the confidence from which an answer is kept")
    if config.gate is not None and "gate" not in modes:
        raise MisuseError("--gate is for mode gate, which is neither the mode nor allowed")
    if config.gate is not None and not 0 <= config.gate <= 1:
        raise MisuseError(f"--gate is a probability, not {config.gate}")
    if config.profile == "safety" and modes & {"off", "shadow"} and len(modes) > 1:
        raise MisuseError("profile safety with a mode that sends answers uncorrected: a request could choose it")
    if not _is_loopback(config.host) and not environ.get("ALIGNER_API_KEY"):
        raise MisuseError(f"{config.host} is not loopback: set ALIGNER_API_KEY, which clients then have to send")


@contextlib.asynccontextmanager
async def opened(config: ServeConfig, environ: Mapping[str, str] = os.environ) -> AsyncGenerator[Starlette, None]:
    """The ASGI application, while its engine runs; raises what the engine raises where it cannot start."""
    # Where clients send a key of ours, it is none of the upstream's business.
    upstream = Upstream(
        config.upstream.rstrip("/"),
        environ.get("ALIGNER_UPSTREAM_KEY", ""),
        takes_client_key=not environ.get("ALIGNER_API_KEY"),
        waits=Waits(between=config.patience),
    )
    engine = Engine(
        EngineOptions(
            aligner=config.aligner,
            device=config.device,
            rows=config.rows,
            waiting=config.waiting,
            seconds=config.seconds,
        )
    )
    policy = Policy(
        truncated=config.truncated == "correct",
        json=config.json == "correct",
        fails_open=FAILS_OPEN[config.profile].__getitem__,
    )
    proxy = Proxy(upstream, engine, policy, config.open_after, config.heartbeat)
    async with upstream, engine, _log(config) as log:
        yield Starlette(routes=_routes(Door(config, proxy, log, Metrics(), environ)))


def _log(config: ServeConfig) -> contextlib.AbstractAsyncContextManager[CorrectionLog | None]:
    if not config.log:
        return contextlib.nullcontext()
    return open_log(config.log, LogOptions(content=config.log_content, days=config.log_days))


def _routes(door: "Door") -> list[Path]:
    return [
        Path("/healthz", door.at(door.healthy, open_to_all=True)),
        Path("/readyz", door.at(door.ready, open_to_all=True)),
        Path("/v1/chat/completions", door.at(partial(door.answer, "chat")), methods=["POST"]),
        Path("/v1/completions", door.at(partial(door.answer, "completions")), methods=["POST"]),
        Path("/metrics", door.at(door.metrics_text)),
        Path("/v1/aligner/correct", door.at(door.correct), methods=["POST"]),
        Path("/v1/aligner/corrections/{id}", door.at(door.logged), methods=["GET"]),
        Path("/v1/aligner/feedback", door.at(door.feedback), methods=["POST"]),
        Path("/v1/aligner/{path:path}", door.at(door.unknown)),
        Path("/v1/{path:path}", door.at(door.relay)),
        Path("/{path:path}", door.at(door.unknown, open_to_all=True)),
    ]


@dataclass(frozen=True, slots=True)
class Endpoint:
    """An ASGI application for one route: every failure becomes an error in OpenAI's shape."""

    handle: Handler
    admit: Callable[[Scope], None]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, for as long as its client is there."""
        client = Client(send)
        try:
            self.admit(scope)
            await self.handle(scope, receive, client)
        except ConnectionAbortedError:
            return
        except Exception as problem:  # noqa: BLE001  # whatever it is, the client reads OpenAI's shape
            await client.refuse(_told(problem), [("x-request-id", new_id())])


@dataclass(frozen=True, slots=True)
class Door:
    """What the routes do."""

    config: ServeConfig
    proxy: Proxy
    log: CorrectionLog | None
    metrics: Metrics
    environ: Mapping[str, str] = field(repr=False)

    def at(self, handle: Handler, *, open_to_all: bool = False) -> Endpoint:
        """A route's application; clients need the key, if there is one, unless it is open to all."""
        return Endpoint(handle, (lambda _: None) if open_to_all else self._admit)

    async def answer(self, route: Route, scope: Scope, receive: Receive, client: Client) -> None:
        """/v1/chat/completions and /v1/completions: ask the upstream, and correct its answer."""
        headers = _headers(scope)
        asked = read_request(route, await self._body(headers, receive))
        mode = self._mode(headers, asked.aligner)
        served = Served(new_id(), mode, asked)
        proxy = self.proxy
        if mode == "gate":
            proxy = replace(proxy, policy=replace(proxy.policy, gate=self.config.gate))
        copy: list[bytes] = []
        if mode == "off":
            work = proxy.relay(client, "POST", PATHS[route], headers, asked.body)
        elif mode == "shadow":
            work = proxy.shadow(client, served, headers, copy)
        else:
            work = (proxy.correct_stream if asked.streamed else proxy.correct)(client, served, headers)
        with self.metrics.in_flight.track_inprogress():
            outcome = await _ended(work, receive, client, served)
        if copy and outcome == "sent":
            await proxy.reflect(served, b"".join(copy))
        self._note(served, headers, outcome)

    async def relay(self, scope: Scope, receive: Receive, client: Client) -> None:
        """Any other route of the upstream, as it is."""
        headers = _headers(scope)
        query = cast("bytes", scope["query_string"]).decode("latin-1")
        path = cast("str", scope["path"]).removeprefix("/v1") + (f"?{query}" if query else "")
        body = None if scope["method"] in ("GET", "HEAD") else await self._body(headers, receive)
        await while_connected(self.proxy.relay(client, scope["method"], path, headers, body), receive)

    async def correct(self, scope: Scope, receive: Receive, client: Client) -> None:
        """/v1/aligner/correct: question and answer in, correction out; no upstream."""
        given = read_object(await self._body(_headers(scope), receive))
        answer = given.get("answer")
        if not isinstance(answer, str):
            raise WireError(400, '"answer" is no text', "wrong_type", param="answer")
        question = question_of(given["question"] if "question" in given else given.get("messages"))
        await while_connected(self._correct(client, question, answer, doubt=given.get("doubt") is True), receive)

    async def logged(self, scope: Scope, _: Receive, client: Client) -> None:
        """/v1/aligner/corrections/{id}: what was logged of an answer."""
        row = await self._opened_log().get(scope["path_params"]["id"])
        if row is None:
            raise WireError(404, "no correction of that id was logged", "not_found")
        await client.answer(200, JSON, orjson.dumps({**asdict(row), "lengths": row.lengths._asdict()}))

    async def feedback(self, scope: Scope, receive: Receive, client: Client) -> None:
        """/v1/aligner/feedback: what somebody thinks of a correction."""
        said = feedback_of(read_object(await self._body(_headers(scope), receive)))
        if not await self._opened_log().feedback(said):
            raise WireError(404, "no correction of that id was logged", "not_found", param="id")
        await client.answer(200, JSON, b'{"status":"noted"}')

    async def metrics_text(self, _: Scope, __: Receive, client: Client) -> None:
        """/metrics: figures for Prometheus."""
        dropped = self.log.dropped if self.log is not None else 0
        text = self.metrics.text(waiting=self.proxy.engine.waiting, dropped=dropped)
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
        try:
            async for item in work.finish(answer, doubt=doubt):
                if not isinstance(item, str):
                    found = {
                        "correction": item.text,
                        "changed": item.changed,
                        "kept_reason": item.kept_reason,
                        "edits": [list(edit) for edit in item.edits],
                        "confidence": item.confidence,
                        "doubt": item.doubt,
                    }
        except EngineFailure as failure:
            status = 400 if failure.cause == "too_long" else 503
            raise WireError(status, f"the answer could not be corrected: {failure.cause}", failure.cause) from None
        finally:
            work.cancel()
        await client.answer(200, JSON, orjson.dumps(found))

    def _note(self, served: Served, headers: Headers, outcome: Outcome) -> None:
        """Count a request, and log what was sent."""
        self.metrics.note(served, outcome)
        if self.log is None:
            return
        upstream, aligner = self.config.upstream, self.proxy.engine.fingerprint
        for row in rows_of(served, headers, upstream=upstream, aligner=aligner, outcome=outcome):
            self.log.put(row)

    def _opened_log(self) -> CorrectionLog:
        if self.log is None:
            raise WireError(404, "nothing is logged here: serve with --log", "no_log")
        return self.log

    async def _body(self, headers: Headers, receive: Receive) -> bytes:
        named = dict(headers)
        if named.get("content-encoding", "identity") != "identity":
            raise WireError(415, "a compressed request is not read", "unsupported_encoding")
        return await read_body(receive, declared=named.get("content-length"), largest=self.config.largest_body)

    def _mode(self, headers: Headers, ours: Mapping[str, Any]) -> Mode:
        """The mode that the request asks for, if the operator allows it."""
        wanted = dict(headers).get("x-aligner-mode") or ours.get("mode") or self.config.mode
        if wanted != self.config.mode and wanted not in self.config.allow:
            raise WireError(400, "a request may not choose that mode here", "mode_not_allowed", param="aligner.mode")
        return cast("Mode", wanted)

    def _admit(self, scope: Scope) -> None:
        key = self.environ.get("ALIGNER_API_KEY")
        if not key:
            return
        given = dict(_headers(scope)).get("authorization", "")
        # Compared as bytes: for text that is not ASCII, compare_digest raises.
        if not hmac.compare_digest(given.encode(), f"Bearer {key}".encode()):
            raise WireError(401, "the key is missing or wrong", "invalid_api_key")


def new_id() -> str:
    """A UUID of version 7: ids in the order of their making."""
    value = (time.time_ns() // 1_000_000) << 80 | 7 << 76 | secrets.randbits(12) << 64 | 2 << 62 | secrets.randbits(62)
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
            await client.refuse(failed[0], served.headers)

    connected = await while_connected(refusing(), receive)
    # Whoever has the whole answer goes away, too.
    return "failed" if failed else "sent" if connected or client.ended else "cancelled"


def _told(problem: Exception) -> WireError:
    """What the client is told of a failure; one that nobody foresaw goes to the log, and says nothing of itself."""
    if (error := error_of(problem)) is not None:
        return error
    logging.getLogger("aligner").error("a request failed", exc_info=problem)
    return WireError(500, "the proxy failed", "internal_error", "server_error")


def _headers(scope: Scope) -> Headers:
    pairs = cast("list[tuple[bytes, bytes]]", scope["headers"])
    return [(name.decode("latin-1").lower(), value.decode("latin-1")) for name, value in pairs]


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
