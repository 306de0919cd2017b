"""Requests to a scripted upstream, as many kinds as there are, each with what a client must see of the answer."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any, Literal

import orjson

from aligner.testing import texts
from aligner.testing.failing import REFUSALS
from aligner.testing.framing import FRAMINGS
from aligner.testing.named import ARGUMENTS
from aligner.testing.replies import tokens_of

CHAT = "/v1/chat/completions"
TEXT = "/v1/completions"

QUESTION = "What is the capital of France?"
_MESSAGES = ({"role": "system", "content": "Answer briefly."}, {"role": "user", "content": QUESTION})
_TOOLS = [
    {
        "type": "function",
        "function": {
            "name": name,
            "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
        },
    }
    for name in ("weather", "time")
]
_TOOL_HISTORY = [
    {"role": "user", "content": "How is the weather in Paris?"},
    {
        "role": "assistant",
        "content": None,
        "tool_calls": [{"id": "call_0", "type": "function", "function": {"name": "weather", "arguments": ARGUMENTS}}],
    },
    {"role": "tool", "tool_call_id": "call_0", "content": "sunny"},
    {"role": "user", "content": QUESTION},
]
_SCHEMA = {"name": "city", "strict": True, "schema": {"type": "object", "properties": {"city": {"type": "string"}}}}


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A request by name; the model that it asks for names the script that answers it."""

    name: str
    path: str
    payload: Mapping[str, Any]
    kind: Literal["same", "error"] = "same"
    """what a client must see through a proxy that changes nothing: the upstream's own bytes, or an error"""
    status: int = 200
    """the upstream's"""
    answers: tuple[str | None, ...] | None = None
    """the text of each choice, where a client gets an answer"""

    @property
    def streamed(self) -> bool:
        """Whether it asks for a stream."""
        return self.payload.get("stream") is True

    @property
    def body(self) -> bytes:
        """The payload as it is sent."""
        return orjson.dumps(dict(self.payload))


def _chat(name: str, model: str, *answers: str | None, **fields: Any) -> Entry:
    payload = {"model": model, "messages": list(_MESSAGES), **fields}
    return Entry(name=f"chat-{name}", path=CHAT, payload=payload, answers=answers)


def _text(name: str, model: str, *answers: str, **fields: Any) -> Entry:
    payload = {"model": model, "prompt": QUESTION, **fields}
    return Entry(name=f"text-{name}", path=TEXT, payload=payload, answers=answers)


def _both(entry: Entry) -> Iterator[Entry]:
    """The same request whole and streamed."""
    yield entry
    yield _streamed(entry)


def _streamed(entry: Entry, suffix: str = "streamed", **fields: Any) -> Entry:
    return replace(entry, name=f"{entry.name}-{suffix}", payload={**entry.payload, "stream": True, **fields})


def _with_usage(entry: Entry) -> Entry:
    return _streamed(entry, "streamed-usage", stream_options={"include_usage": True})


def _texts() -> Iterator[Entry]:
    """Answers of every kind of text."""
    for model, text in (
        ("unchanged", texts.PLAIN),
        ("emoji", texts.EMOJI),
        ("combining", texts.COMBINING),
        ("separators", texts.SEPARATORS),
        ("directions", texts.DIRECTIONS),
        ("paragraphs", texts.PARAGRAPHS),
        ("hostile", texts.HOSTILE),
        ("long", texts.LONG),
        ("echo", QUESTION),
    ):
        yield from _both(_chat(model, model, text))
    for model, text in (("unchanged", texts.PLAIN), ("separators", texts.SEPARATORS), ("emoji", texts.EMOJI)):
        yield from _both(_text(model, model, text))


def _options() -> Iterator[Entry]:
    """What a request may ask for besides."""
    for make in (_chat, _text):
        plain = make("plain", "unchanged", texts.PLAIN)
        yield _with_usage(plain)
        yield _streamed(plain, "streamed-no-usage", stream_options={"include_usage": False})
        yield from _both(make("n2", "n2", texts.PLAIN, texts.OTHER, n=2))
        yield _with_usage(make("n3", "unchanged", texts.PLAIN, texts.OTHER, texts.EMOJI, n=3))
        yield from _both(make("max-tokens", "unchanged", "".join(tokens_of(texts.PLAIN)[:5]), max_tokens=5))
    yield from _both(_chat("logprobs", "emoji", texts.EMOJI, logprobs=True, top_logprobs=2))
    yield _streamed(_chat("logprobs-n2", "unchanged", texts.PLAIN, texts.OTHER, logprobs=True, n=2))
    yield from _both(_text("logprobs", "emoji", texts.EMOJI, logprobs=2))
    yield from _both(_text("prompts", "unchanged", texts.PLAIN, texts.OTHER, prompt=[QUESTION, "And of Italy?"]))
    for kind in ("json_object", "json_schema"):
        schema = {"json_schema": _SCHEMA} if kind == "json_schema" else {}
        yield from _both(_chat(kind, "json", texts.JSON, response_format={"type": kind, **schema}))
    parts = [
        {"type": "text", "text": QUESTION},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}},
    ]
    yield from _both(_chat("request-parts", "unchanged", texts.PLAIN, messages=[{"role": "user", "content": parts}]))
    unknown = {"x_top": {"deep": [1, {"er": None}]}, "metadata": {"a": "ä"}, "seed": 2**62, "temperature": 1e-7}
    yield from _both(_chat("request-fields", "unchanged", texts.PLAIN, **unknown))


def _messages() -> Iterator[Entry]:
    """Answers that are more than text, or less."""
    for model, answer in (
        ("tools", None),
        ("parallel-tools", None),
        ("tools-after-text", "Let me look at the weather first."),
    ):
        yield from _both(_chat(model, model, answer, tools=_TOOLS, tool_choice="auto"))
    named = {"type": "function", "function": {"name": "weather"}}
    yield _with_usage(_chat("tool-choice", "tools", None, tools=_TOOLS, tool_choice=named, parallel_tool_calls=False))
    yield _streamed(_chat("tools-resent", "tools-resent", None, tools=_TOOLS))
    yield from _both(_chat("function-call", "function-call", None, functions=[_TOOLS[0]["function"]]))
    yield from _both(_chat("tool-history", "unchanged", texts.PLAIN, messages=_TOOL_HISTORY, tools=_TOOLS))
    yield from _both(_chat("audio", "audio", None, modalities=["text", "audio"]))
    for model, answer in (
        ("refusal", None),
        ("null", None),
        ("empty", ""),
        ("blank", " \n\t"),
        ("filtered", texts.PLAIN[:25]),
        ("length", "".join(tokens_of(texts.PLAIN)[:9])),
        ("reasoning-content", texts.PLAIN),
        ("reasoning", texts.PLAIN),
        ("think", f"<think>\n{texts.REASONING}\n</think>\n\n{texts.PLAIN}"),
        ("parts", texts.PLAIN),
        ("cited", texts.PLAIN),
        ("unknown-fields", texts.PLAIN),
        ("azure", texts.PLAIN),
    ):
        yield from _both(_chat(model, model, answer))
    yield from _both(_text("length", "length", "".join(tokens_of(texts.PLAIN)[:9])))
    yield from _both(_text("empty", "empty", ""))
    yield from _both(_text("unknown-fields", "unknown-fields", texts.PLAIN))


def _spellings() -> Iterator[Entry]:
    """Streams that mean the same as others."""
    for framing in FRAMINGS:
        yield _streamed(_chat(framing, framing, texts.EMOJI))
    for framing in ("crlf", "split"):
        yield _with_usage(_chat(f"{framing}-n2", framing, texts.EMOJI, texts.COMBINING, n=2))
        yield _streamed(_text(framing, framing, texts.EMOJI))
    yield from _both(_chat("spelt-out", "spelt-out", texts.EMOJI))
    for model in ("no-done", "changing-ids"):
        yield _streamed(_chat(model, model, texts.PLAIN))
    yield _with_usage(_chat("usage-on-finish", "usage-on-finish", texts.PLAIN))


def _refusals() -> Iterator[Entry]:
    """Answers that say by their status that there is none."""
    for name, script in REFUSALS.items():
        yield replace(_chat(name, name), status=script.status, answers=None)
    for name in ("error-400", "error-429", "error-500"):
        yield replace(_streamed(_chat(name, name)), status=REFUSALS[name].status, answers=None)
        yield replace(_text(name, name), status=REFUSALS[name].status, answers=None)
    yield replace(_chat("no-model", "no-such-model"), status=404, answers=None)
    yield replace(_chat("wrong-type", "unchanged", messages=5), kind="error", status=400, answers=None)


def _failures() -> Iterator[Entry]:
    """Answers that break on their way, or should never have been sent."""
    for model in ("html", "error-with-200", "cut", "stall", "hang-up"):
        yield from _both(_chat(model, model))
    for model in ("half-json", "silence"):
        yield _chat(model, model)
    for model in (
        "one-piece",
        "error-frame",
        "text-frame",
        "garbage-frame",
        "truncated",
        "unfinished",
        "empty-stream",
        "done-only",
    ):
        yield _streamed(_chat(model, model))
    for model in ("cut", "error-frame", "truncated"):
        yield _streamed(_text(model, model))


def _all() -> Iterator[Entry]:
    yield from chain(_texts(), _options(), _messages(), _spellings(), _refusals())
    yield from (replace(entry, kind="error", answers=None) for entry in _failures())
    embeddings = {"model": "unchanged", "input": [QUESTION], "encoding_format": "float"}
    yield Entry(name="embeddings", path="/v1/embeddings", payload=embeddings)


CORPUS: tuple[Entry, ...] = tuple(_all())
"""Every entry; the names are unique."""
