"""What whole answers and errors of an OpenAI-compatible endpoint must look like."""

from collections.abc import Awaitable, Callable
from typing import Any, cast

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
    kind_of,
    objects,
)

FINISHES = frozenset({"stop", "length", "tool_calls", "content_filter", "function_call"})

_ERROR = {"message": (str,), "type": (str,), "param": (str, type(None)), "code": (str, type(None))}
_COUNTS = ("prompt_tokens", "completion_tokens", "total_tokens")


def looking(ask: Ask, judge: Callable[[Seen], Outcome]) -> Callable[[Probe], Awaitable[Outcome]]:
    """A check that judges one answer."""

    async def run(probe: Probe) -> Outcome:
        return judge(await probe.ask(ask))

    return run


def offered(what: str, ask: Ask, judge: Callable[[Seen], Outcome]) -> Callable[[Probe], Awaitable[Outcome]]:
    """A check that judges one answer with status 200, and looks no further where the endpoint refuses."""

    async def run(probe: Probe) -> Outcome:
        seen = await probe.ask(ask)
        if 400 <= seen.status < 500 or seen.status == 501:
            raise NotSupportedError(f"{what}: status {seen.status}")
        return judge(seen) if seen.status == 200 else finding(f"status {seen.status}: {seen.start}")

    return run


def models(seen: Seen) -> Outcome:
    """A list of models with their ids."""
    listed = objects(seen.json.get("data"))
    if seen.json.get("object") != "list" or not isinstance(seen.json.get("data"), list):
        return finding(f'no {{"object": "list", "data": […]}}: {seen.start}')
    wrong = [model for model in listed if not isinstance(model.get("id"), str) or model.get("object") != "model"]
    return finding(f"a model without id, or not of object model: {wrong[0]}") if wrong else OK


def head(seen: Seen) -> Outcome:
    """The head of the list of models, which is JSON."""
    kind = seen.headers.get("content-type", "none")
    return OK if "json" in kind else finding(f"content-type {kind}, not that of the list")


def chat(seen: Seen) -> Outcome:
    """A chat completion with all of its fields."""
    return _completion(seen, "chat.completion") or _messages(objects(seen.json["choices"]))


def text(seen: Seen) -> Outcome:
    """A text completion with all of its fields."""
    problem = _completion(seen, "text_completion")
    wrong = [choice for choice in objects(seen.json.get("choices")) if not isinstance(choice.get("text"), str)]
    return problem or (finding("a choice without text") if wrong else OK)


def usage(seen: Seen) -> Outcome:
    """Tokens read and written, and their sum."""
    return judge_usage(seen.json.get("usage"))


def finish(seen: Seen) -> Outcome:
    """A finish reason that clients know."""
    return _finishes(seen, FINISHES)


def cut_off(seen: Seen) -> Outcome:
    """After one token an answer was cut off, or is whole."""
    return _finishes(seen, frozenset({"length", "stop"}))


def two_choices(seen: Seen) -> Outcome:
    """Two choices, numbered."""
    indexes = [choice.get("index") for choice in objects(seen.json.get("choices"))]
    return OK if indexes == [0, 1] else finding(f"the choices are numbered {indexes}, not [0, 1]")


def request_id(seen: Seen) -> Outcome:
    """A name by which a request can be asked about."""
    return OK if "x-request-id" in seen.headers else Outcome("advice", "no x-request-id to ask about an error by")


def refusing(*statuses: int) -> Callable[[Seen], Outcome]:
    """A refusal with one of these statuses, as an error object that tells the client's user what is wrong."""

    def judge(seen: Seen) -> Outcome:
        if seen.status not in statuses:
            wanted = " or ".join(map(str, statuses))
            return finding(f"status {seen.status}, not {wanted}: {seen.start}")
        return _error(seen)

    return judge


def refusing_if_checked(what: str, *statuses: int) -> Callable[[Seen], Outcome]:
    """The same for what an endpoint need not look at."""

    def judge(seen: Seen) -> Outcome:
        if seen.status == 200 and not seen.json.get("error"):
            raise NotSupportedError(what)
        return refusing(*statuses)(seen)

    return judge


def judge_usage(value: object) -> Outcome:
    """Three counts that add up."""
    if not isinstance(value, dict):
        return finding(f"usage is {kind_of(value)}")
    counts = cast("Json", value)
    missing = [name for name in _COUNTS if not _is_count(counts.get(name))]
    if missing:
        return finding(f"usage has no {missing[0]}")
    read, written, total = (counts[name] for name in _COUNTS)
    return OK if read + written == total else finding(f"usage does not add up: {read} + {written} is not {total}")


def _completion(seen: Seen, kind: str) -> Outcome | None:
    if not seen.json:
        return finding(f"no JSON object: {seen.start}")
    if "json" not in seen.headers.get("content-type", ""):
        return finding(f"content-type {seen.headers.get('content-type')} for JSON")
    if seen.json.get("error"):
        return finding(f"an error with status 200, which clients take for an answer: {seen.start}")
    if seen.json.get("object") != kind:
        return finding(f"object is {seen.json.get('object')!r}, not {kind!r}")
    fields = {"id": str, "created": int, "model": str, "choices": list}
    wrong = [name for name, wanted in fields.items() if not isinstance(seen.json.get(name), wanted)]
    if wrong or not objects(seen.json["choices"]):
        return finding(f"no {wrong[0] if wrong else 'choices'}")
    return None


def _messages(choices: list[dict[str, Any]]) -> Outcome:
    for choice in choices:
        message = choice.get("message")
        if not isinstance(message, dict) or message.get("role") != "assistant" or "content" not in message:
            return finding("a choice without a message of the assistant that has a content")
        if not isinstance(choice.get("index"), int):
            return finding("a choice without index")
    return OK


def _finishes(seen: Seen, known: frozenset[str]) -> Outcome:
    reasons = [choice.get("finish_reason") for choice in objects(seen.json.get("choices"))]
    wrong = [reason for reason in reasons if reason not in known]
    if not reasons:
        return finding("no choices")
    return finding(f"finish_reason is {wrong[0]!r}") if wrong else OK


def _error(seen: Seen) -> Outcome:
    value = seen.json.get("error")
    if not isinstance(value, dict):
        said = "its error is text" if isinstance(value, str) else 'no "error" object'
        return finding(f"{said}, so that clients show no message: {seen.start}")
    error = cast("Json", value)
    for name, kinds in _ERROR.items():
        if name not in error or not isinstance(error[name], kinds):
            return finding(f'"{name}" of the error is {kind_of(error[name]) if name in error else "missing"}')
    return OK if error["message"] else finding("the message of the error is empty")


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


_WRONG_TYPE = {"messages": 5}

CHECKS: tuple[Check, ...] = (
    Check("models", "GET /models", offered("no list of models", Ask(path="/models", method="GET"), models)),
    Check("head", "HEAD /models", offered("HEAD", Ask(path="/models", method="HEAD"), head)),
    Check("chat", "fields of a chat completion", looking(Ask(), chat)),
    Check("usage", "token counts", looking(Ask(), usage)),
    Check("finish reason", "why an answer ended", looking(Ask(), finish)),
    Check("length", "max_tokens: 1", offered("max_tokens", Ask(fields={"max_tokens": 1}), cut_off)),
    Check("n", "n: 2", offered("several choices", Ask(fields={"n": 2}), two_choices)),
    Check("text", "fields of a text completion", offered("text completions", Ask(path="/completions"), text)),
    Check("bad JSON", "a body that is not JSON", looking(Ask(raw=b'{"model":'), refusing(400))),
    Check("no object", "a body that is a list", looking(Ask(raw=b"[]"), refusing(400))),
    Check("wrong type", "messages: 5", looking(Ask(fields=_WRONG_TYPE), refusing(400))),
    Check(
        "before a stream", "messages: 5, streamed", looking(Ask(fields={**_WRONG_TYPE, "stream": True}), refusing(400))
    ),
    Check(
        "unknown model",
        "a model that is not there",
        looking(Ask(fields={"model": "aligner-no-such-model"}), refusing_if_checked("any model is answered", 404)),
    ),
    Check(
        "wrong key",
        "a key that is not valid",
        looking(Ask(key="sk-aligner-wrong"), refusing_if_checked("no key is needed", 401, 403)),
    ),
    Check(
        "missing route",
        "POST /chat/completions/aligner-no-such-route",
        looking(Ask(path="/chat/completions/aligner-no-such-route"), refusing(404, 405)),
    ),
    Check("request id", "x-request-id on an error", looking(Ask(raw=b'{"model":'), request_id)),
)
