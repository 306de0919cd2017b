"""Requests to a model's server: sessions, time-outs, retries, and errors that say which server and why."""

import asyncio
import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import partial
from typing import Any, NamedTuple

import aiohttp
import orjson
import stamina

from aligner.errors import ModelError
from aligner.records import Usage

_RETRIED = frozenset({408, 409, 429})
_CURES: Mapping[int, str] = {
    401: "; set OPENAI_API_KEY to a key of this server",
    403: "; the key in OPENAI_API_KEY may not use this model",
    404: "; check the model's name, and that the base URL ends as the server wants it, often in /v1",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeouts:
    """How long to wait, in seconds."""

    connect: float = 10.0
    """for a connection"""
    between: float = 120.0
    """for the first piece of a streamed answer, and between two pieces"""
    total: float = 600.0
    """for one whole answer"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Retries:
    """How to try again: the wait doubles each time, with up to `jitter` seconds on top."""

    attempts: int = 5
    """attempts in all"""
    first_wait: float = 0.5
    """seconds before the second attempt"""
    longest_wait: float = 60.0
    """seconds at the most, also when the server asks for more"""
    jitter: float = 1.0
    """seconds of chance, so that many callers do not come back at once"""


class TransientError(ModelError):
    """A failure that may pass: how many seconds the server asks for, its status, 0 for none, and its word for it."""

    def __init__(self, line: str, wait: float | None = None, status: int = 0, code: str = "") -> None:
        super().__init__(line)
        self.wait = wait
        self.status = status
        self.code = code


class RefusedError(ModelError):
    """A refusal for good, with the status that the server gave it, and its word for it."""

    def __init__(self, line: str, status: int, code: str = "") -> None:
        super().__init__(line)
        self.status = status
        self.code = code


class BrokenError(ModelError):
    """An answer that did not come whole: late, cut off or no JSON; the server may have made and counted it."""


class UnusableError(ModelError):
    """A whole answer that holds no text, and the tokens that it took, as far as the server says."""

    def __init__(self, line: str, usage: Usage = Usage()) -> None:
        super().__init__(line)
        self.usage = usage


class Answer(NamedTuple):
    """The body of an answer as it comes."""

    content_type: str
    chunks: AsyncIterator[bytes]


class Sessions:
    """One client session for each event loop, open for as long as anybody uses it."""

    def __init__(self) -> None:
        self._open: dict[asyncio.AbstractEventLoop, tuple[aiohttp.ClientSession, int]] = {}

    def acquire(self) -> aiohttp.ClientSession:
        """The session of the running event loop; every call needs its `release`."""
        loop = asyncio.get_running_loop()
        session, users = self._open.get(loop) or (_new_session(), 0)
        self._open[loop] = session, users + 1
        return session

    async def release(self) -> None:
        """Give the session back; the last to do so closes it."""
        loop = asyncio.get_running_loop()
        session, users = self._open.pop(loop)
        if users > 1:
            self._open[loop] = session, users - 1
        else:
            await session.close()


def _new_session() -> aiohttp.ClientSession:
    # Whoever calls bounds the number of calls.
    return aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0))


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """An address that takes JSON; the key goes into the request's header, and nowhere else."""

    url: str
    key: str = field(default="", repr=False)
    timeouts: Timeouts = Timeouts()
    retries: Retries = Retries()
    largest_answer: int = 32 * 2**20
    """bytes at the most"""
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    """what else goes into the request's header; never a key"""
    sessions: Sessions = field(default_factory=Sessions, repr=False, compare=False)

    @asynccontextmanager
    async def post(self, payload: Mapping[str, Any], *, streamed: bool = False) -> AsyncGenerator[Answer, None]:
        """Send JSON and read the answer in chunks; raises ModelError.

        Failures to connect and passing refusals are tried again, up to the moment when the answer begins.
        """
        limits = aiohttp.ClientTimeout(
            total=self.timeouts.total,
            sock_connect=self.timeouts.connect,
            sock_read=self.timeouts.between if streamed else None,
        )
        session = self.sessions.acquire()
        try:
            response = await self._send_until_taken(partial(self._send, session, orjson.dumps(payload), limits))
            async with response:
                yield Answer(response.content_type, self._chunks(response))
        finally:
            await self.sessions.release()

    def error(self, problem: str, body: bytes = b"") -> ModelError:
        """The error for an answer that cannot be used, with its beginning."""
        return ModelError(self._line(problem, body))

    def broken(self, problem: str, body: bytes = b"") -> BrokenError:
        """The error for an answer that did not come whole, with its beginning."""
        return BrokenError(self._line(problem, body))

    def unusable(self, problem: str, body: bytes, usage: Usage) -> UnusableError:
        """The error for a whole answer without text, with its beginning."""
        return UnusableError(self._line(problem, body), usage)

    async def _send_until_taken(self, send: Callable[[], Awaitable[aiohttp.ClientResponse]]) -> aiohttp.ClientResponse:
        retries = self.retries
        call = stamina.AsyncRetryingCaller(
            attempts=retries.attempts,
            timeout=None,
            wait_initial=retries.first_wait,
            wait_max=retries.longest_wait,
            wait_jitter=retries.jitter,
        )
        return await call(self._wait, send)

    async def _send(
        self, session: aiohttp.ClientSession, body: bytes, limits: aiohttp.ClientTimeout
    ) -> aiohttp.ClientResponse:
        key = {"Authorization": f"Bearer {self.key}"} if self.key else {}
        headers = {"Content-Type": "application/json", **self.headers, **key}
        try:
            response = await session.post(self.url, data=body, headers=headers, timeout=limits, allow_redirects=False)
        except (aiohttp.ClientError, TimeoutError) as error:
            raise self._lost(error) from error
        if response.status == 200:
            return response
        async with response:
            raise await self._refusal(response)

    async def _chunks(self, response: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
        size = 0
        try:
            async for chunk in response.content.iter_any():
                size += len(chunk)
                if size > self.largest_answer:
                    raise self.error(f"the answer is larger than {self.largest_answer:,} bytes")
                yield chunk
        except (aiohttp.ClientError, TimeoutError) as error:
            raise self.broken(f"the answer was cut off: {self._reason(error)}") from error

    async def _refusal(self, response: aiohttp.ClientResponse) -> ModelError:
        try:
            body = await response.content.read(2**16)
        except (aiohttp.ClientError, TimeoutError):
            body = b""
        status, code = response.status, _code_of(body)
        line = self._line(f"status {status}{_CURES.get(status, '')}", body)
        passing = status in _RETRIED or status >= 500
        if not passing or response.headers.get("x-should-retry") == "false":
            return RefusedError(line, status, code)
        wait = seconds_to_wait(response.headers.get("Retry-After"), datetime.now(UTC))
        return TransientError(line, wait, status, code)

    def _lost(self, error: Exception) -> ModelError:
        """The error for a request that got no answer."""
        unsure = isinstance(error, TimeoutError) and not isinstance(error, aiohttp.ConnectionTimeoutError)
        passing = isinstance(error, aiohttp.ClientConnectionError) and not isinstance(error, aiohttp.ClientSSLError)
        kind = BrokenError if unsure else TransientError if passing else ModelError
        return kind(f"{self.url}: {self._reason(error)}")

    def _reason(self, error: Exception) -> str:
        match error:
            case aiohttp.ConnectionTimeoutError():
                return f"no connection within {self.timeouts.connect:g} s; is the server running?"
            case aiohttp.ServerTimeoutError():
                return f"nothing came for {self.timeouts.between:g} s"
            case TimeoutError():
                return f"no whole answer within {self.timeouts.total:g} s"
            case aiohttp.ClientConnectorError() if not isinstance(error.os_error, ssl.SSLError):
                return f"cannot connect: {error.os_error.strerror or error.os_error}; is the server running?"
            case _:
                return one_line(str(error)) or type(error).__name__

    def _wait(self, error: Exception) -> bool | float:
        """Whether to try again, and after how many seconds, in stamina's terms."""
        if not isinstance(error, TransientError):
            return False
        return True if error.wait is None else min(error.wait, self.retries.longest_wait)

    def _line(self, problem: str, body: bytes) -> str:
        text = body.decode("utf-8", errors="replace")
        # A server may repeat the key that it does not like.
        start = one_line(text.replace(self.key, "***") if self.key else text)[:200]
        return f"{self.url}: {problem}: {start}" if start else f"{self.url}: {problem}"


def _code_of(body: bytes) -> str:
    """The server's own word for an error, as OpenAI puts it; empty where there is none."""
    try:
        error = orjson.loads(body)["error"]
        return str(error.get("code") or error.get("type") or "")[:100]
    except (ValueError, TypeError, KeyError, AttributeError):
        return ""


def seconds_to_wait(header: str | None, now: datetime) -> float | None:
    """What a `Retry-After` header asks for: seconds or a date; None when it is absent or makes no sense."""
    if header is None:
        return None
    try:
        return max(0.0, float(header)) if header.strip().isdecimal() else _seconds_until(header, now)
    except (ValueError, OverflowError):
        return None


def _seconds_until(date: str, now: datetime) -> float:
    moment = parsedate_to_datetime(date)
    return max(0.0, (moment.replace(tzinfo=moment.tzinfo or UTC) - now).total_seconds())


def one_line(text: str) -> str:
    """A text on one line, without control characters."""
    return " ".join("".join(letter if letter.isprintable() else " " for letter in text).split())
