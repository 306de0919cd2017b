"""Names of models that choose a mode: `raw/NAME` for the upstream's own answers, `aligned/NAME` for corrected ones."""

import time
from collections import OrderedDict
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple, cast

import orjson

from aligner.config import Mode
from aligner.serving.upstream import Headers, Upstream
from aligner.serving.wire import Asked, Json, WireError, object_in, object_of, renamed

PREFIXES: Mapping[str, Mode] = {"aligned/": "correct", "raw/": "off"}
_MOST_CALLERS = 1000
"""whose lists of models are kept"""


def resolve(asked: Asked, allowed: Collection[Mode]) -> tuple[Asked, Mode | None]:
    """The request under the upstream's own name of the model, and the mode that its name chose."""
    model = asked.payload.get("model")
    for prefix, mode in PREFIXES.items():
        if isinstance(model, str) and model.startswith(prefix) and mode in allowed:
            return renamed(asked, model.removeprefix(prefix)), mode
    return asked, None


class Listed(NamedTuple):
    """What the upstream said when it was asked for its models, and when."""

    at: float
    status: int
    headers: Headers
    body: bytes


@dataclass(slots=True)
class Models:
    """The upstream's list of models and their aliases, kept for a minute, and longer while the upstream is down."""

    upstream: Upstream
    allowed: Collection[Mode]
    seconds: float = 60.0
    _kept: OrderedDict[str, Listed] = field(default_factory=OrderedDict[str, Listed])

    async def listed(self, headers: Headers) -> Listed:
        """The list for a client, or the upstream's own error; raises WireError where there is none."""
        caller = dict(headers).get("authorization", "")
        kept = self._kept.get(caller)
        if kept is not None and time.monotonic() < kept.at + self.seconds:
            return kept
        try:
            found = await self._asked(headers)
        except WireError:
            if kept is None:
                raise
            return kept
        if found.status >= 500 and kept is not None:
            return kept
        if found.status == 200:
            self._kept[caller] = found
        if len(self._kept) > _MOST_CALLERS:
            self._kept.popitem(last=False)
        return found

    async def names(self, headers: Headers) -> list[str]:
        """The names alone; raises WireError where the upstream lists none."""
        found = await self.listed(headers)
        listed: object = object_in(found.body).get("data")
        models = map(object_of, cast("list[object]", listed) if isinstance(listed, list) else [])
        names = [model["id"] for model in models if isinstance(model.get("id"), str)]
        if not names:
            raise WireError(502, "the upstream lists no models", "upstream_garbage", "upstream_error")
        return [name for name in names if not name.startswith(tuple(PREFIXES))]

    async def _asked(self, headers: Headers) -> Listed:
        async with self.upstream.send("GET", "/models", headers, None) as reply:
            body = b"".join([chunk async for chunk in reply.chunks])
        listed = with_aliases(body, self.allowed) if reply.status == 200 else body
        return Listed(time.monotonic(), reply.status, reply.headers, listed)


def with_aliases(body: bytes, allowed: Collection[Mode]) -> bytes:
    """A list of models with the aliases of each behind them; anything else stays as it is."""
    whole = object_in(body)
    if not isinstance(listed := whole.get("data"), list):
        return body
    models = [model for model in map(object_of, cast("list[object]", listed)) if isinstance(model.get("id"), str)]
    return orjson.dumps({**whole, "data": [*listed, *_aliases(models, allowed)]})


def _aliases(models: list[Json], allowed: Collection[Mode]) -> Iterator[Json]:
    for prefix, mode in PREFIXES.items():
        if mode in allowed:
            yield from ({**model, "id": prefix + model["id"]} for model in models)
