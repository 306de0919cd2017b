"""The routes of an OpenAI-compatible server, and what it refuses before a model is asked."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import lru_cache
from math import inf
from typing import Any, cast

import orjson

from aligner.testing.named import SCRIPTS, Scripted
from aligner.testing.replies import CREATED, Wanted
from aligner.testing.script import Answering, Asked, Script, json_body, refusal, whole


def by_model(scripts: Mapping[str, Scripted] = SCRIPTS) -> Answering:
    """An upstream that takes its scripts by the name of the model, and `NAME@RATE` at so many chunks a second.

    It serves chat and text completions and its models, and sends every other request under `/v1/` back.
    """

    # A script depends on nothing else, and a benchmark asks for the same one over and over.
    @lru_cache(maxsize=16)
    def completions(path: str, body: bytes) -> Script:
        return _completions(path, body, scripts)

    return lambda asked: _route(asked, scripts, completions)


def _route(asked: Asked, scripts: Mapping[str, Scripted], completions: Callable[[str, bytes], Script]) -> Script:
    if asked.path in _NEEDED:
        return completions(asked.path, asked.body) if asked.method == "POST" else _wrong_method(asked)
    if asked.path == "/v1/models" or asked.path.startswith("/v1/models/"):
        return _models(asked, scripts) if asked.method in {"GET", "HEAD"} else _wrong_method(asked)
    below = any(asked.path.startswith(f"{path}/") for path in _NEEDED)
    return _sent_back(asked) if asked.path.startswith("/v1/") and not below else _missing(asked)


def _completions(path: str, body: bytes, scripts: Mapping[str, Scripted]) -> Script:
    try:
        payload: object = orjson.loads(body)
    except orjson.JSONDecodeError:
        return refusal(400, "We could not parse the JSON body of your request.", "invalid_json")
    if not isinstance(payload, dict):
        return refusal(400, "The body of your request is not a JSON object.", "invalid_type")
    wanted = Wanted(path.startswith("/v1/chat"), cast("Mapping[str, Any]", payload))
    if wrong := _wrong_field(path, wanted.payload):
        return refusal(400, f"Invalid value for '{wrong}'.", "invalid_type", param=wrong)
    name, _, rate = str(wanted.payload["model"]).partition("@")
    if name not in scripts or (rate and not _is_rate(rate)):
        return _no_model(str(wanted.payload["model"]))
    script = scripts[name](wanted)
    return script.at_rate(float(rate)) if rate else script


def _wrong_field(path: str, payload: Mapping[str, Any]) -> str | None:
    """A field that is missing or of a wrong type."""
    for name, fits in _NEEDED[path].items():
        if not fits(payload.get(name)):
            return name
    return next(
        (name for name, fits in _OPTIONAL.items() if payload.get(name) is not None and not fits(payload[name])), None
    )


def _models(asked: Asked, scripts: Mapping[str, Scripted]) -> Script:
    name = asked.path.removeprefix("/v1/models").removeprefix("/")
    if not name:
        return json_body({"object": "list", "data": [_model(name) for name in scripts]})
    return json_body(_model(name)) if name in scripts else _no_model(name)


def _model(name: str) -> Mapping[str, object]:
    return {"id": name, "object": "model", "created": CREATED, "owned_by": "aligner"}


def _sent_back(asked: Asked) -> Script:
    """The body as it came; a request without one gets its line as JSON."""
    if asked.body:
        return whole(asked.body, content_type=asked.headers.get("content-type", "application/octet-stream"))
    return json_body({"object": "echo", "method": asked.method, "path": asked.path, "query": asked.query})


def _no_model(name: str) -> Script:
    return refusal(404, f"The model `{name}` does not exist.", "model_not_found", param="model")


def _missing(asked: Asked) -> Script:
    return refusal(404, f"Unknown request URL: {asked.method} {asked.path}.", "unknown_url")


def _wrong_method(asked: Asked) -> Script:
    script = refusal(405, f"Not allowed to {asked.method} on {asked.path}.", "method_not_supported")
    return replace(script, headers=(*script.headers, ("allow", "POST" if asked.path in _NEEDED else "GET, HEAD")))


def _a(*kinds: type) -> Callable[[object], bool]:
    return lambda value: isinstance(value, kinds) and (bool in kinds or not isinstance(value, bool))


def _between(lowest: int, highest: float) -> Callable[[object], bool]:
    return lambda value: isinstance(value, int) and not isinstance(value, bool) and lowest <= value <= highest


def _is_chat(value: object) -> bool:
    messages = cast("list[object]", value) if isinstance(value, list) else []
    return bool(messages) and all(map(_is_message, messages))


def _is_message(value: object) -> bool:
    if not isinstance(value, dict):
        return False
    message = cast("Mapping[str, object]", value)
    return isinstance(message.get("role"), str) and isinstance(message.get("content"), str | list | None)


_NEEDED: Mapping[str, Mapping[str, Callable[[object], bool]]] = {
    "/v1/chat/completions": {"model": _a(str), "messages": _is_chat},
    "/v1/completions": {"model": _a(str), "prompt": _a(str, list)},
}
_OPTIONAL: Mapping[str, Callable[[object], bool]] = {
    "stream": _a(bool),
    "stream_options": _a(dict),
    "n": _between(1, 128),
    "max_tokens": _between(1, inf),
    "max_completion_tokens": _between(1, inf),
    "tools": _a(list),
    "response_format": _a(dict),
}


def _is_rate(text: str) -> bool:
    try:
        return 0 < float(text) < 1e6
    except ValueError:
        return False
