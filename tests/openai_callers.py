"""The official client of OpenAI, synchronous and asynchronous, so that every law is put to both."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from operator import attrgetter
from typing import Any, Literal, NamedTuple, Protocol

import openai

CHAT = "chat.completions.create"
TEXT = "completions.create"
MESSAGES: Sequence[Mapping[str, str]] = ({"role": "user", "content": "Which is the capital of France?"},)

Calls = Sequence[tuple[str, Mapping[str, Any]]]
"""methods and their fields"""


class Told(NamedTuple):
    """What a method gave: a value, or the chunks of a stream, and the headers that came with it."""

    value: Any
    headers: Mapping[str, str]


class Broken(NamedTuple):
    """A stream up to where it broke, if it did."""

    chunks: list[Any]
    error: openai.APIError | None
    seconds: float
    """from the first chunk to the last"""

    @property
    def text(self) -> str:
        """Of the first choice."""
        return "".join(choice.delta.content or "" for chunk in self.chunks for choice in chunk.choices)


class Caller(Protocol):
    """An application; methods of the client are named by their path, such as `chat.completions.create`."""

    def told(self, url: str, path: str, **fields: Any) -> Told:
        """What a method gives, with its headers."""
        ...

    def stream(self, url: str, **fields: Any) -> Broken:
        """The chunks of a chat."""
        ...

    def accumulated(self, url: str, **fields: Any) -> Any:
        """The completion that the client's own accumulator makes of a chat's stream."""
        ...

    def refused(self, url: str, asked: Calls, **options: Any) -> list[openai.APIError]:
        """How each of some calls fails, made all at once."""
        ...

    def read(self, url: str, **fields: Any) -> tuple[Mapping[str, str], bytes]:
        """Headers and bytes of a chat's stream."""
        ...


def attempts(error: openai.APIError) -> int:
    """How often the client has asked before it gave up."""
    return 1 + int(error.request.headers["x-stainless-retry-count"])


def _named(path: str) -> str:
    resource, _, method = path.rpartition(".")
    return f"{resource}.with_raw_response.{method}"


def _options(url: str, **more: Any) -> Any:
    return {"base_url": f"{url}/v1", "api_key": "sk-client", "timeout": 30, **more}


@dataclass(frozen=True, slots=True)
class SyncCaller:
    """`openai.OpenAI`."""

    def told(self, url: str, path: str, **fields: Any) -> Told:
        with openai.OpenAI(**_options(url)) as client:
            raw = attrgetter(_named(path))(client)(**fields)
            value = raw.parse()
            return Told(list(value) if isinstance(value, openai.Stream) else value, raw.headers)

    def stream(self, url: str, **fields: Any) -> Broken:
        chunks: list[tuple[float, Any]] = []
        with openai.OpenAI(**_options(url)) as client:
            try:
                for chunk in client.chat.completions.create(stream=True, **_chat(fields)):
                    chunks.append((time.monotonic(), chunk))
            except openai.APIError as error:
                return _broken(chunks, error)
        return _broken(chunks, None)

    def accumulated(self, url: str, **fields: Any) -> Any:
        with openai.OpenAI(**_options(url)) as client, client.chat.completions.stream(**_chat(fields)) as events:
            return events.get_final_completion()

    def refused(self, url: str, asked: Calls, **options: Any) -> list[openai.APIError]:
        with openai.OpenAI(**_options(url, **options)) as client, ThreadPoolExecutor(len(asked)) as pool:

            def one(call: tuple[str, Mapping[str, Any]]) -> openai.APIError:
                try:
                    attrgetter(call[0])(client)(**call[1])
                except openai.APIError as error:
                    return error
                raise AssertionError(call)

            return list(pool.map(one, asked))

    def read(self, url: str, **fields: Any) -> tuple[Mapping[str, str], bytes]:
        with (
            openai.OpenAI(**_options(url)) as client,
            client.chat.completions.with_streaming_response.create(stream=True, **_chat(fields)) as response,
        ):
            return response.headers, b"".join(response.iter_bytes())


@dataclass(frozen=True, slots=True)
class AsyncCaller:
    """`openai.AsyncOpenAI`, in a loop of its own for each call."""

    def told(self, url: str, path: str, **fields: Any) -> Told:
        async def call(client: openai.AsyncOpenAI) -> Told:
            raw = await attrgetter(_named(path))(client)(**fields)
            value = raw.parse()
            return Told([c async for c in value] if isinstance(value, openai.AsyncStream) else value, raw.headers)

        return _with_client(url, call)

    def stream(self, url: str, **fields: Any) -> Broken:
        async def call(client: openai.AsyncOpenAI) -> Broken:
            chunks: list[tuple[float, Any]] = []
            try:
                async for chunk in await client.chat.completions.create(stream=True, **_chat(fields)):
                    chunks.append((time.monotonic(), chunk))
            except openai.APIError as error:
                return _broken(chunks, error)
            return _broken(chunks, None)

        return _with_client(url, call)

    def accumulated(self, url: str, **fields: Any) -> Any:
        async def call(client: openai.AsyncOpenAI) -> Any:
            async with client.chat.completions.stream(**_chat(fields)) as events:
                return await events.get_final_completion()

        return _with_client(url, call)

    def refused(self, url: str, asked: Calls, **options: Any) -> list[openai.APIError]:
        async def call(client: openai.AsyncOpenAI) -> list[openai.APIError]:
            calls = (attrgetter(path)(client)(**fields) for path, fields in asked)
            found: list[Any] = await asyncio.gather(*calls, return_exceptions=True)
            assert all(isinstance(error, openai.APIError) for error in found), found
            return found

        return _with_client(url, call, **options)

    def read(self, url: str, **fields: Any) -> tuple[Mapping[str, str], bytes]:
        async def call(client: openai.AsyncOpenAI) -> tuple[Mapping[str, str], bytes]:
            asking = client.chat.completions.with_streaming_response.create(stream=True, **_chat(fields))
            async with asking as response:
                return response.headers, b"".join([part async for part in response.iter_bytes()])

        return _with_client(url, call)


def _broken(chunks: Sequence[tuple[float, Any]], error: openai.APIError | None) -> Broken:
    seconds = chunks[-1][0] - chunks[0][0] if chunks else 0.0
    return Broken([chunk for _, chunk in chunks], error, seconds)


CALLERS: Mapping[Literal["sync", "async"], Caller] = {"sync": SyncCaller(), "async": AsyncCaller()}


def _with_client(url: str, call: Callable[[openai.AsyncOpenAI], Awaitable[Any]], **options: Any) -> Any:
    async def run() -> Any:
        async with openai.AsyncOpenAI(**_options(url, **options)) as client:
            return await call(client)

    return asyncio.run(run())


def _chat(fields: Mapping[str, Any]) -> Any:
    return {"messages": MESSAGES, **fields}
