"""The upstream behind the proxy: what is passed on to it and back, and what is said when it does not answer."""

import asyncio
import math
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import lru_cache, partial
from typing import Self

import aiohttp
from yarl import URL

from aligner.serving.breaker import Attempt, Breaker, BreakerOpenError, End
from aligner.serving.wire import WireError

Headers = list[tuple[str, str]]

_HOP_BY_HOP = frozenset(
    {
        "connection",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)
_NOT_FORWARDED = _HOP_BY_HOP | {"host", "content-length", "cookie", "x-csrf-token", "accept-encoding", "expect"}
_BUSY = frozenset({429, 529})
"""statuses that say nothing of the upstream's health"""
_DOWN = frozenset({502, 503, 504})
_SECONDS_IDLE = 4.0
"""after which a connection is not used again: many servers close theirs after 5, also under a request on its way"""
_NOT_RETURNED = _HOP_BY_HOP | {"content-length", "content-encoding", "set-cookie", "date", "server"}
_OURS = "x-aligner-"
_THEIRS: Headers = [("x-aligner-origin", "upstream")]
"""of an error that is the upstream's own"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Waits:
    """How long the upstream may take, in seconds."""

    connect: float = 5.0
    """for a connection"""
    between: float = 120.0
    """for the first byte, and between two pieces"""
    total: float = 600.0
    """for one whole answer; looked at when a piece comes, so that `between` may be added to it"""


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer of the upstream as it comes."""

    status: int
    headers: Headers
    """those that go on to the client"""
    content_type: str
    length: int | None
    """bytes of the body, where they were told"""
    chunks: AsyncIterator[bytes]


@dataclass(slots=True)
class Upstream:
    """One configured server; used as `async with`, it keeps its connections."""

    url: str
    key: str = field(default="", repr=False)
    """sent in place of the client's, if there is one"""
    takes_client_key: bool = True
    """whether the client's own key goes on to it"""
    waits: Waits = Waits()
    largest: int = 32 * 2**20
    """bytes of an answer at the most"""
    breaker: Breaker = field(default_factory=Breaker)
    _session: aiohttp.ClientSession | None = field(default=None, repr=False)

    async def __aenter__(self) -> Self:
        # Bodies go on as they are, so that nothing is decompressed; and nothing is remembered of one for another.
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=_SECONDS_IDLE),
            auto_decompress=False,
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=self.waits.connect, sock_read=self.waits.between),
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._session is not None:
            await self._session.close()

    @asynccontextmanager
    async def send(
        self, method: str, path: str, headers: Headers, body: bytes | AsyncIterator[bytes] | None
    ) -> AsyncGenerator[Reply, None]:
        """Ask, and read the answer in chunks; raises WireError, 502, 503 or 504, where none comes."""
        attempt = self._admitted()
        try:
            response = await self._request(method, path, headers, body)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            # A body that is passed on as it comes may have failed on its client's side.
            attempt.settle("bad" if body is None or isinstance(body, bytes) else "neutral")
            raise _lost(error) from None
        except BaseException:
            attempt.settle("neutral")
            raise
        attempt.settle(_end(response.status))
        async with response:
            if not 200 <= response.status <= 599:
                raise _garbage("the upstream's answer has no status of HTTP")
            yield Reply(
                response.status,
                [*_returned(response.headers), *(_THEIRS if response.status >= 400 else ())],
                response.content_type,
                response.content_length,
                self._chunks(response, attempt),
            )

    def _admitted(self) -> Attempt:
        try:
            return self.breaker.admit()
        except BreakerOpenError as error:
            raise WireError(
                503,
                "the upstream has failed several times, and is left alone for some seconds",
                "upstream_unavailable",
                "upstream_error",
                headers=(("retry-after", str(math.ceil(error.seconds))),),
            ) from None

    async def _request(
        self, method: str, path: str, headers: Headers, body: bytes | AsyncIterator[bytes] | None
    ) -> aiohttp.ClientResponse:
        """The answer's head; where no connection could be made, nothing was asked yet, and it is tried once more."""
        if self._session is None:
            raise ValueError("an upstream is used as `async with upstream:`")
        ask = partial(
            self._session.request,
            method,
            _url(self.url + path),
            headers=self._forwarded(headers, body),
            data=aiohttp.BytesPayload(body) if isinstance(body, bytes) else body,
            allow_redirects=False,
        )
        try:
            return await ask()
        except aiohttp.ClientConnectorError:
            return await ask()

    def _forwarded(self, headers: Headers, body: bytes | AsyncIterator[bytes] | None) -> Headers:
        """The client's headers, but for those of its connection and our own."""
        kept = [(n, v) for n, v in headers if n not in _NOT_FORWARDED and not n.startswith(_OURS)]
        if self.key or not self.takes_client_key:
            kept = [(n, v) for n, v in kept if n not in ("authorization", "x-api-key", "api-key")]
        if self.key:
            kept.append(("authorization", f"Bearer {self.key}"))
        if body is not None and not isinstance(body, bytes):
            kept.extend((n, v) for n, v in headers if n == "content-length")
        return [*kept, ("accept-encoding", "identity")]

    async def _chunks(self, response: aiohttp.ClientResponse, attempt: Attempt) -> AsyncIterator[bytes]:
        clock, size = asyncio.get_running_loop().time, 0
        last = clock() + self.waits.total
        try:
            async for chunk in response.content.iter_any():
                size += len(chunk)
                if size > self.largest:
                    raise _garbage(f"the upstream's answer is larger than {self.largest:,} bytes")
                if clock() > last:
                    raise _late()
                yield chunk
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            attempt.settle("bad")
            raise _lost(error) from None


def _end(status: int) -> End:
    return "neutral" if status in _BUSY else "bad" if status in _DOWN else "good"


@lru_cache(maxsize=64)
def _url(text: str) -> URL:
    # What the client percent-encoded stays as it is.
    return URL(text, encoded=True)


def _returned(headers: Mapping[str, str]) -> Headers:
    """What goes back to the client; the upstream's own request id under a name of its own."""
    named = [(name.lower(), value) for name, value in headers.items()]
    renamed = [("x-upstream-request-id" if name == "x-request-id" else name, value) for name, value in named]
    return [(name, value) for name, value in renamed if name not in _NOT_RETURNED]


def _lost(error: Exception) -> WireError:
    # A timeout for the connection is also a failure to connect; what the client may do about both is the same.
    if isinstance(error, TimeoutError):
        return _late()
    if isinstance(error, aiohttp.ClientConnectorError):
        return WireError(502, "the upstream cannot be reached", "upstream_unreachable", "upstream_error")
    return WireError(502, "the upstream's answer was cut off", "upstream_cut", "upstream_error")


def _late() -> WireError:
    return WireError(504, "the upstream did not answer in time", "upstream_timeout", "upstream_error")


def _garbage(message: str) -> WireError:
    return WireError(502, message, "upstream_garbage", "upstream_error")
