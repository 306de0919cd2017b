"""OpenAI's wire format, of which nothing but the text of answers is ever changed."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, cast

import orjson

from aligner.records import Message, Question, Role, as_question

Route = Literal["chat", "completions"]
Json = dict[str, Any]

_ROLES: Mapping[str, Role] = {"system": "system", "developer": "system", "user": "user", "assistant": "assistant"}


@dataclass(eq=False)
class WireError(Exception):
    """What the client is told, in OpenAI's shape."""

    status: int
    message: str
    code: str | None = None
    type: str = "invalid_request_error"
    param: str | None = None
    headers: tuple[tuple[str, str], ...] = ()

    @property
    def body(self) -> bytes:
        """The whole object."""
        return orjson.dumps({"error": self.fields})

    @property
    def frame(self) -> bytes:
        """The same within a stream, and the end of it."""
        return b"data: " + self.body + b"\n\ndata: [DONE]\n\n"

    @property
    def fields(self) -> Json:
        """What stands under `error`."""
        return {"message": self.message, "type": self.type, "param": self.param, "code": self.code}


@dataclass(frozen=True, slots=True)
class Asked:
    """A request that was read at the door."""

    route: Route
    payload: Json
    """as the client sent it, without our own field"""
    aligner: Json
    """our own field `aligner`, which goes no further"""
    body: bytes
    """what goes on to the upstream: the client's own bytes, but where our field was taken out"""
    instruction: str = ""
    """what its Aligner is told, where that is not the usual"""

    @property
    def streamed(self) -> bool:
        """Whether the answer is wanted piece by piece."""
        return self.payload.get("stream") is True

    @property
    def stop(self) -> tuple[str, ...]:
        """Strings that end the text."""
        stop = self.payload.get("stop")
        return (stop,) if isinstance(stop, str) else tuple(s for s in _list(stop) if isinstance(s, str))

    @property
    def limit(self) -> int | None:
        """Tokens that the answer may have, where the client says so."""
        most = self.payload.get("max_completion_tokens") or self.payload.get("max_tokens")
        return most if isinstance(most, int) and most > 0 else None

    @property
    def wants_report(self) -> bool:
        """Whether the answer is to say about itself what became of it."""
        return self.aligner.get("report") is True

    @property
    def wants_json(self) -> bool:
        """Whether the answer must be JSON."""
        return object_of(self.payload.get("response_format")).get("type") in ("json_object", "json_schema")

    def question(self, index: int) -> Question | None:
        """What a choice answers; None where no text says it."""
        return _conversation(self.payload) if self.route == "chat" else self._prompt(index)

    def _prompt(self, index: int) -> str | None:
        prompt, n = self.payload.get("prompt"), self.payload.get("n")
        if isinstance(prompt, list):
            prompts = cast("list[object]", prompt)
            place = index // n if isinstance(n, int) and n > 0 else index
            prompt = prompts[place] if place < len(prompts) else None
        return prompt if isinstance(prompt, str) and prompt.strip() else None


def read_request(route: Route, body: bytes) -> Asked:
    """The request in a body; raises WireError, 400, where it is none."""
    whole = read_object(body)
    wanted = "messages" if route == "chat" else "prompt"
    if wanted not in whole:
        raise WireError(400, f'no "{wanted}" in the request', "missing_field", param=wanted)
    if route == "chat" and not isinstance(whole["messages"], list):
        raise WireError(400, '"messages" is not a list', "wrong_type", param="messages")
    if not isinstance(whole.get("stream", False), bool | None):
        raise WireError(400, '"stream" is neither true nor false', "wrong_type", param="stream")
    ours = whole.pop("aligner", None)
    if ours is not None and not isinstance(ours, dict):
        raise WireError(400, '"aligner" is not an object', "wrong_type", param="aligner")
    return Asked(route, whole, cast("Json", ours or {}), body if ours is None else _onward(whole))


def renamed(asked: Asked, model: str) -> Asked:
    """The request for a model of another name; raises WireError, 400."""
    payload = {**asked.payload, "model": model}
    return replace(asked, payload=payload, body=_onward(payload))


def _onward(payload: Json) -> bytes:
    # Deeper than some 250 levels, what was read cannot be written.
    try:
        return orjson.dumps(payload)
    except TypeError:
        raise WireError(400, "the request is nested too deeply", "invalid_json") from None


def read_object(body: bytes) -> Json:
    """The JSON object that a body is; raises WireError, 400, where it is none."""
    try:
        found: object = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise WireError(400, f"the body is not JSON: {error}", "invalid_json") from None
    if not isinstance(found, dict):
        raise WireError(400, "the body is not a JSON object", "invalid_json")
    return cast("Json", found)


def written(value: Mapping[str, Any]) -> bytes:
    """The JSON of an answer or a chunk; raises WireError, 502, where it is nested more deeply than can be written."""
    try:
        return orjson.dumps(value)
    except TypeError:
        message = "the upstream's answer is nested too deeply"
        raise WireError(502, message, "upstream_garbage", "upstream_error") from None


def object_in(body: bytes) -> Json:
    """The JSON object that a body is, or else an empty one."""
    try:
        return object_of(orjson.loads(body))
    except orjson.JSONDecodeError:
        return {}


def skip_reason(asked: Asked, choice: Json, *, truncated: bool, json: bool) -> str | None:
    """Why a choice is passed on as it is, or nothing; the last two say whether such answers are corrected."""
    message = object_of(choice.get("message")) if asked.route == "chat" else {}
    finish = choice.get("finish_reason")
    reasons = {
        "tool_calls": bool(message.get("tool_calls") or message.get("function_call"))
        or finish in ("tool_calls", "function_call"),
        "refusal": bool(message.get("refusal")),
        "content_filter": finish == "content_filter",
        "audio": bool(message.get("audio")),
        "empty": not split_reasoning(answer_of(asked.route, choice) or "")[1].strip(),
        "truncated": finish == "length" and not truncated,
        "unfinished": finish is None,
        "json": asked.wants_json and not json,
        "echo": asked.route == "completions" and bool(asked.payload.get("echo")),
        "no_question": asked.question(index_of(choice)) is None,
    }
    return next((reason for reason, holds in reasons.items() if holds), None)


def choices_of(completion: Mapping[str, Any]) -> list[Json]:
    """The choices of an answer or of a chunk that are objects."""
    return [cast("Json", choice) for choice in _list(completion.get("choices")) if isinstance(choice, dict)]


def index_of(choice: Mapping[str, Any]) -> int:
    """The number of a choice."""
    index = choice.get("index")
    return index if isinstance(index, int) else 0


def answer_of(route: Route, choice: Mapping[str, Any]) -> str | None:
    """The text of a choice; None where there is none, or where it has several parts."""
    content = choice.get("text") if route == "completions" else object_of(choice.get("message")).get("content")
    if isinstance(content, list):
        parts = [object_of(part) for part in cast("list[object]", content)]
        content = parts[0].get("text") if len(parts) == 1 else None
    return content if isinstance(content, str) else None


def split_reasoning(text: str) -> tuple[str, str]:
    """What a model thought aloud between <think> signs, which is no answer, and the answer behind it."""
    if not text.lstrip().startswith("<think>"):
        return "", text
    thought, sign, rest = text.partition("</think>")
    answer = rest.lstrip()
    return thought + sign + rest[: len(rest) - len(answer)], answer


def with_answer(route: Route, choice: Json, text: str) -> Json:
    """The choice with another text; the log-probabilities and notes of the old one go with it."""
    changed = {**choice, "logprobs": None} if "logprobs" in choice else dict(choice)
    if route == "completions":
        return changed | {"text": text}
    message = dict(object_of(choice.get("message")))
    content = message.get("content")
    message["content"] = [{**content[0], "text": text}] if isinstance(content, list) else text
    if "annotations" in message:
        message["annotations"] = []
    return changed | {"message": message}


def delta_of(route: Route, choice: Mapping[str, Any]) -> str:
    """The text that a chunk adds to a choice."""
    text = choice.get("text") if route == "completions" else object_of(choice.get("delta")).get("content")
    return text if isinstance(text, str) else ""


def joined(parts: Iterable[Mapping[str, Any]]) -> list[Json]:
    """The choices, in their order, that the choices of chunks add up to: texts whole, and of tool calls the last."""
    found: dict[int, Json] = {}
    for part in parts:
        choice = found.setdefault(index_of(part), {"index": index_of(part), "message": {}, "finish_reason": None})
        choice["finish_reason"] = part.get("finish_reason") or choice["finish_reason"]
        if isinstance(text := part.get("text"), str):
            choice["text"] = choice.get("text", "") + text
        message: Json = choice["message"]
        for name, value in object_of(part.get("delta")).items():
            if isinstance(value, str) and name != "role":
                message[name] = str(message.get(name) or "") + value
            elif value:
                message[name] = value
    return [found[index] for index in sorted(found)]


def with_delta(route: Route, choice: Json, text: str | None, *, finish: bool) -> Json:
    """The choice of a chunk with another piece of text, or none; a finish reason stays only where it is said."""
    changed = {**choice, "finish_reason": choice.get("finish_reason") if finish else None}
    if "logprobs" in choice:
        changed["logprobs"] = None
    if route == "completions":
        return changed | {"text": text or ""}
    delta = {name: value for name, value in object_of(choice.get("delta")).items() if name != "content"}
    return changed | {"delta": delta if text is None else {**delta, "content": text}}


def without_delta(choice: Json) -> Json:
    """The choice of a chunk with nothing in its delta."""
    bare: Json = {}
    return {**choice, "delta": bare} if "delta" in choice else choice


def _conversation(payload: Mapping[str, Any]) -> Question | None:
    """The turns that have text, up to the user's last one."""
    turns = [_turn(object_of(message)) for message in _list(payload.get("messages"))]
    messages = [turn for turn in turns if turn is not None]
    while messages and messages[-1].role != "user":
        messages.pop()
    return as_question(messages) if messages else None


def _turn(message: Json) -> Message | None:
    role, content = _ROLES.get(str(message.get("role"))), message.get("content")
    if isinstance(content, list):
        parts = [object_of(part) for part in cast("list[object]", content)]
        content = "\n".join(str(part["text"]) for part in parts if isinstance(part.get("text"), str))
    return Message(role, content) if role is not None and isinstance(content, str) and content.strip() else None


def object_of(value: object) -> Json:
    """The value where it is an object, or else an empty one."""
    return cast("Json", value) if isinstance(value, dict) else {}


def _list(value: object) -> Sequence[object]:
    return cast("list[object]", value) if isinstance(value, list) else ()
