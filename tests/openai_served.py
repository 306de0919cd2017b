"""A proxy that corrects by rules, and what the official client of OpenAI reads from it."""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import orjson
from fuzzing import Fuzzed, fuzzed
from openai_callers import MESSAGES
from proxies import Proxied

from aligner.testing import SCRIPTS, by_model, texts
from aligner.testing.named import says, sends
from aligner.testing.replies import tokens_of
from aligner.testing.upstream import Call

RULES = {
    "Paris": "Lutetia",
    "Well done": "Bravo",
    "syllable": "sound",
    "not an error": "an error",
    "seven": "VII",
}
_CALL = {"id": "call_0", "type": "function", "function": {"name": "weather", "arguments": "{}"}}
_FUNCTION = {"name": "weather", "arguments": "{}"}
_AUDIO = {"id": "audio_1", "data": "UklGRg==", "transcript": "Paris", "expires_at": 1}
_WORDS = [{"content": token} for token in tokens_of(texts.PLAIN)]
SAYING_MORE = {
    "called": sends(
        {"content": texts.PLAIN, "tool_calls": [_CALL]},
        [*_WORDS, {"tool_calls": [{"index": 0, **_CALL}]}],
        "tool_calls",
    ),
    "called-function": sends(
        {"content": texts.PLAIN, "function_call": _FUNCTION}, [*_WORDS, {"function_call": _FUNCTION}], "function_call"
    ),
    "refused": sends({"content": texts.PLAIN, "refusal": "No."}, [*_WORDS, {"refusal": "No."}]),
    "spoken": sends({"content": texts.PLAIN, "audio": _AUDIO}, [*_WORDS, {"audio": _AUDIO}]),
    "withheld": says(texts.PLAIN, finish_reason="content_filter"),
    "cut-off": says(texts.PLAIN, finish_reason="length"),
}
"""Answers whose text would be corrected, were it not for what comes with it."""
ANSWERING = by_model({**SCRIPTS, **SAYING_MORE})
TOOLS = [{"type": "function", "function": {"name": "weather", "parameters": {"type": "object", "properties": {}}}}]


def corrected(text: str) -> str:
    """What the Aligner of these tests makes of an answer."""
    for wrong, right in RULES.items():
        text = text.replace(wrong, right)
    return text


def served(folder: Path, rules: Mapping[str, str] = RULES, **options: Any) -> AbstractContextManager[Fuzzed]:
    """A proxy whose Aligner goes by rules, in a thread of its own."""
    path = folder / "rules.json"
    path.write_bytes(orjson.dumps([{"pattern": wrong, "replace": right} for wrong, right in rules.items()]))
    return fuzzed(aligner=f"rules:{path}", **{"heartbeat": 0.1, "patience": 1.0, **options})


def chat(model: str = "unchanged", **fields: Any) -> dict[str, Any]:
    """The fields of a request for a chat's answer."""
    return {"model": model, "messages": MESSAGES, **fields}


def asked(proxy: Proxied, tag: str) -> list[Call]:
    """The requests for this user that the upstream has seen."""
    return [call for call in proxy.upstream.calls if call.asked.payload.get("user") == tag]


def plain(values: Sequence[Any]) -> list[dict[str, Any]]:
    """Chunks as the JSON that they came in."""
    return [value.to_dict() for value in values]


def of_choices(chunks: Sequence[Mapping[str, Any]]) -> dict[int, list[dict[str, Any]]]:
    """What a stream says of each choice, in the order in which they begin."""
    found: dict[int, list[dict[str, Any]]] = {}
    for chunk in chunks:
        for choice in chunk["choices"]:
            found.setdefault(choice["index"], []).append(choice)
    return found


def text_of(choices: Sequence[Mapping[str, Any]]) -> str:
    """The text of one choice of a stream."""
    return "".join(c["text"] if "text" in c else c["delta"].get("content") or "" for c in choices)
