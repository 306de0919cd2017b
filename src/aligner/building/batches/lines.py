"""Lines of batch files: what is asked, and what came back.

Source: OpenAI's API reference, "request input object" and "request output object"; vLLM's `run-batch` writes the same
lines, but puts what went wrong into `error`, as text or as an object, beside a response without a body.
"""

import json
from collections.abc import Mapping
from typing import Any, NamedTuple

import orjson

from aligner.building.endpoint import usage_of
from aligner.building.nouns import Failure, Fault, Reply, Request, Way
from aligner.building.spending import Prices
from aligner.models.openai import sampling_fields
from aligner.models.reading import first_of, number_of, object_of, text_of
from aligner.models.server import one_line
from aligner.records import Usage

_LONGEST_SAID = 300
_PASSING = frozenset({408, 409, 425, 429})
_CODES: Mapping[str, Fault] = {
    "batch_expired": "expired",
    "batch_cancelled": "expired",
    "request_timeout": "transient",
    "context_length_exceeded": "context",
}
_TOO_LONG = ("context length", "context window", "maximum model length", "max_model_len")


class Result(NamedTuple):
    """One line of an output or error file."""

    key: str
    line: Mapping[str, object]


class Terms(NamedTuple):
    """How replies came, and what they cost."""

    prices: Prices
    way: Way
    key: str = ""
    """of the server, which may repeat it in what it says"""


def line_of(request: Request, model: str, path: str) -> bytes:
    """The line that asks for a reply, with its end."""
    turns = [{"role": message.role, "content": message.content} for message in request.messages]
    body: dict[str, Any] = {"model": model, "messages": turns} | sampling_fields(request.sampling)
    line = {"custom_id": request.key, "method": "POST", "url": path, "body": body}
    return orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE)


def read_line(line: bytes) -> Result | None:
    """What a line says, and of which request; nothing where it is torn or says nothing."""
    value = object_of(_json_of(line))
    key = text_of(value.get("custom_id"))
    return Result(key, value) if key else None


def _json_of(line: bytes) -> object:
    try:
        return orjson.loads(line)
    except orjson.JSONDecodeError:
        # Half a surrogate, NaN and the like: what was paid for is read as far as Python can.
        try:
            return json.loads(line)
        except (ValueError, RecursionError):
            return None


def outcome_of(line: Mapping[str, object], request: Request, terms: Terms) -> Reply | Failure:
    """What became of a request; the cost is in the currency of the prices."""
    response = object_of(line.get("response"))
    body, status = object_of(response.get("body")), number_of(response.get("status_code"))
    if 200 <= status < 300 and not line.get("error"):
        return _reply(body, request, terms)
    code, message = _problem(line.get("error") or body.get("error") or body)
    said = message or code or "no reply and no reason"
    return Failure(fault_of(status, code, said), short(f"status {status}: {said}" if status else said, terms.key))


def fault_of(status: int, code: str, message: str) -> Fault:
    """The class of a failed line; `status` is 0 where the request never reached the model."""
    if known := _CODES.get(code):
        return known
    if 400 <= status < 500 and any(words in message.lower() for words in _TOO_LONG):
        return "context"
    if status in (401, 403):
        return "auth"
    return "refused" if 400 <= status < 500 and status not in _PASSING else "transient"


def _reply(body: Mapping[str, object], request: Request, terms: Terms) -> Reply | Failure:
    choice, told = first_of(body.get("choices")), object_of(body.get("usage"))
    message = object_of(choice.get("message"))
    told = Usage(*(number_of(told.get(name)) for name in ("prompt_tokens", "completion_tokens")))
    text = message.get("content")
    if isinstance(text, str) and (text or not message.get("tool_calls")):
        used = usage_of(request, text, told)
        cost = terms.prices.cost(used.prompt_tokens, used.completion_tokens)
        finish_reason = text_of(choice.get("finish_reason")) or "stop"
        return Reply(text, finish_reason, used.prompt_tokens, used.completion_tokens, cost, terms.way)
    reason = text_of(message.get("refusal")) or ("no text" if body.get("choices") else "no choices")
    used = usage_of(request, "", told)
    cost = terms.prices.cost(used.prompt_tokens, used.completion_tokens)
    return Failure("unusable", short(f"status 200, but no answer: {reason}", terms.key), cost)


def _problem(error: object) -> tuple[str, str]:
    """Code and message of an error: a text, an object, or one inside another."""
    if isinstance(error, str):
        return "", error
    told = object_of(error)
    told = object_of(told.get("error")) or told
    return text_of(told.get("code")) or text_of(told.get("type")), text_of(told.get("message"))


def short(text: str, key: str) -> str:
    """One line of what a server said, without its key."""
    return one_line(text.replace(key, "***") if key else text)[:_LONGEST_SAID]
