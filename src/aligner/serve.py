"""Serve: a proxy between any application and any OpenAI-compatible model, which gives back better answers."""

import asyncio
import contextlib
import ipaddress
import os
import re
import signal
import socket
import sys
from collections.abc import AsyncGenerator, Mapping, Sequence
from types import FrameType
from typing import Any
from urllib.parse import urlsplit

from aligner.config import ServeConfig
from aligner.errors import MissingExtraError, MisuseError
from aligner.objectives import instruction_from
from aligner.serving.log import CorrectionLog, LogOptions, open_log

try:
    import structlog
    import uvicorn
    from starlette.routing import Route, Router

    from aligner.serving.admission import Admission
    from aligner.serving.breaker import Breaker
    from aligner.serving.database import place_of
    from aligner.serving.door import Door
    from aligner.serving.heads import LimitedHeads
    from aligner.serving.keys import Keys, read_keys
    from aligner.serving.limits import Places, Rates
    from aligner.serving.lines import STANDARD, send_lines
    from aligner.serving.metrics import Metrics
    from aligner.serving.named import DEFAULT, Named
    from aligner.serving.pages.about import About
    from aligner.serving.pages.entering import Entering
    from aligner.serving.pages.files import Templates
    from aligner.serving.pages.showing import Showing
    from aligner.serving.pairing import engines_of, pairs_of, upstreams_of
    from aligner.serving.reports import Reports
    from aligner.serving.traces import Traces, open_traces
except ImportError as error:
    raise MissingExtraError("serving needs an extra: pip install 'aligner-llm[serve]'") from error

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
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
    _check_url("the upstream", config.upstream)
    _check_names("upstreams", [each.name for each in config.upstreams])
    _check_names("aligners", [each.name for each in config.aligners])
    for each in config.upstreams:
        _check_url(f"the upstream {each.name}", each.url)
        if each.key_env and not environ.get(each.key_env):
            raise MisuseError(f"the upstream {each.name} takes its key from {each.key_env}, which is not set")
    for told in (config, *config.aligners):
        instruction_from(told.instruction, told.objective)
    modes = {config.mode, *config.allow}
    if config.gate is not None and "gate" not in modes:
        raise MisuseError("--gate is for mode gate, which is neither the mode nor allowed")
    if config.gate is not None and not 0 <= config.gate <= 1:
        raise MisuseError(f"--gate is a probability, not {config.gate}")
    if config.profile == "safety" and modes & {"off", "shadow"} and len(modes) > 1:
        raise MisuseError("profile safety with a mode that sends answers uncorrected: a request could choose it")
    if config.profile == "safety" and config.allow_instructions != "no":
        raise MisuseError("profile safety with --allow-instructions: a request could tell the Aligner to leave answers")
    if not _is_loopback(config.host) and not environ.get("ALIGNER_API_KEY") and config.keys is None:
        raise MisuseError(
            f"{config.host} is not loopback: set ALIGNER_API_KEY, or --keys, which clients then have to send"
        )
    if config.keys is not None:
        read_keys(config.keys)
    if config.at_a_time < 1 or config.rate < 0:
        raise MisuseError("--at-a-time begins at 1, and --rate at 0")


def _check_url(which: str, url: str) -> None:
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname)
    except ValueError:
        raise MisuseError(f"{which} is not like https://host/v1") from None
    if not usable:
        raise MisuseError(f"{which} is not like https://host/v1")
    if parts.username or parts.password or parts.query or parts.fragment:
        raise MisuseError(f"{which}'s URL holds a user, a query or a fragment; keys come from the environment")


def _check_names(table: str, names: Sequence[str]) -> None:
    """A name is a word, so that no URL is one."""
    for name in names:
        if not _NAME.fullmatch(name):
            raise MisuseError(f'[[{table}]]: the name "{name}" is not made of letters, digits, "-", "_" and "."')
        if name == DEFAULT or names.count(name) > 1:
            raise MisuseError(f'[[{table}]]: the name "{name}" is taken')


@contextlib.asynccontextmanager
async def opened(
    config: ServeConfig, environ: Mapping[str, str] = os.environ, traces: Traces | None = None, lines: Any = STANDARD
) -> AsyncGenerator[Router, None]:
    """The ASGI application, while its engines run; raises what an engine raises where it cannot start.

    `lines` is a logger of structlog's, which is told of each request.
    """
    keys = Keys(environ.get("ALIGNER_API_KEY", ""), config.keys)
    admission = Admission(keys, Rates(config.rate), Places(config.at_a_time), {*_LOOPBACK, config.host, *config.hosts})
    async with contextlib.AsyncExitStack() as stack:
        upstreams = {
            name: await stack.enter_async_context(upstream)
            for name, upstream in upstreams_of(config, environ, keys_are_ours=keys.are_needed).items()
        }
        aligners = {
            name: (await stack.enter_async_context(engine), Breaker(config.failures, config.rest))
            for name, engine in engines_of(config).items()
        }
        named = Named(pairs_of(config, upstreams, aligners))
        log = await stack.enter_async_context(_log(config))
        door = Door(
            mode=config.mode,
            allow=config.allow,
            largest_body=config.largest_body,
            relays=config.others == "relay",
            named=named,
            by_name=config.by_name,
            tells=config.allow_instructions,
            pages=_pages(config, admission, named) if config.pages == "on" else (),
            reports=Reports(admission, log, place_of(config.log) if config.log else None),
            log=log,
            metrics=Metrics(),
            traces=traces or open_traces(),
            lines=lines,
            admission=admission,
        )
        yield Router(door.routes, redirect_slashes=False, default=door.elsewhere)


def _pages(config: ServeConfig, admission: Admission, named: Named) -> list[Route]:
    """The routes of all that people see, and of what their browsers ask about the proxy."""
    templates, content = Templates(), config.log_content if config.log else None
    about = About(admission=admission, named=named, mode=config.mode, content=content, version=templates.version)
    return [*Showing(admission, templates).routes, *Entering(admission, templates).routes, *about.routes]


def _log(config: ServeConfig) -> contextlib.AbstractAsyncContextManager[CorrectionLog | None]:
    if not config.log:
        return contextlib.nullcontext()
    return open_log(config.log, LogOptions(content=config.log_content, days=config.log_days))


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
