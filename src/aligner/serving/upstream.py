"""The upstream behind the proxy: what is passed on to it and back, and what is said when it does not answer."""

from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Self

import aiohttp

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
_NOT_FORWARDED = _HOP_BY_HOP | {"host", "content-length", "cookie", "accept-encoding", "expect"}
_NOT_RETURNED = _HOP_BY_HOP | {"content-length", "content-encoding", "set-cookie", "date", "server"}
_OURS = "x-aligner-"


@dataclass(frozen=True, slots=True, kw_only=True)
class Waits:
    """How long the upstream may take, in seconds."""

    connect: float = 5.0
    """for a connection"""
    between: float = 120.0
    """for the first byte, and between two pieces"""
    total: float = 600.0
    """for one whole answer"""


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer of the upstream as it comes."""

    status: int
    headers: Headers
    """those that go on to the client"""
    content_type: str
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
    _session: aiohttp.ClientSession | None = field(default=None, repr=False)

    async def __aenter__(self) -> Self:
        connector = aiohttp.TCPConnector(limit=0)
        # Bodies go on as they are, so that nothing is decompressed.
        self._session = aiohttp.ClientSession(connector=connector, auto_decompress=False)
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._session is not None:
            await self._session.close()

    @asynccontextmanager
    async def send(
        self, method: str, path: str, headers: Iterable[tuple[str, str]], body: bytes | AsyncIterator[bytes] | None
    ) -> AsyncGenerator[Reply, None]:
        """Ask, and read the answer in chunks; raises WireError, 502 or 504, where none comes."""
        if self._session is None:
            raise ValueError("an upstream is used as `async with upstream:`")
        limits = aiohttp.ClientTimeout(
            total=self.waits.total, sock_connect=self.waits.connect, sock_read=self.waits.between
        )
        try:
            response = await self._session.request(
                method,
                self.url + path,
                headers=self._forwarded(headers),
                data=body,
                timeout=limits,
                allow_redirects=False,
            )
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise _lost(error) from None
        async with response:
            yield Reply(response.status, _returned(response.headers), response.content_type, self._chunks(response))

    def _forwarded(self, headers: Iterable[tuple[str, str]]) -> Headers:
        """The client's headers, but for those of its connection and our own."""
        kept = [(n, v) for n, v in headers if n not in _NOT_FORWARDED and not n.startswith(_OURS)]
        if self.key or not self.takes_client_key:
            kept = [(n, v) for n, v in kept if n not in ("authorization", "x-api-key", "api-key")]
        if self.key:
            kept.append(("authorization", f"Bearer {self.key}"))
        return [*kept, ("accept-encoding", "identity")]

    async def _chunks(self, response: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
        size = 0
        try:
            async for chunk in response.content.iter_any():
                size += len(chunk)
                if size > self.largest:
                    raise _garbage(f"the upstream's answer is larger than {self.largest:,} bytes")
                yield chunk
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise _lost(error) from None


def _returned(headers: Mapping[str, str]) -> Headers:
    """What goes back to the client; the upstream's own request id under a name of its own."""
    named = [(name.lower(), value) for name, value in headers.items()]
    renamed = [("x-upstream-request-id" if name == "x-request-id" else name, value) for name, value in named]
    return [(name, value) for name, value in renamed if name not in _NOT_RETURNED]


def _lost(error: Exception) -> WireError:
    # A timeout for the connection is also a failure to connect; what the client may do about both is the same.
    if isinstance(error, TimeoutError):
        return WireError(504, "the upstream did not answer in time", "upstream_timeout", "upstream_error")
    if isinstance(error, aiohttp.ClientConnectorError):
        return WireError(502, "the upstream cannot be reached", "upstream_unreachable", "upstream_error")
    return WireError(502, "the upstream's answer was cut off", "upstream_cut", "upstream_error")


def _garbage(message: str) -> WireError:
    return WireError(502, message, "upstream_garbage", "upstream_error")
