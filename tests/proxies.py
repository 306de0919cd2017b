"""A proxy before a scripted upstream, both real servers in this process; the engine is a process of its own."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

import aiohttp

from aligner.config import ServeConfig
from aligner.serve import check, opened
from aligner.testing import Upstream, serving


class Proxied(NamedTuple):
    """Where both listen, and what the upstream has seen."""

    url: str
    upstream_url: str
    upstream: Upstream


class Got(NamedTuple):
    """An answer as it came."""

    status: int
    headers: dict[str, str]
    body: bytes


@asynccontextmanager
async def proxied(
    upstream: Upstream | None = None, environ: dict[str, str] | None = None, **fields: Any
) -> AsyncGenerator[Proxied, None]:
    """A proxy with an echo Aligner, unless another is named."""
    upstream = upstream or Upstream()
    async with serving(upstream) as upstream_url:
        given: dict[str, Any] = {"aligner": "echo:", "patience": 1.0, **fields}
        config = ServeConfig(upstream=f"{upstream_url}/v1", **given)
        check(config, environ or {})
        async with opened(config, environ or {}) as app, serving(app) as url:
            yield Proxied(url, upstream_url, upstream)


async def ask(session: aiohttp.ClientSession, url: str, body: bytes, *, method: str = "POST", **headers: str) -> Got:
    """One request; of a body that breaks off, what had come of it."""
    named = {"content-type": "application/json", **{name.replace("_", "-"): value for name, value in headers.items()}}
    async with session.request(method, url, data=body or None, headers=named) as response:
        parts: list[bytes] = []
        try:
            async for chunk in response.content.iter_any():
                parts.append(chunk)
        except aiohttp.ClientError:
            pass
        return Got(response.status, {k.lower(): v for k, v in response.headers.items()}, b"".join(parts))
