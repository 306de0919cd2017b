"""A proxy that runs beside the tests of one module, an upstream that does what each example says, and bare HTTP."""

import asyncio
import logging
import threading
from collections.abc import AsyncGenerator, Coroutine, Generator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

import httptools
import orjson
from proxies import Proxied, proxied

from aligner.testing import Upstream, by_model
from aligner.testing.script import Answering, Asked, Script, whole

T = TypeVar("T")

_SECONDS = 20.0
NO_HTTP = b"Invalid HTTP request received."
"""what the server below ours says where it cannot even tell a request"""


@dataclass
class Reply:
    """What came back over the wire."""

    status: int = 0
    headers: dict[str, str] = field(default_factory=dict[str, str])
    body: bytes = b""
    complete: bool = False
    """whether it ended as its head said"""

    @property
    def error(self) -> dict[str, Any] | None:
        """The error in it, where it is an error in OpenAI's shape and nothing else."""
        try:
            found: Any = orjson.loads(self.body)
        except orjson.JSONDecodeError:
            return None
        error = found.get("error") if isinstance(found, dict) and set(found) == {"error"} else None
        if not isinstance(error, dict) or set(error) != {"message", "type", "param", "code"}:
            return None
        fits = isinstance(error["message"], str) and isinstance(error["type"], str)
        return error if fits and all(isinstance(error[name], str | None) for name in ("param", "code")) else None


class _Reading:
    """Takes a response apart, as httptools tells of its parts."""

    def __init__(self) -> None:
        self.reply = Reply()

    def on_header(self, name: bytes, value: bytes) -> None:
        self.reply.headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_body(self, body: bytes) -> None:
        self.reply.body += body

    def on_message_complete(self) -> None:
        self.reply.complete = True


def parsed(data: bytes) -> Reply:
    """The response in some bytes; without a status where they hold none."""
    reading = _Reading()
    parser = httptools.HttpResponseParser(reading)
    try:
        parser.feed_data(data)
    except httptools.HttpParserError:
        reading.reply.complete = False
    if data:
        reading.reply.status = parser.get_status_code()
    # A body without a length and without chunks goes on until the connection ends.
    bounded = {"content-length", "transfer-encoding"} & set(reading.reply.headers)
    reading.reply.complete |= bool(data) and not bounded
    return reading.reply


@dataclass
class Fuzzed:
    """A proxy in a thread of its own, and what it must not say: nothing unforeseen happens in it."""

    proxy: Proxied
    box: list[Answering]
    loop: asyncio.AbstractEventLoop
    failures: list[str]

    def send(self, data: bytes, answering: Answering) -> Reply:
        """Send bytes to it, with an upstream that answers like that, and read until it hangs up."""
        self.box[0] = answering
        reply = parsed(asyncio.run_coroutine_threadsafe(_sent(self.proxy.url, data), self.loop).result(2 * _SECONDS))
        found = self.unforeseen()
        assert not found, found
        return reply

    def by_model(self) -> None:
        """Let the upstream take its scripts by the name of the model."""
        self.box[0] = by_model()

    def unforeseen(self) -> list[str]:
        """The errors that were logged since this was last asked."""
        found, self.failures[:] = list(self.failures), []
        return found


@contextmanager
def fuzzed(**fields: Any) -> Generator[Fuzzed]:
    """A proxy, for as long as the block lasts."""
    box: list[Answering] = [sent_back]
    with _loop() as loop:

        def result(coroutine: Coroutine[Any, Any, T]) -> T:
            return asyncio.run_coroutine_threadsafe(coroutine, loop).result(60)

        context = proxied(Upstream(lambda asked: box[0](asked), keep=100), failures=0, **fields)  # noqa: PLW0108  # the box is filled anew
        proxy = result(context.__aenter__())
        try:
            with _unforeseen() as failures:
                yield Fuzzed(proxy, box, loop, failures)
        finally:
            result(context.__aexit__(None, None, None))


@contextmanager
def _loop() -> Generator[asyncio.AbstractEventLoop]:
    """An event loop that runs in a thread of its own."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="fuzzed", daemon=True)
    thread.start()
    try:
        yield loop
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(60)
        loop.close()


class _Kept(logging.Handler):
    """Keeps what is logged."""

    def __init__(self, kept: list[str]) -> None:
        super().__init__(logging.ERROR)
        self._kept = kept
        self.setFormatter(logging.Formatter())

    def emit(self, record: logging.LogRecord) -> None:
        # A bypass is said loudly, and foreseen; a body that is left without its end is how a client learns of a cut.
        if record.levelno == logging.ERROR and "without completing response" not in record.getMessage():
            self._kept.append(self.format(record))


@contextmanager
def _unforeseen() -> Generator[list[str]]:
    """The errors that are logged."""
    kept: list[str] = []
    handler, loggers = _Kept(kept), [logging.getLogger(name) for name in ("aligner", "uvicorn.error", "asyncio")]
    for logger in loggers:
        logger.addHandler(handler)
    try:
        yield kept
    finally:
        for logger in loggers:
            logger.removeHandler(handler)


async def _sent(url: str, data: bytes) -> bytes:
    async with asyncio.timeout(_SECONDS), _connected(url) as (reader, writer):
        writer.write(data)
        parts: list[bytes] = []
        try:
            while part := await reader.read(2**16):
                parts.append(part)
        except ConnectionResetError:
            pass  # it does not want the rest of what it was sent
        return b"".join(parts)


@asynccontextmanager
async def _connected(url: str) -> AsyncGenerator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    host, _, port = url.removeprefix("http://").partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        yield reader, writer
    finally:
        writer.transport.abort()


def request(
    body: bytes,
    path: bytes = b"/v1/chat/completions",
    method: bytes = b"POST",
    headers: dict[bytes, bytes] | None = None,
) -> bytes:
    """The bytes of a request after which the connection ends."""
    named = {b"host": b"localhost", b"connection": b"close", b"content-length": b"%d" % len(body)}
    lines = [name + b": " + value for name, value in (named | (headers or {})).items()]
    return b"\r\n".join([method + b" " + path + b" HTTP/1.1", *lines, b"", body])


def sent_back(asked: Asked) -> Script:
    """The body as it came, in one event where a stream was wanted."""
    if asked.payload.get("stream") is True:
        return streaming(b"data: " + asked.body.replace(b"\n", b" ").replace(b"\r", b" ") + b"\n\ndata: [DONE]\n\n")
    return whole(asked.body)


def streaming(body: bytes) -> Script:
    """A stream that is written at once."""
    return Script(headers=(("content-type", "text/event-stream"),)).writing([body])
