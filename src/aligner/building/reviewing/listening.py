"""The review as an application, and as a server that listens."""

import asyncio
import ipaddress
import signal
import socket
import sys
from collections.abc import AsyncGenerator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, closing
from pathlib import Path

import uvicorn
from starlette.applications import Starlette
from starlette.routing import Route

from aligner.building import principles
from aligner.building.reviewing.desk import HUMAN, Desk
from aligner.building.reviewing.looks import static_files, templates
from aligner.building.reviewing.pages import HOME, Pages
from aligner.config.building import BuildConfig
from aligner.errors import MisuseError
from aligner.serving.admission import Admission
from aligner.serving.client import Client, Receive
from aligner.serving.endpoint import Endpoint, Scope
from aligner.serving.heads import LimitedHeads
from aligner.serving.keys import Keys, read_keys
from aligner.serving.limits import Places, Rates
from aligner.serving.pages.entering import Entering
from aligner.serving.pages.showing import Showing
from aligner.serving.wire import WireError

_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
_AT_A_TIME = 64
_SECONDS_TO_END = 5


def app(store_path: Path, config: BuildConfig) -> Starlette:
    """The review of the build in that file; raises MisuseError where it cannot work. Its lifespan closes the file."""
    check(config)
    # SQLite's connections belong to the thread that made them, and people are slow: one is enough.
    thread = ThreadPoolExecutor(1, thread_name_prefix="desk")
    desk = thread.submit(Desk, store_path, config).result()
    admission = Admission(Keys(file=config.review.keys), Rates(0), Places(_AT_A_TIME), {*_LOOPBACK, config.review.host})
    made = templates()
    routes = [
        *Pages(admission, made, desk, thread, _principles(config)).routes,
        *Entering(admission, made).routes,
        Route("/static/{name}", Endpoint(Showing(admission, made, static_files()).file, None), methods=["GET"]),
        Route("/{path:path}", Endpoint(_unknown, None)),
    ]

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncGenerator[None, None]:
        try:
            yield
        finally:
            await asyncio.to_thread(lambda: thread.submit(desk.close).result())
            thread.shutdown()

    return Starlette(routes=routes, lifespan=lifespan)


def serve(config: BuildConfig) -> None:
    """aligner build review: listen until the process is told to end."""
    application = app(config.out / "build.sqlite", config)
    with closing(_listener(config.review.host, config.review.port)) as listener:
        host = f"[{config.review.host}]" if ":" in config.review.host else config.review.host
        sys.stderr.write(f"aligner build review: http://{host}:{listener.getsockname()[1]}{HOME}\n")
        options = uvicorn.Config(
            application,
            http=LimitedHeads,
            log_level="warning",
            access_log=False,
            server_header=False,
            date_header=False,
            proxy_headers=False,
            timeout_graceful_shutdown=_SECONDS_TO_END,
        )
        server = uvicorn.Server(options)
        # When it has ended it raises the signal again, as if that had not been obeyed.
        signal.signal(signal.SIGTERM, server.handle_exit)
        asyncio.run(server.serve([listener]))


def check(config: BuildConfig) -> None:
    """Refuse what cannot work, before anything is opened; raises MisuseError."""
    review = config.review
    if not any(each.model.startswith(HUMAN) for each in config.annotators):
        raise MisuseError(f'nobody is to correct by hand: give an annotator the model "{HUMAN}", in [[annotators]]')
    if review.keys is None and not _is_loopback(review.host):
        raise MisuseError(
            f"{review.host} is not loopback: give --review.keys, a file made by aligner grant NAME --role viewer"
        )
    if review.keys is not None:
        read_keys(review.keys)
    if not 0 <= review.twice <= 1 or not 0 <= review.inspected <= 1:
        raise MisuseError("--review.twice and --review.inspected are shares, from 0 to 1")
    if review.lease_minutes <= 0:
        raise MisuseError("--review.lease-minutes is more than 0")


def _principles(config: BuildConfig) -> Sequence[tuple[str, Sequence[str]]]:
    return [(each.name, each.text) for each in principles.load(config.principles).of]


async def _unknown(scope: Scope, _: Receive, __: Client) -> None:
    raise WireError(404, f"there is no {scope['path']}", "not_found")


def _listener(host: str, port: int) -> socket.socket:
    """A socket that listens; raises MisuseError where it cannot."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen()
    except OSError as error:
        listener.close()
        raise MisuseError(f"cannot listen on {host}:{port}: {error.strerror or error}") from error
    return listener


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
