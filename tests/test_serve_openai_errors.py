"""How errors reach the official client of OpenAI through the proxy, and how often it asks again."""

import socket
import time
import uuid
from collections.abc import Generator, Iterator, Mapping
from contextlib import ExitStack
from typing import Any
from urllib.parse import urlsplit

import openai
import orjson
import pytest
from fuzzing import Fuzzed, fuzzed, request
from openai_callers import CHAT, MESSAGES, TEXT, Caller, attempts
from proxies import Proxied

from aligner.testing import Script, always, texts
from aligner.testing.script import refusal
from aligner.testing.upstream import Call

pytestmark = pytest.mark.slow  # two kinds of client, and an engine for each profile: minutes


@pytest.fixture(scope="module")
def shared() -> Iterator[Fuzzed]:
    with fuzzed(heartbeat=0.2, patience=0.5, largest_body=100_000) as running:
        yield running


@pytest.fixture
def proxy(shared: Fuzzed) -> Generator[Proxied]:
    shared.by_model()
    yield shared.proxy
    assert not shared.unforeseen()


def chat(model: str = "unchanged", **fields: Any) -> dict[str, Any]:
    """The fields of a request for a chat's answer, by a user of its own."""
    return {"model": model, "messages": MESSAGES, "user": uuid.uuid4().hex, **fields}


def asked(proxy: Proxied, fields: Mapping[str, Any]) -> list[Call]:
    """How a request came to the upstream, each time."""
    return [call for call in proxy.upstream.calls if call.asked.payload.get("user") == fields["user"]]


def status_error(error: openai.APIError) -> openai.APIStatusError:
    assert isinstance(error, openai.APIStatusError), error
    return error


# Instead of an answer

_REFUSALS: Mapping[str, tuple[type[openai.APIStatusError], int]] = {
    "error-400": (openai.BadRequestError, 1),
    "error-401": (openai.AuthenticationError, 1),
    "error-403": (openai.PermissionDeniedError, 1),
    "error-404": (openai.NotFoundError, 1),
    "error-409": (openai.ConflictError, 3),
    "error-413": (openai.APIStatusError, 1),
    "error-422": (openai.UnprocessableEntityError, 1),
    "error-429": (openai.RateLimitError, 3),
    "error-500": (openai.InternalServerError, 3),
    "error-503": (openai.InternalServerError, 3),
    "error-text": (openai.InternalServerError, 3),
    "no-such-model": (openai.NotFoundError, 1),
}
"""Refusals of an upstream, how they are raised, and how often the client asks."""


@pytest.mark.parametrize("streamed", [False, True])
def test_an_upstreams_refusal_is_raised_as_if_it_had_come_directly(
    proxy: Proxied, caller: Caller, streamed: bool
) -> None:
    """Class, message, code, body and the headers that say when to try again; the upstream is asked as often."""
    calls = [(CHAT, chat(name, stream=streamed)) for name in _REFUSALS]
    through = caller.refused(proxy.url, calls)
    counts = [len(asked(proxy, fields)) for _, fields in calls]
    direct = caller.refused(proxy.upstream_url, [(path, chat(fields["model"])) for path, fields in calls])
    for one, other, count, (kind, times) in zip(through, direct, counts, _REFUSALS.values(), strict=True):
        error, plain = status_error(one), status_error(other)
        assert type(error) is type(plain) is kind
        assert (error.status_code, error.body, error.code) == (plain.status_code, plain.body, plain.code)
        assert str(error) == str(plain)
        assert attempts(error) == count == times
        for name in ("retry-after", "retry-after-ms", "x-should-retry"):
            assert error.response.headers.get(name) == plain.response.headers.get(name)
        assert error.request_id == error.response.headers["x-aligner-id"]


def test_it_can_be_told_that_an_error_is_the_upstreams(proxy: Proxied, caller: Caller) -> None:
    """From its headers, which an error of our own lacks."""
    theirs, ours = caller.refused(proxy.url, [(CHAT, chat("error-429")), (CHAT, chat(messages=5))])
    assert status_error(theirs).response.headers.get("x-aligner-origin") == "upstream"
    assert "x-aligner-origin" not in status_error(ours).response.headers


_OWN: Mapping[str, tuple[str, Mapping[str, Any], type[openai.APIStatusError], str]] = {
    "type": (CHAT, {"messages": 5}, openai.BadRequestError, "wrong_type"),
    "mode": (CHAT, {"extra_headers": {"x-aligner-mode": "off"}}, openai.BadRequestError, "mode_not_allowed"),
    "field": (CHAT, {"extra_body": {"aligner": 5}}, openai.BadRequestError, "wrong_type"),
    "size": (CHAT, {"extra_body": {"x": "x" * 100_000}}, openai.APIStatusError, "request_too_large"),
}


def test_what_the_proxy_refuses_is_refused_once(proxy: Proxied, caller: Caller) -> None:
    """With a code, a message and an id, before the upstream is asked."""
    calls = [(path, chat(**fields)) for path, fields, _, _ in _OWN.values()]
    for error, (_, fields), (_, _, kind, code) in zip(
        map(status_error, caller.refused(proxy.url, calls)), calls, _OWN.values(), strict=True
    ):
        assert type(error) is kind
        assert error.code == code
        assert error.type == "invalid_request_error"
        assert error.request_id
        assert attempts(error) == 1
        assert not asked(proxy, fields)


def test_a_key_is_asked_for_once(caller: Caller) -> None:
    """A client with another key is told so, and does not try again."""
    with fuzzed(environ={"ALIGNER_API_KEY": "ours"}) as running:
        (error,) = map(status_error, caller.refused(running.proxy.url, [(CHAT, chat())]))
        assert isinstance(error, openai.AuthenticationError)
        assert (error.code, attempts(error)) == ("invalid_api_key", 1)
        assert "sk-client" not in str(error)
        assert not running.proxy.upstream.calls


def test_a_client_beyond_its_rate_is_told_when_to_come_back(caller: Caller) -> None:
    """By the header that the official client waits for."""
    with fuzzed(rate=1.0) as running:
        url = running.proxy.url
        running.by_model()
        assert caller.told(url, CHAT, **chat()).value.choices
        began = time.monotonic()
        (error,) = map(status_error, caller.refused(url, [(CHAT, chat())], max_retries=0))
        assert isinstance(error, openai.RateLimitError)
        assert error.code == "rate_limit_exceeded"
        assert 0 < float(error.response.headers["retry-after"]) <= 60
        assert time.monotonic() - began < 10
        assert len(running.proxy.upstream.calls) == 1


def test_one_too_many_at_a_time_is_told_to_come_back_soon(caller: Caller) -> None:
    """While every place, and every place to wait in, is taken; the upstream does not hear of it."""
    with fuzzed(at_a_time=1, patience=60.0) as running, ExitStack() as held:
        running.by_model()
        url = urlsplit(running.proxy.url)
        for _ in range(2):
            stalled = held.enter_context(socket.create_connection((url.hostname, url.port)))
            stalled.sendall(request(orjson.dumps(chat("silence"))))
            while not running.proxy.upstream.calls:
                time.sleep(0.02)
        time.sleep(0.5)  # nothing tells of one that waits
        fields = chat()
        (error,) = map(status_error, caller.refused(running.proxy.url, [(CHAT, fields)], max_retries=1))
        assert isinstance(error, openai.InternalServerError)
        assert (error.status_code, error.code) == (503, "overloaded")
        assert error.response.headers["retry-after"] == "1"
        assert attempts(error) == 2
        assert not asked(running.proxy, fields)


_BROKEN: Mapping[str, tuple[int, str]] = {
    "hang-up": (502, "upstream_cut"),
    "silence": (504, "upstream_timeout"),
    "html": (502, "upstream_garbage"),
    "error-with-200": (502, "upstream_garbage"),
    "half-json": (502, "upstream_garbage"),
    "cut": (502, "upstream_cut"),
    "stall": (504, "upstream_timeout"),
}
"""Answers of an upstream that are none."""


def test_an_upstream_that_gives_no_answer_is_an_error_of_the_gateway(proxy: Proxied, caller: Caller) -> None:
    """Never an answer without choices; the client asks again as it would ask the upstream."""
    calls = [(CHAT, chat(name)) for name in _BROKEN]
    for error, (_, fields), (status, code) in zip(
        map(status_error, caller.refused(proxy.url, calls)), calls, _BROKEN.values(), strict=True
    ):
        assert isinstance(error, openai.InternalServerError)
        assert (error.status_code, error.code, error.type) == (status, code, "upstream_error")
        assert attempts(error) == len(asked(proxy, fields)) == 3


@pytest.mark.parametrize("model", ["one-piece", "html", "error-with-200"])
def test_what_is_no_stream_is_an_error_to_those_who_wanted_one(proxy: Proxied, caller: Caller, model: str) -> None:
    """Where the client would read nothing at all without a word."""
    (error,) = map(status_error, caller.refused(proxy.url, [(CHAT, chat(model, stream=True))], max_retries=0))
    assert (error.status_code, error.code) == (502, "upstream_garbage")


@pytest.mark.parametrize("path", [CHAT, TEXT])
def test_an_upstream_that_was_paid_is_not_paid_again(caller: Caller, path: str) -> None:
    """Where the Aligner fails and must not, the client is told not to retry, and does not."""
    with fuzzed(profile="safety", seconds=0.0) as running:
        running.by_model()
        proxy = running.proxy
        fields = chat() if path == CHAT else {"model": "unchanged", "prompt": "q", "user": "u"}
        (error,) = map(status_error, caller.refused(proxy.url, [(path, fields)]))
        assert (error.status_code, error.code) == (503, "corrector_unavailable")
        assert error.response.headers["x-should-retry"] == "false"
        assert error.response.headers["x-aligner-bypass"] == "timeout"
        assert attempts(error) == len(asked(proxy, fields)) == 1
        found = caller.stream(proxy.url, model="unchanged", user="streamed")
        assert found.error is not None
        assert (found.text, found.error.code) == ("", "corrector_unavailable")
        assert len(asked(proxy, {"user": "streamed"})) == 1


# In the middle of a stream

_ENDS: Mapping[str, tuple[str, str]] = {
    "error-frame": ("engine_dead", "The engine has died."),
    "text-frame": ("upstream_failed", "boom"),
    "garbage-frame": ("upstream_cut", "cut off"),
    "truncated": ("upstream_cut", "cut off"),
    "unfinished": ("upstream_cut", "cut off"),
    "cut": ("upstream_cut", "cut off"),
    "empty-stream": ("upstream_cut", "cut off"),
    "done-only": ("upstream_cut", "cut off"),
    "stall": ("upstream_timeout", "in time"),
}


@pytest.mark.parametrize("model", _ENDS)
def test_a_stream_that_breaks_is_an_error_with_a_message_and_a_code(proxy: Proxied, caller: Caller, model: str) -> None:
    """After what had come, in plain iteration and in the accumulator; the upstream is not asked again."""
    code, message = _ENDS[model]
    fields = chat(model)
    found = caller.stream(proxy.url, **fields)
    assert type(found.error) is openai.APIError
    assert found.error.code == code
    assert message in found.error.message
    assert texts.PLAIN.startswith(found.text)
    assert found.text != texts.PLAIN
    assert len(asked(proxy, fields)) == 1
    with pytest.raises(openai.APIError, match=message) as raised:
        caller.accumulated(proxy.url, **chat(model))
    assert raised.value.code == code


@pytest.mark.parametrize("model", ["truncated", "cut", "error-frame", "stall"])
def test_an_unfinished_answer_is_not_sent_uncorrected_where_none_may_be(caller: Caller, model: str) -> None:
    """Under the profile safety, a stream that breaks gives its error alone."""
    with fuzzed(profile="safety", patience=0.5) as running:
        running.by_model()
        found = caller.stream(running.proxy.url, model=model)
        assert found.error is not None
        assert found.text == ""


def test_a_refusal_that_comes_late_becomes_the_last_event(caller: Caller) -> None:
    """The status was sent already; message and code are those of the upstream."""
    with fuzzed(open_after=0.1, heartbeat=0.1, patience=10.0) as running:
        late = refusal(429, "Rate limit reached.", "rate_limit_exceeded", kind="requests")
        running.box[0] = always(Script(status=429, headers=late.headers, chunks=late.chunks, wait=0.5))
        found = caller.stream(running.proxy.url, model="m")
        assert found.error is not None
        assert (found.chunks, found.error.code) == ([], "rate_limit_exceeded")
        assert found.error.message == "Rate limit reached."
