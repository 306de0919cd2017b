"""The scripts by name: what a scripted upstream does with a request for a model of that name."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from aligner.testing import failing, texts
from aligner.testing.framing import FRAMINGS, Framing, framed, other_json, spelt_out
from aligner.testing.replies import CREATED, Choice, Json, Wanted, chunks, reply, saying, sending, tokens_of, usage
from aligner.testing.script import Script, refusal, stream, whole

Scripted = Callable[[Wanted], Script]

ARGUMENTS = '{"city": "Paris", "days": [1, 2], "unit": "°C"}'


def says(*answers: str, finish_reason: str = "stop", **fields: Any) -> Scripted:
    """A script whose choices say these texts, again from the first when there are more choices."""
    return lambda wanted: reply(wanted, _choices(wanted, answers, finish_reason, **fields))


def sends(message: Mapping[str, Any], deltas: Sequence[Mapping[str, Any]], finish_reason: str = "stop") -> Scripted:
    """A script whose choices all are the same message of a chat, in these deltas when it is streamed."""

    def script(wanted: Wanted) -> Script:
        if not wanted.chat:
            return refusal(400, "This model only answers chats.", "model_not_supported", param="model")
        return reply(wanted, [sending(message, deltas, finish_reason)] * wanted.count)

    return script


def echo(wanted: Wanted) -> Script:
    """Every choice says what was asked."""
    return reply(wanted, [saying(wanted, wanted.asked)] * wanted.count)


def _choices(wanted: Wanted, answers: Sequence[str], finish_reason: str = "stop", **fields: Any) -> list[Choice]:
    return [saying(wanted, answers[index % len(answers)], finish_reason, **fields) for index in range(wanted.count)]


def _two(wanted: Wanted) -> Script:
    """Two choices, asked for or not."""
    return reply(wanted, [saying(wanted, texts.PLAIN), saying(wanted, texts.OTHER)])


def _first_tokens(wanted: Wanted) -> Script:
    """As if the model's own limit had been reached."""
    return reply(wanted, [saying(wanted, "".join(tokens_of(texts.PLAIN)[:9]), "length")])


def _with_framing(framing: Framing, pause: float) -> Scripted:
    said = says(texts.EMOJI, texts.COMBINING)
    return lambda wanted: framed(said(wanted), framing, pause)


def _spelt_out(wanted: Wanted) -> Script:
    script = reply(wanted, _choices(wanted, [texts.EMOJI, texts.COMBINING]))
    return framed(script, other_json) if script.streamed else whole(spelt_out(script.body))


def _without_done(wanted: Wanted) -> Script:
    script = reply(wanted, _choices(wanted, [texts.PLAIN]))
    return script.writing([chunk.data for chunk in script.chunks][:-1]) if script.streamed else script


def _changing_ids(wanted: Wanted) -> Script:
    choices = _choices(wanted, [texts.PLAIN])
    if not wanted.streamed:
        return reply(wanted, choices)
    return stream({**chunk, "id": f"{chunk['id']}-{i}"} for i, chunk in enumerate(chunks(wanted, choices)))


def _usage_on_finish(wanted: Wanted) -> Script:
    choices = _choices(wanted, [texts.PLAIN])
    if not wanted.streamed:
        return reply(wanted, choices)
    rows = [chunk for chunk in chunks(wanted, choices) if chunk["choices"]]
    return stream([*rows[:-1], {**rows[-1], "usage": usage(wanted, choices)}])


def _unknown_fields(wanted: Wanted) -> Script:
    """Fields that no client knows, at all depths, with numbers that are easily changed on the way."""
    top: Json = {"x_top": {"deep": [1, {"er": None}]}, "x_big": 2**63 - 1, "x_small": 1e-7, "x_whole": 1.0}
    said = saying(wanted, texts.PLAIN)
    choice = replace(said, whole=_extended(said.whole), pieces=tuple(map(_extended, said.pieces)))
    return reply(wanted, [choice] * wanted.count, **top)


def _extended(piece: Mapping[str, Any]) -> Json:
    inner: Json = {name: {**piece[name], "x_inner": {"a": "ä"}} for name in ("message", "delta") if name in piece}
    return {**piece, **inner, "x_choice": [[]], "stop_reason": None}


def _azure(wanted: Wanted) -> Script:
    """A stream that begins with the verdict of a filter, in a chunk without choices."""
    choices = _choices(wanted, [texts.PLAIN])
    verdict = [{"prompt_index": 0, "content_filter_results": {"hate": {"filtered": False, "severity": "safe"}}}]
    if not wanted.streamed:
        return reply(wanted, choices, prompt_filter_results=verdict)
    first = {"id": "", "object": "", "created": 0, "model": "", "choices": [], "prompt_filter_results": verdict}
    return stream([first, *chunks(wanted, choices)])


def _call(index: int, name: str, arguments: str | None = ARGUMENTS) -> dict[str, Any]:
    call = {"id": f"call_{index}", "type": "function", "function": {"name": name, "arguments": arguments}}
    return {"index": index, **call}


def _in_pieces(index: int, name: str) -> list[dict[str, Any]]:
    """The deltas of a call: its name first, then its arguments."""
    pieces = [{"index": index, "function": {"arguments": token}} for token in tokens_of(ARGUMENTS)]
    return [{"tool_calls": [call]} for call in (_call(index, name, ""), *pieces)]


def _calls(*names: str, content: str | None = None) -> Scripted:
    calls = [{k: v for k, v in _call(i, name).items() if k != "index"} for i, name in enumerate(names)]
    preamble = [{"content": token} for token in tokens_of(content or "")]
    deltas = [delta for i, name in enumerate(names) for delta in _in_pieces(i, name)]
    return sends({"content": content, "tool_calls": calls}, [*preamble, *deltas], "tool_calls")


_RESENT = [{"tool_calls": [_call(0, "weather", token)]} for token in tokens_of(ARGUMENTS)]
_FUNCTION = [{"function_call": {"name": "weather", "arguments": ""}}] + [
    {"function_call": {"arguments": token}} for token in tokens_of(ARGUMENTS)
]
_AUDIO = {"id": "audio_1", "data": "UklGRiQAAABXQVZFZm10IA==", "transcript": texts.PLAIN, "expires_at": CREATED + 3600}
_PART = {"type": "text", "text": texts.PLAIN}
_CITATION = {
    "type": "url_citation",
    "url_citation": {"url": "https://example.org/paris", "title": "Paris", "start_index": 25, "end_index": 30},
}


def _content(name: str, text: str, then: str = texts.PLAIN) -> Scripted:
    """A message with a text of another kind before its content."""
    first = [{name: token} for token in tokens_of(text)]
    return sends({"content": then, name: text}, [*first, *({"content": token} for token in tokens_of(then))])


ANSWERS: Mapping[str, Scripted] = {
    "unchanged": says(texts.PLAIN, texts.OTHER, texts.EMOJI),
    "n2": _two,
    "echo": echo,
    "emoji": says(texts.EMOJI),
    "combining": says(texts.COMBINING),
    "separators": says(texts.SEPARATORS),
    "directions": says(texts.DIRECTIONS),
    "paragraphs": says(texts.PARAGRAPHS),
    "hostile": says(texts.HOSTILE),
    "long": says(texts.LONG),
    "json": says(texts.JSON),
    "length": _first_tokens,
    "filtered": says(texts.PLAIN[:25], finish_reason="content_filter"),
    "empty": says(""),
    "blank": says(" \n\t"),
    "cited": says(texts.PLAIN, annotations=[_CITATION]),
    "think": says(f"<think>\n{texts.REASONING}\n</think>\n\n{texts.PLAIN}"),
    "unknown-fields": _unknown_fields,
    "azure": _azure,
}
"""Texts."""

MESSAGES: Mapping[str, Scripted] = {
    "null": sends({"content": None}, []),
    "refusal": sends({"refusal": texts.REFUSAL}, [{"refusal": token} for token in tokens_of(texts.REFUSAL)]),
    "audio": sends({"audio": _AUDIO}, [{"audio": _AUDIO}]),
    "parts": sends({"content": [_PART]}, [{"content": token} for token in tokens_of(texts.PLAIN)]),
    "reasoning-content": _content("reasoning_content", texts.REASONING),
    "reasoning": _content("reasoning", texts.REASONING),
    "tools": _calls("weather"),
    "parallel-tools": _calls("weather", "time"),
    "tools-after-text": _calls("weather", content="Let me look at the weather first."),
    "tools-resent": sends(
        {"tool_calls": [{k: v for k, v in _call(0, "weather").items() if k != "index"}]}, _RESENT, "tool_calls"
    ),
    "function-call": sends({"function_call": {"name": "weather", "arguments": ARGUMENTS}}, _FUNCTION, "function_call"),
}
"""Messages of a chat that are more than text, or none."""

FRAMED: Mapping[str, Scripted] = {name: _with_framing(*framing) for name, framing in FRAMINGS.items()}
"""Streams that mean the same in other spellings."""

SHAPES: Mapping[str, Scripted] = {
    "spelt-out": _spelt_out,
    "no-done": _without_done,
    "changing-ids": _changing_ids,
    "usage-on-finish": _usage_on_finish,
}
"""Streams that clients take, although OpenAI would not send them."""

FAILURES: Mapping[str, Scripted] = {
    "html": failing.html,
    "error-with-200": failing.error_with_200,
    "half-json": failing.half_json,
    "cut": failing.cut,
    "stall": failing.stall,
    "silence": failing.silence,
    "hang-up": failing.hang_up,
    "one-piece": failing.one_piece,
    "error-frame": failing.error_frame,
    "text-frame": failing.text_frame,
    "garbage-frame": failing.garbage_frame,
    "truncated": failing.truncated,
    "unfinished": failing.unfinished,
    "empty-stream": failing.empty_stream,
    "done-only": failing.done_only,
}
"""Answers that break on their way."""


def _refusing(script: Script) -> Scripted:
    return lambda _: script


SCRIPTS: Mapping[str, Scripted] = {
    **ANSWERS,
    **MESSAGES,
    **FRAMED,
    **SHAPES,
    **FAILURES,
    **{name: _refusing(script) for name, script in failing.REFUSALS.items()},
}
"""All scripts by the name of the model that asks for them."""
