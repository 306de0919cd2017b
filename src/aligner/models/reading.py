"""Reading what servers answer, in which anything may be missing or of another kind."""

from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from typing import Any, cast

import orjson

from aligner.events import EventReader
from aligner.models.server import Answer, Server


async def body_of(answer: Answer) -> bytes:
    """The whole of an answer."""
    return b"".join([chunk async for chunk in answer.chunks])


def is_one_piece(answer: Answer) -> bool:
    """Whether a server that was asked for a stream sends its answer, or an error page, as a whole."""
    return "json" in answer.content_type or "html" in answer.content_type


async def events_of(chunks: AsyncIterator[bytes]) -> AsyncGenerator[str, None]:
    """The data of each server-sent event."""
    reader = EventReader()
    async for chunk in chunks:
        for data in reader.add(chunk):
            yield data
    for data in reader.rest():
        yield data


def json_of(server: Server, body: bytes) -> Any:
    """What the JSON says; BrokenError when it is none."""
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise server.broken("status 200, but no valid JSON", body) from error


def object_of(value: object) -> Mapping[str, object]:
    """The value where it is an object, or else an empty one."""
    return cast("Mapping[str, object]", value) if isinstance(value, dict) else {}


def first_of(value: object) -> Mapping[str, object]:
    """The first object of a list, or an empty one."""
    items = objects_of(value)
    return items[0] if items else {}


def objects_of(value: object) -> list[Mapping[str, object]]:
    """Each item of a list, or an empty one where it is no object; nothing where there is no list."""
    return [object_of(item) for item in cast("list[object]", value)] if isinstance(value, list) else []


def text_of(value: object) -> str:
    """The value where it is text, or else none."""
    return value if isinstance(value, str) else ""


def number_of(value: object) -> int:
    """The value where it is a whole number, or else 0."""
    return value if isinstance(value, int) else 0
