"""What streams of an OpenAI-compatible endpoint must look like."""

import re
from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, cast

from aligner.testing.plain_checks import FINISHES, judge_usage, looking
from aligner.testing.probe import (
    OK,
    Ask,
    Check,
    Json,
    NotSupportedError,
    Outcome,
    Probe,
    Seen,
    finding,
    object_in,
    objects,
)

_BLANK_LINE = re.compile(rb"(?:\r\n\r\n|\r\r|\n\n)\Z")
_LINE = re.compile(rb"\r\n|\r|\n")
_DONE = "[DONE]"


def streaming(judge: Callable[[Seen], Outcome], **fields: object) -> Callable[[Probe], Awaitable[Outcome]]:
    """A check that judges a stream of a chat; an endpoint that sends none is told so by another check."""
    ask = Ask(fields={"stream": True, **fields})

    async def run(probe: Probe) -> Outcome:
        return judge(_stream(await probe.ask(ask), ", ".join(fields) or "stream"))

    return run


def _stream(seen: Seen, what: str) -> Seen:
    if seen.status != 200:
        raise NotSupportedError(f"{what}: status {seen.status}")
    if not seen.is_stream:
        raise NotSupportedError(f"{what}: no stream comes")
    return seen


def opening(seen: Seen) -> Outcome:
    """Status 200 and the content type of server-sent events."""
    kind = seen.headers.get("content-type", "none")
    if seen.status != 200:
        return finding(f"status {seen.status}: {seen.start}")
    if not seen.is_stream:
        return finding(f"content-type {kind}, not text/event-stream; clients read an empty answer")
    return OK


def uncompressed(seen: Seen) -> Outcome:
    """No compression, which would hold the events back."""
    encoding = seen.headers.get("content-encoding", "identity")
    return OK if encoding == "identity" else finding(f"content-encoding {encoding} holds the events back")


def unbuffered(seen: Seen) -> Outcome:
    """Headers by which caches and proxies in between let events through one by one."""
    if "no-cache" not in seen.headers.get("cache-control", "") and "no-store" not in seen.headers.get(
        "cache-control", ""
    ):
        return Outcome("advice", "no cache-control: no-cache; a cache may keep the stream")
    if seen.headers.get("x-accel-buffering") != "no":
        return Outcome("advice", "no x-accel-buffering: no; nginx may hold the events back")
    return OK


def framing(seen: Seen) -> Outcome:
    """Events of JSON objects, each ended by an empty line."""
    if not seen.events:
        return finding("no event at all")
    wrong = [event for event in seen.events if event != _DONE and not object_in(event.encode())]
    if wrong:
        return finding(f"an event that is no JSON object: {wrong[0][:80]!r}")
    if not _is_utf8(seen.body):
        return finding("bytes that are no UTF-8")
    return OK if _BLANK_LINE.search(seen.body) else finding("the last event is not ended by an empty line")


def unnamed(seen: Seen) -> Outcome:
    """Nothing but data and comments."""
    others = [line for line in _LINE.split(seen.body) if line and not line.startswith((b"data:", b":"))]
    return finding(f"a line that is neither data nor a comment: {others[0][:80]!r}") if others else OK


def done(seen: Seen) -> Outcome:
    """`[DONE]` once, and last."""
    if _DONE not in seen.events:
        return finding("no data: [DONE] at the end; clients cannot tell the end from a cut")
    after = len(seen.events) - 1 - seen.events.index(_DONE)
    return finding(f"{after} events after data: [DONE], which clients never see") if after else OK


def fields(seen: Seen) -> Outcome:
    """All fields of a chunk, of which id, created and model stay the same."""
    filled = [chunk for chunk in seen.chunks if objects(chunk.get("choices"))]
    kinds: Mapping[str, type] = {"id": str, "created": int, "model": str}
    for chunk in filled:
        if chunk.get("object") != "chat.completion.chunk":
            return finding(f"object is {chunk.get('object')!r}, not 'chat.completion.chunk'")
        wrong = [name for name, kind in kinds.items() if not isinstance(chunk.get(name), kind)]
        wrong += [name for name in kinds if chunk.get(name) != filled[0].get(name)]
        if wrong:
            return finding(f"{wrong[0]} is missing or changes within the stream")
    return choices(seen)


def choices(seen: Seen) -> Outcome:
    """In every choice an index, a delta, and a finish reason that is null until the end."""
    for choice in _choices(seen):
        missing = [name for name in ("index", "delta", "finish_reason") if name not in choice]
        if missing:
            return finding(f"a choice without {missing[0]}")
    return OK if _choices(seen) else finding("no chunk with choices")


def roles(seen: Seen) -> Outcome:
    """The role with the first delta of each choice, and the choices in the order of their numbers."""
    first: dict[Any, Json] = {}
    for choice in _choices(seen):
        first.setdefault(choice.get("index"), choice)
    if list(first) != list(range(len(first))):
        return finding(f"choices begin in the order {list(first)}; the official client fails at that")
    for index, choice in first.items():
        delta = choice.get("delta")
        if not isinstance(delta, dict) or cast("Json", delta).get("role") != "assistant":
            return finding(f"the first delta of choice {index} has no role")
    return OK


def finishes(seen: Seen) -> Outcome:
    """One finish reason for each choice, and nothing after it."""
    reasons: dict[Any, list[object]] = defaultdict(list)
    for choice in _choices(seen):
        index, reason = choice.get("index"), choice.get("finish_reason")
        if reasons[index] and _says(choice):
            return finding(f"choice {index} goes on after its finish_reason")
        if reason is not None:
            reasons[index].append(reason)
    for index, found in reasons.items():
        if len(found) != 1:
            return finding(f"choice {index} has {len(found)} finish reasons, not 1")
        if found[0] not in FINISHES:
            return finding(f"finish_reason is {found[0]!r}")
    return OK if reasons else finding("no finish reason")


def no_usage(seen: Seen) -> Outcome:
    """No usage that was not asked for, and no chunk without choices, at which clients that expect none fail."""
    for chunk in seen.chunks:
        if chunk.get("usage") is not None:
            return finding("usage comes although nobody asked for it")
        if chunk.get("choices") == []:
            return finding("a chunk without choices, at which many clients fail")
    return OK


def with_usage(seen: Seen) -> Outcome:
    """Usage once, in the last chunk, which has no choices; null in the others."""
    having = [chunk for chunk in seen.chunks if chunk.get("usage") is not None]
    if len(having) != 1:
        return finding(f"usage comes {len(having)} times, not once")
    if having[0] is not seen.chunks[-1]:
        return finding("usage does not come last")
    outcome = judge_usage(having[0]["usage"])
    if outcome != OK:
        return outcome
    if having[0].get("choices") != []:
        return Outcome("advice", "usage comes with the finish reason, not in a chunk of its own")
    without = [chunk for chunk in seen.chunks if "usage" not in chunk]
    return Outcome("advice", "usage is missing, not null, in the other chunks") if without else OK


def two_choices(seen: Seen) -> Outcome:
    """Both choices, with roles in order and one finish reason each."""
    indexes = {choice.get("index") for choice in _choices(seen)}
    if indexes != {0, 1}:
        return finding(f"the choices are numbered {sorted(map(str, indexes))}, not 0 and 1")
    return next((outcome for outcome in (roles(seen), finishes(seen)) if outcome != OK), OK)


def text(seen: Seen) -> Outcome:
    """Chunks of a text completion, with text in each choice and one finish reason."""
    wrong = [chunk for chunk in seen.chunks if chunk.get("object") != "text_completion"]
    if wrong:
        return finding(f"object is {wrong[0].get('object')!r}, not 'text_completion'")
    if any(not isinstance(choice.get("text"), str) for choice in _choices(seen)):
        return finding("a choice without text")
    return next((outcome for outcome in (framing(seen), done(seen), finishes(seen)) if outcome != OK), OK)


async def text_stream(probe: Probe) -> Outcome:
    """The check of text completions."""
    return text(_stream(await probe.ask(Ask(path="/completions", fields={"stream": True})), "streamed text"))


async def cancelling(probe: Probe) -> Outcome:
    """After a client has left a stream, the next request is answered as before."""
    first = await probe.begin(Ask(fields={"stream": True}))
    if not first:
        return finding("a stream without a byte")
    seen = await probe.ask(Ask(), again=True)
    return OK if seen.status == 200 else finding(f"then the next request is answered with status {seen.status}")


def _choices(seen: Seen) -> list[Json]:
    return [choice for chunk in seen.chunks for choice in objects(chunk.get("choices"))]


def _is_utf8(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


def _says(choice: Json) -> bool:
    delta = choice.get("delta")
    content = cast("Json", delta).get("content") if isinstance(delta, dict) else choice.get("text")
    return bool(content)


CHECKS: tuple[Check, ...] = (
    Check("stream", "content type of a stream", looking(Ask(fields={"stream": True}), opening)),
    Check("compression", "none on streams", streaming(uncompressed)),
    Check("buffering", "headers for what stands in between", streaming(unbuffered)),
    Check("framing", "each event a JSON object and an empty line", streaming(framing)),
    Check("events", "only data and comments", streaming(unnamed)),
    Check("done", "data: [DONE] last", streaming(done)),
    Check("chunks", "fields of each chunk", streaming(fields)),
    Check("roles", "first delta of each choice", streaming(roles)),
    Check("finish", "one finish reason a choice", streaming(finishes)),
    Check("no usage", "none where nobody asks for it", streaming(no_usage)),
    Check(
        "usage asked", "stream_options: include_usage", streaming(with_usage, stream_options={"include_usage": True})
    ),
    Check("n streamed", "n: 2, choices in order", streaming(two_choices, n=2)),
    Check("text streamed", "chunks of a text completion", text_stream),
    Check("cancel", "a client leaves in the middle", cancelling),
)
