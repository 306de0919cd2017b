"""Requests to any OpenAI-compatible endpoint, each sent once, and what came back, byte by byte."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal, NamedTuple, cast

import aiohttp
import orjson

from aligner.events import EventReader

Json = dict[str, Any]

_LARGEST = 8 * 2**20
_QUESTION = "Say hello."


class NoAnswerError(Exception):
    """A request came to nothing; says why in one line."""


class NotSupportedError(Exception):
    """An endpoint does not offer what a check looks at; says what, in one line."""


class Outcome(NamedTuple):
    """What a check has found, in one line; advice is no failure."""

    kind: Literal["ok", "finding", "advice", "not supported"]
    text: str = ""


OK = Outcome("ok")


def finding(text: str) -> Outcome:
    """The outcome of a check that failed."""
    return Outcome("finding", text)


class Check(NamedTuple):
    """One question to an endpoint."""

    name: str
    asks: str
    """what is looked at, for people"""
    run: Callable[["Probe"], Awaitable[Outcome]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """A request, to which the probe adds the model and a question."""

    path: str = "/chat/completions"
    method: str = "POST"
    fields: Mapping[str, object] = field(default_factory=dict[str, object])
    raw: bytes | None = None
    """a body instead of JSON with these fields"""
    key: str | None = None
    """a key instead of the right one"""


@dataclass(frozen=True)
class Seen:
    """An answer; names of headers are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def is_stream(self) -> bool:
        """Whether it is said to be server-sent events."""
        return self.headers.get("content-type", "").startswith("text/event-stream")

    @cached_property
    def json(self) -> Json:
        """The object that the body is, or an empty one."""
        return object_in(self.body)

    @cached_property
    def events(self) -> list[str]:
        """The data of each event, also of one that the end of the body leaves open."""
        reader = EventReader()
        return [*reader.add(self.body), *reader.rest()]

    @cached_property
    def chunks(self) -> list[Json]:
        """The events that are JSON objects."""
        return [chunk for event in self.events if (chunk := object_in(event.encode()))]

    @property
    def start(self) -> str:
        """The beginning of the body on one line."""
        return " ".join(self.body[:400].decode(errors="replace").split())[:120]


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """An endpoint under examination; a request that is asked twice is sent once."""

    url: str
    """the base URL, without a solidus at its end"""
    session: aiohttp.ClientSession
    model: str = ""
    key: str = field(default="", repr=False)
    seconds: float = 60.0
    """longest wait for a whole answer"""
    _seen: dict[tuple[object, ...], Seen] = field(default_factory=dict[tuple[object, ...], Seen], repr=False)

    async def ask(self, ask: Ask, *, again: bool = False) -> Seen:
        """The answer to a request; raises NoAnswerError. `again` sends it in any case."""
        place = (ask.method, ask.path, self._body(ask), ask.key)
        if again or place not in self._seen:
            self._seen[place] = await self._send(ask)
        return self._seen[place]

    async def begin(self, ask: Ask) -> bytes:
        """The first bytes of an answer, after which the connection is closed; raises NoAnswerError."""
        try:
            async with self._request(ask) as response:
                data = await response.content.readany()
                response.close()
        except (aiohttp.ClientError, TimeoutError) as error:
            raise NoAnswerError(self._reason(error)) from error
        return data

    async def _send(self, ask: Ask) -> Seen:
        body = b""
        try:
            async with self._request(ask) as response:
                async for data in response.content.iter_any():
                    body += data
                    if len(body) > _LARGEST:
                        raise NoAnswerError(f"the answer is larger than {_LARGEST:,} bytes")
                headers = {name.lower(): value for name, value in response.headers.items()}
        except (aiohttp.ClientError, TimeoutError) as error:
            raise NoAnswerError(self._reason(error)) from error
        return Seen(response.status, headers, body)

    def _request(self, ask: Ask) -> Any:
        key = self.key if ask.key is None else ask.key
        return self.session.request(
            ask.method,
            self.url + ask.path,
            data=self._body(ask),
            headers={
                "Accept-Encoding": "gzip",  # a stream must not be compressed for whoever would take it
                "Content-Type": "application/json",
                **({"Authorization": f"Bearer {key}"} if key else {}),
            },
            timeout=aiohttp.ClientTimeout(total=self.seconds),
            allow_redirects=False,
        )

    def _body(self, ask: Ask) -> bytes | None:
        if ask.raw is not None or ask.method != "POST":
            return ask.raw
        is_chat = ask.path.startswith("/chat")
        asked = {"messages": [{"role": "user", "content": _QUESTION}]} if is_chat else {"prompt": _QUESTION}
        return orjson.dumps({"model": self.model, **asked, **ask.fields})

    def _reason(self, error: Exception) -> str:
        if isinstance(error, asyncio.TimeoutError):
            return f"no whole answer within {self.seconds:g} s"
        return " ".join(str(error).split()) or type(error).__name__


def objects(value: object) -> list[Json]:
    """The objects in a list; none where there is no list."""
    items = cast("list[object]", value) if isinstance(value, list) else []
    return [cast("Json", item) for item in items if isinstance(item, dict)]


def kind_of(value: object) -> str:
    """What JSON calls the kind of a value."""
    match value:
        case dict():
            return "an object"
        case list():
            return "a list"
        case str():
            return "text"
        case bool():
            return "true or false"
        case None:
            return "null"
        case _:
            return "a number"


def object_in(data: bytes) -> Json:
    """The JSON object in some bytes, or an empty one."""
    try:
        value: object = orjson.loads(data)
    except orjson.JSONDecodeError:
        return {}
    return cast("Json", value) if isinstance(value, dict) else {}
