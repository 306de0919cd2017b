"""What goes wrong upstream: refusals, garbage, and streams that break or stop."""

from collections.abc import Mapping
from dataclasses import replace

from aligner.testing.replies import CREATED, Wanted, completion, reply, saying
from aligner.testing.script import DONE, STREAM_HEADERS, Chunk, Script, error, event, json_body, refusal, stream, whole
from aligner.testing.texts import PLAIN

REFUSALS: Mapping[str, Script] = {
    "error-400": refusal(
        400, "This model's maximum context length is 8192 tokens.", "context_length_exceeded", param="messages"
    ),
    "error-401": refusal(401, "Incorrect API key provided: sk-***.", "invalid_api_key"),
    "error-403": refusal(
        403, "Your country is not supported.", "unsupported_country_region_territory", kind="request_forbidden"
    ),
    "error-404": refusal(404, "The model `error-404` does not exist.", "model_not_found"),
    "error-409": refusal(409, "The resource is locked.", "conflict"),
    "error-413": refusal(413, "The request is too large.", "request_too_large"),
    "error-422": json_body({"detail": [{"loc": ["body", "messages"], "msg": "field required"}]}, 422),
    "error-429": refusal(
        429,
        "Rate limit reached.",
        "rate_limit_exceeded",
        kind="requests",
        headers=(("retry-after", "1"), ("retry-after-ms", "10"), ("x-should-retry", "true")),
    ),
    "error-500": refusal(500, "The server had an error.", None, kind="server_error"),
    "error-503": refusal(
        503, "The engine is overloaded.", "overloaded", kind="server_error", headers=(("retry-after", "1"),)
    ),
    "error-text": json_body({"error": "boom"}, 500),
    "error-empty": whole(b"", 502, content_type="text/plain"),
}
"""Answers that say by their status that there is none."""


def html(_: Wanted) -> Script:
    """The page of some gateway, with status 200."""
    return whole(b"<!doctype html>\n<title>Welcome to nginx!</title>\n", content_type="text/html")


def error_with_200(_: Wanted) -> Script:
    """An error whose status says that all is well."""
    return json_body({"error": error("The engine has died.", "engine_dead")})


def half_json(wanted: Wanted) -> Script:
    """JSON that breaks off, in an answer that is as long as its head says."""
    body = reply(_unstreamed(wanted), [saying(wanted, PLAIN)]).body
    return whole(body[: len(body) // 2])


def cut(wanted: Wanted) -> Script:
    """The connection is closed in the middle of the answer."""
    script = reply(wanted, [saying(wanted, PLAIN)])
    if script.streamed:
        return replace(_begun(script), ending="cut")
    return replace(script, chunks=(Chunk(script.body[: len(script.body) // 2]),), ending="cut")


def stall(wanted: Wanted) -> Script:
    """Nothing more comes in the middle of a stream, or after the head of a whole answer."""
    script = reply(wanted, [saying(wanted, PLAIN)])
    return replace(_begun(script) if script.streamed else replace(script, chunks=()), ending="stall")


def silence(_: Wanted) -> Script:
    """Not even a head comes."""
    return Script(head=False, ending="stall")


def hang_up(_: Wanted) -> Script:
    """The connection is closed without an answer."""
    return Script(head=False, ending="cut")


def one_piece(wanted: Wanted) -> Script:
    """A whole answer, also for whoever asked for a stream."""
    return json_body(completion(wanted, [saying(wanted, PLAIN)]))


def error_frame(wanted: Wanted) -> Script:
    """A stream that ends with an error in OpenAI's shape."""
    return _breaking(wanted, event({"error": error("The engine has died.", "engine_dead")}), DONE)


def text_frame(wanted: Wanted) -> Script:
    """A stream that ends with an error that is a mere text."""
    return _breaking(wanted, event({"error": "boom"}), DONE)


def garbage_frame(wanted: Wanted) -> Script:
    """A stream with an event that is not JSON."""
    return _breaking(wanted, b"data: {oops\n\n", DONE)


def truncated(wanted: Wanted) -> Script:
    """A stream that ends as if all were well, but before the answer does."""
    return _breaking(wanted)


def unfinished(wanted: Wanted) -> Script:
    """A stream that says it is done, but gives no finish reason."""
    return _breaking(wanted, DONE)


def empty_stream(wanted: Wanted) -> Script:
    """A stream without a single event."""
    return Script(headers=STREAM_HEADERS) if wanted.streamed else whole(b"")


def done_only(wanted: Wanted) -> Script:
    """A stream without an answer."""
    return (
        stream([]) if wanted.streamed else json_body({"object": "chat.completion", "created": CREATED, "choices": []})
    )


def _breaking(wanted: Wanted, *rest: bytes) -> Script:
    """The first half of a stream, then some bytes; whoever wants no stream gets half of a whole answer."""
    if not wanted.streamed:
        return half_json(wanted)
    begun = _begun(reply(wanted, [saying(wanted, PLAIN)]))
    return begun.writing([*(chunk.data for chunk in begun.chunks), *rest])


def _begun(script: Script) -> Script:
    return replace(script, chunks=script.chunks[: len(script.chunks) // 2])


def _unstreamed(wanted: Wanted) -> Wanted:
    return replace(wanted, payload={**wanted.payload, "stream": False})
