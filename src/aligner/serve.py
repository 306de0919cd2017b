"""Serve: a proxy between any application and any OpenAI-compatible model, which gives back better answers."""

import asyncio
import contextlib
import ipaddress
import os
import signal
import socket
import sys
from collections.abc import AsyncGenerator, Mapping
from dataclasses import replace
from types import FrameType
from typing import Any, get_args
from urllib.parse import urlsplit

from aligner.config import Mode, ServeConfig
from aligner.errors import MissingExtraError, MisuseError
from aligner.serving.engine import Cause, Engine, EngineOptions
from aligner.serving.log import CorrectionLog, LogOptions, open_log
from aligner.serving.upstream import Upstream, Waits

try:
    import structlog
    import uvicorn
    from starlette.routing import Router

    from aligner.serving.admission import Keys, Places, Rates, read_keys
    from aligner.serving.aliases import PREFIXES, Models
    from aligner.serving.breaker import Breaker
    from aligner.serving.door import Admission, Answering, Door
    from aligner.serving.heads import LimitedHeads
    from aligner.serving.lines import STANDARD, send_lines
    from aligner.serving.metrics import Metrics
    from aligner.serving.proxy import Proxy
    from aligner.serving.served import Policy
    from aligner.serving.traces import Traces, open_traces
except ImportError as error:
    raise MissingExtraError("serving needs an extra: pip install 'aligner-llm[serve]'") from error

_CAUSES: tuple[Cause, ...] = get_args(Cause)
FAILS_OPEN: Mapping[str, Mapping[str, bool]] = {
    "helpful": dict.fromkeys(_CAUSES, True),
    "safety": dict.fromkeys(_CAUSES, False),
}
"""For each profile and cause of a failure, whether the original is sent, and not an error."""
_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})


def serve(config: ServeConfig) -> None:
    """aligner serve: listen until the process is told to end, and finish what was begun."""
    check(config)
    send_lines(config.log_level, sys.stderr.buffer)
    with contextlib.closing(_listener(config.host, config.port)) as listener:
        server = _Server(
            uvicorn.Config(
                "",
                http=LimitedHeads,
                log_level="warning",
                access_log=False,
                server_header=False,
                date_header=False,
                lifespan="off",
                proxy_headers=False,
                timeout_graceful_shutdown=config.drain,
            )
        )
        # Also before it listens, and when it has ended and raises the signal again, as if that had not been obeyed.
        signal.signal(signal.SIGTERM, server.handle_exit)
        with asyncio.Runner(loop_factory=server.config.get_loop_factory()) as runner:
            runner.run(_serve(config, server, listener))


class _Server(uvicorn.Server):
    """A server that does not wait any longer once it is told to end a second time."""

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Finish what was begun, or end at once."""
        self.force_exit = self.force_exit or self.should_exit
        super().handle_exit(sig, frame)


async def _serve(config: ServeConfig, server: uvicorn.Server, listener: socket.socket) -> None:
    async with opened(config, lines=structlog.get_logger()) as app:
        server.config.app = app
        told = f"http://{config.host}:{listener.getsockname()[1]}/v1"
        sys.stderr.write(f"aligner serve: {told} answers for {config.upstream}, mode {config.mode}\n")
        await server.serve([listener])


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
    if not _is_loopback(config.host) and not environ.get("ALIGNER_API_KEY") and config.keys is None:
        raise MisuseError(
            f"{config.host} is not loopback: set ALIGNER_API_KEY, or --keys, which clients then have to send"
        )
    if config.keys is not None:
        read_keys(config.keys)
    if config.at_a_time < 1 or config.rate < 0:
        raise MisuseError("--at-a-time begins at 1, and --rate at 0")


@contextlib.asynccontextmanager
async def opened(
    config: ServeConfig, environ: Mapping[str, str] = os.environ, traces: Traces | None = None, lines: Any = STANDARD
) -> AsyncGenerator[Router, None]:
    """The ASGI application, while its engine runs; raises what the engine raises where it cannot start.

    `lines` is a logger of structlog's, which is told of each request.
    """
    keys = Keys(environ.get("ALIGNER_API_KEY", ""), config.keys)
    # Where clients send a key of ours, it is none of the upstream's business.
    upstream = Upstream(
        config.upstream.rstrip("/"),
        environ.get("ALIGNER_UPSTREAM_KEY", ""),
        takes_client_key=not keys.are_needed,
        waits=Waits(between=config.patience),
        breaker=Breaker(config.failures, config.rest),
    )
    proxy = Proxy(
        upstream,
        _engine(config),
        _policy(config),
        config.open_after,
        config.heartbeat,
        Breaker(config.failures, config.rest),
    )
    async with upstream, proxy.engine, _log(config) as log:
        door = Door(
            upstream=config.upstream,
            mode=config.mode,
            allow=config.allow,
            largest_body=config.largest_body,
            relays=config.others == "relay",
            modes=_modes(proxy, config.gate),
            proxy=proxy,
            models=Models(upstream, [mode for mode in PREFIXES.values() if mode in config.allow]),
            log=log,
            metrics=Metrics(),
            traces=traces or open_traces(),
            lines=lines,
            admission=Admission(
                keys, Rates(config.rate), Places(config.at_a_time), {*_LOOPBACK, config.host, *config.hosts}
            ),
        )
        yield Router(door.routes, redirect_slashes=False, default=door.elsewhere)


def _engine(config: ServeConfig) -> Engine:
    return Engine(
        EngineOptions(
            aligner=config.aligner,
            device=config.device,
            rows=config.rows,
            waiting=config.waiting,
            seconds=config.seconds,
        )
    )


def _policy(config: ServeConfig) -> Policy:
    return Policy(
        truncated=config.truncated == "correct",
        json=config.json == "correct",
        broken=config.profile == "helpful",
        fails_open=FAILS_OPEN[config.profile].__getitem__,
    )


def _modes(proxy: Proxy, gate: float | None) -> Mapping[Mode, Answering]:
    gated = replace(proxy, policy=replace(proxy.policy, gate=gate))
    return {"off": proxy.off, "shadow": proxy.shadow, "correct": proxy.correct, "gate": gated.correct}


def _log(config: ServeConfig) -> contextlib.AbstractAsyncContextManager[CorrectionLog | None]:
    if not config.log:
        return contextlib.nullcontext()
    return open_log(config.log, LogOptions(content=config.log_content, days=config.log_days))


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
