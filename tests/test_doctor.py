"""Laws of the doctor: it finds nothing in an endpoint that is well, and each fault that is planted."""

import asyncio
import gzip
import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import aiohttp
import pytest

from aligner.config import DoctorConfig
from aligner.doctor import CHECKS, doctor, examine
from aligner.errors import MisuseError, ModelError
from aligner.testing import Asked, Chunk, Script, Upstream, by_model, serving
from aligner.testing.probe import Outcome, Probe
from aligner.testing.script import DONE, Answering, error, event, json_body, refusal, stream, whole

Fault = Callable[[Asked, Script], Script]
Json = dict[str, Any]

WELL = by_model()


def findings(answering: Answering, kind: str = "finding") -> dict[str, str]:
    """What the doctor finds in an upstream, by the name of the check."""

    async def run() -> dict[str, Outcome]:
        async with serving(Upstream(answering)) as url, aiohttp.ClientSession() as session:
            probe = Probe(url=f"{url}/v1", session=session, model="unchanged", seconds=2)
            return {check.name: outcome for check, outcome in await examine(probe)}

    return {name: outcome.text for name, outcome in asyncio.run(run()).items() if outcome.kind == kind}


def with_fault(fault: Fault) -> Answering:
    """The well-behaved upstream with one fault."""
    return lambda asked: fault(asked, WELL(asked))


def on(asks: Callable[[Asked, Script], bool], change: Callable[[Script], Script]) -> Fault:
    """A fault in some answers."""
    return lambda asked, script: change(script) if asks(asked, script) else script


def streamed(_: Asked, script: Script) -> bool:
    """All streams."""
    return script.streamed


def answered(asked: Asked, script: Script) -> bool:
    """Whole answers of models."""
    return asked.path.endswith("completions") and script.status == 200 and not script.streamed


def refused(_: Asked, script: Script) -> bool:
    """All errors."""
    return script.status >= 400


def in_stream(change: Callable[[list[Json]], list[Any]], **fields: object) -> Fault:
    """A fault in the chunks of streams that are asked for with these fields."""

    def changed(script: Script) -> Script:
        events = [chunk.data.removeprefix(b"data: ") for chunk in script.chunks[:-1]]
        return stream(change([json.loads(data) for data in events]))

    return on(lambda asked, script: script.streamed and fields.items() <= asked.payload.items(), changed)


def in_json(asks: Callable[[Asked, Script], bool], change: Callable[[Json], object]) -> Fault:
    """A fault in the objects of some answers."""
    return on(asks, lambda script: json_body(change(json.loads(script.body)), script.status))


def in_bytes(change: Callable[[bytes], bytes]) -> Fault:
    """A fault in the bytes of all streams."""
    return on(streamed, lambda script: script.writing([change(script.body)]))


def with_header(name: str, value: str) -> Callable[[Script], Script]:
    """A script with another value of a header."""
    return lambda script: replace(script, headers=(*((n, v) for n, v in script.headers if n != name), (name, value)))


def compressed(script: Script) -> Script:
    """A stream in gzip."""
    return with_header("content-encoding", "gzip")(script.writing([gzip.compress(script.body)]))


def on_path(path: str, script: Script, method: str = "") -> Fault:
    """Another answer to all requests of a path."""
    return lambda asked, well: script if asked.path.endswith(path) and asked.method.startswith(method) else well


def choice(chunk: Json) -> Json:
    """The first choice of a chunk, or an empty one."""
    return chunk["choices"][0] if chunk["choices"] else {}


def without(name: str, value: Json) -> Json:
    """An object without a field."""
    return {key: kept for key, kept in value.items() if key != name}


def with_choice(chunk: Json, **fields: Any) -> Json:
    """A chunk whose first choice has other fields."""
    return {**chunk, "choices": [{**choice(chunk), **fields}]} if chunk["choices"] else chunk


def with_error(**fields: Any) -> Callable[[Json], object]:
    """An error object with other fields."""
    return lambda body: {"error": {**body["error"], **fields}}


USAGE = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
ASKED_USAGE = {"stream_options": {"include_usage": True}}
HTML = whole(b"<h1>Not Found</h1>", 404, content_type="text/html")

FAULTS: Mapping[str, tuple[str, Fault]] = {
    "plain text": ("stream", on(streamed, with_header("content-type", "text/plain"))),
    "JSON for a stream": ("stream", on(streamed, lambda _: json_body({"choices": []}))),
    "stream refused": ("stream", on(streamed, lambda _: refusal(400, "no streams"))),
    "gzip": ("compression", on(streamed, compressed)),
    "no event": ("framing", in_bytes(lambda _: b"")),
    "garbage event": ("framing", in_bytes(lambda body: b"data: {oops\n\n" + body)),
    "a list as event": ("framing", in_bytes(lambda body: b"data: [1]\n\n" + body)),
    "no UTF-8": ("framing", in_bytes(lambda body: body.replace(b"Paris", b"Par\xe9s"))),
    "open end": ("framing", in_bytes(lambda body: body[:-1])),
    "named events": ("events", in_bytes(lambda body: body.replace(b"data: {", b"event: x\ndata: {"))),
    "no DONE": ("done", in_bytes(lambda body: body.removesuffix(DONE))),
    "after DONE": ("done", in_bytes(lambda body: body + event({"choices": []}))),
    "changing id": ("chunks", in_stream(lambda rows: [{**row, "id": str(i)} for i, row in enumerate(rows)])),
    "no created": ("chunks", in_stream(lambda rows: [without("created", row) for row in rows])),
    "object of a whole": ("chunks", in_stream(lambda rows: [{**row, "object": "chat.completion"} for row in rows])),
    "no null finish": (
        "chunks",
        in_stream(lambda rows: [{**row, "choices": [without("finish_reason", choice(row))]} for row in rows[:-1]]),
    ),
    "no role": ("roles", in_stream(lambda rows: rows[1:])),
    "roles out of order": ("n streamed", in_stream(lambda rows: [rows[1], rows[0], *rows[2:]], n=2)),
    "one choice": ("n streamed", in_stream(lambda rows: [row for row in rows if choice(row)["index"] == 0], n=2)),
    "two finish reasons": ("finish", in_stream(lambda rows: [*rows, rows[-1]])),
    "no finish reason": ("finish", in_stream(lambda rows: rows[:-1])),
    "own finish reason": ("finish", in_stream(lambda rows: [*rows[:-1], with_choice(rows[-1], finish_reason="eos")])),
    "on after the finish": ("finish", in_stream(lambda rows: [*rows[:-2], rows[-1], rows[-2]])),
    "usage unasked": ("no usage", in_stream(lambda rows: [*rows, {**rows[-1], "choices": [], "usage": USAGE}])),
    "no choices": ("no usage", in_stream(lambda rows: [{**rows[0], "choices": []}, *rows])),
    "usage left out": ("usage asked", in_stream(lambda rows: rows[:-1], **ASKED_USAGE)),
    "usage everywhere": ("usage asked", in_stream(lambda rows: [{**r, "usage": USAGE} for r in rows], **ASKED_USAGE)),
    "usage first": ("usage asked", in_stream(lambda rows: [rows[-1], *rows[:-1]], **ASKED_USAGE)),
    "usage in part": (
        "usage asked",
        in_stream(lambda rows: [*rows[:-1], {**rows[-1], "usage": {"prompt_tokens": 1}}], **ASKED_USAGE),
    ),
    "text as chat": (
        "text streamed",
        in_stream(lambda rows: [{**row, "object": "chat.completion.chunk"} for row in rows]),
    ),
    "no text": ("text streamed", in_stream(lambda rows: [with_choice(row, text=None) for row in rows])),
    "no text at all": ("text", in_json(answered, lambda body: with_choice(body, text=None))),
    "detail": ("bad JSON", in_json(refused, lambda _: {"detail": "field required"})),
    "text as error": ("no object", in_json(refused, lambda _: {"error": "boom"})),
    "number as code": ("wrong type", in_json(refused, with_error(code=400))),
    "no param": ("wrong type", in_json(refused, lambda body: {"error": without("param", body["error"])})),
    "no message": ("wrong type", in_json(refused, with_error(message=""))),
    "422": ("wrong type", on(refused, lambda script: replace(script, status=422))),
    "error in a stream": (
        "before a stream",
        lambda asked, script: (
            stream([{"error": error("no")}]) if asked.payload.get("stream") and script.status == 400 else script
        ),
    ),
    "error with 200": ("unknown model", on(refused, lambda script: replace(script, status=200))),
    "unknown model is a 500": ("unknown model", on(refused, lambda script: replace(script, status=500))),
    "page for a route": ("missing route", on(lambda _, script: script.status == 404, lambda _: HTML)),
    "wrong key is a 500": (
        "wrong key",
        lambda asked, script: refusal(500, "oh") if "wrong" in asked.headers.get("authorization", "") else script,
    ),
    "no usage": ("usage", in_json(answered, lambda body: without("usage", body))),
    "wrong sum": ("usage", in_json(answered, lambda body: {**body, "usage": {**USAGE, "total_tokens": 3}})),
    "no object": ("chat", in_json(answered, lambda body: without("object", body))),
    "error as answer": ("chat", in_json(answered, lambda _: {"error": error("no")})),
    "no id": ("chat", in_json(answered, lambda body: without("id", body))),
    "no index": ("chat", in_json(answered, lambda body: {**body, "choices": [without("index", choice(body))]})),
    "no message in the choice": ("chat", in_json(answered, lambda body: with_choice(body, message=None))),
    "page as answer": ("chat", on(answered, lambda _: whole(b"<p>hi", content_type="text/html"))),
    "JSON as text": ("chat", on(answered, with_header("content-type", "text/plain"))),
    "eos": ("finish reason", in_json(answered, lambda body: with_choice(body, finish_reason="eos"))),
    "cut off as eos": ("length", in_json(answered, lambda body: with_choice(body, finish_reason="eos"))),
    "n ignored": ("n", in_json(answered, lambda body: {**body, "choices": body["choices"][:1]})),
    "models as a list": ("models", on_path("/models", json_body([]), "GET")),
    "models without id": ("models", on_path("/models", json_body({"object": "list", "data": [{}]}), "GET")),
    "HEAD of a page": ("head", on_path("/models", whole(b"<p>", content_type="text/html"), "HEAD")),
    "HEAD fails": ("head", on_path("/models", refusal(500, "oh"), "HEAD")),
    "silence": ("text", on_path("/v1/completions", Script(head=False, ending="cut"))),
    "endless": ("text", on_path("/v1/completions", Script(chunks=(Chunk(b" " * 2**20),) * 9))),
}


def test_a_well_behaved_endpoint_passes_every_check() -> None:
    """Nothing is found, nothing is advised, and only what need not be offered is not supported."""
    assert findings(WELL) == findings(WELL, "advice") == {}
    assert findings(WELL, "not supported") == {"wrong key": "no key is needed"}


def test_checks_have_names_of_their_own() -> None:
    """No two checks have one name, and each says what it looks at."""
    assert len({check.name for check in CHECKS}) == len(CHECKS) >= 25
    assert all(check.asks for check in CHECKS)


@pytest.mark.parametrize(("check", "fault"), FAULTS.values(), ids=FAULTS)
def test_every_planted_fault_is_found(check: str, fault: Fault) -> None:
    """The check that looks for a fault says in one line what it found."""
    found = findings(with_fault(fault))
    assert found[check]
    assert "\n" not in found[check]


def test_every_check_finds_a_fault() -> None:
    """There is no check that cannot fail or advise."""
    planted = {check for check, _ in FAULTS.values()}
    assert {check.name for check in CHECKS} - planted == {"cancel", "buffering", "request id"}


def test_an_endpoint_that_breaks_when_clients_leave_is_found() -> None:
    """A stream that a client leaves must not spoil the next request."""
    left: list[Asked] = []

    def fragile(asked: Asked) -> Script:
        begun = [earlier for earlier in left if earlier.payload.get("stream")]
        left.append(asked)
        plain = set(asked.payload) == {"model", "messages"} and "wrong" not in asked.headers.get("authorization", "")
        return refusal(500, "busy") if begun and plain else WELL(asked)

    assert "status 500" in findings(fragile)["cancel"]


@pytest.mark.parametrize(
    ("fault", "check", "advice"),
    [
        (on(streamed, with_header("x-accel-buffering", "yes")), "buffering", "nginx"),
        (on(streamed, with_header("cache-control", "public")), "buffering", "cache"),
        (on(refused, lambda script: replace(script, headers=())), "request id", "x-request-id"),
        (
            in_stream(
                lambda rows: [*(without("usage", row) for row in rows[:-1]), rows[-1]],
                **ASKED_USAGE,
            ),
            "usage asked",
            "null",
        ),
        (
            in_stream(lambda rows: [*rows[:-2], {**rows[-2], "usage": rows[-1]["usage"]}], **ASKED_USAGE),
            "usage asked",
            "finish reason",
        ),
    ],
)
def test_what_clients_survive_is_advice(fault: Fault, check: str, advice: str) -> None:
    """What no client stumbles over is told, but is no failure."""
    assert advice in findings(with_fault(fault), "advice")[check]
    assert check not in findings(with_fault(fault))


def test_what_is_refused_is_not_supported() -> None:
    """An endpoint that refuses options, or has no other routes, has no fault for that."""

    def small(asked: Asked) -> Script:
        if asked.path == "/v1/chat/completions" and not {"n", "stream_options", "max_tokens"} & asked.payload.keys():
            return WELL(asked)
        return refusal(404, "not here", "unknown_url")

    assert findings(small) == {}
    names = {"models", "head", "length", "n", "text", "usage asked", "n streamed", "text streamed", "wrong key"}
    assert findings(small, "not supported").keys() == names


def examined(answering: Answering, **fields: Any) -> Upstream:
    """Run the command on an upstream."""

    async def run() -> Upstream:
        upstream = Upstream(answering)
        async with serving(upstream) as url:
            await asyncio.to_thread(doctor, DoctorConfig(url=f"{url}/v1/", **fields))
        return upstream

    return asyncio.run(run())


def test_the_command_prints_a_table(capsys: pytest.CaptureFixture[str]) -> None:
    """Each check has its row; without a model the first of the list is asked."""
    upstream = examined(WELL)
    out = capsys.readouterr().out
    assert all(check.name in out for check in CHECKS)
    assert "finding" not in out
    asked = [call.asked.payload.get("model") for call in upstream.calls if call.asked.method == "POST"]
    assert asked.count("unchanged") > 10


def test_a_failed_check_fails_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    """The error names the checks that failed with their findings, and what the endpoint sent cannot move the cursor."""
    detail = with_fault(in_json(refused, lambda _: {"detail": "[red]\x1b[31mno"}))
    with pytest.raises(ModelError, match=r"of \d+ checks failed: bad JSON: no \"error\" object") as caught:
        examined(detail, model="unchanged")
    assert caught.value.exit_code == 1
    out = capsys.readouterr().out
    assert "finding" in out
    assert "\x1b" not in out


@pytest.mark.parametrize(
    ("variables", "key"),
    [
        ({"ALIGNER_DOCTOR_KEY": "ours", "OPENAI_API_KEY": "theirs"}, "Bearer ours"),
        ({"OPENAI_API_KEY": "theirs"}, "Bearer theirs"),
        ({}, None),
    ],
)
def test_the_key_comes_from_the_environment(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], key: str | None
) -> None:
    """The doctor's own variable wins over OpenAI's; only the check of a wrong key sends another one."""
    monkeypatch.delenv("ALIGNER_DOCTOR_KEY", raising=False)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    sent = {call.asked.headers.get("authorization") for call in examined(WELL, model="unchanged").calls}
    assert sent == {key, "Bearer sk-aligner-wrong"}


@pytest.mark.parametrize(
    ("answering", "fields", "problem"),
    [
        (lambda _: refusal(401, "no key", "invalid_api_key"), {"model": "m"}, "status 401; set ALIGNER_DOCTOR_KEY"),
        (lambda _: HTML, {"model": "m"}, "status 404; check --model"),
        (lambda _: json_body({"data": []}), {}, r"no list of models \(status 200\); name one with --model"),
        (
            lambda _: HTML,
            {},
            r"no list of models \(status 404\); is http://.*/v1 the base URL, which often ends in /v1",
        ),
        (lambda _: Script(head=False, ending="cut"), {}, "is the server running"),
        (lambda _: Script(head=False, ending="stall"), {"seconds": 0.1}, "no whole answer within 0.1 s"),
    ],
)
def test_an_endpoint_that_answers_nothing_is_one_line(answering: Answering, fields: Json, problem: str) -> None:
    """Without an answer to a plain request there is nothing to examine; the error says what to do."""
    with pytest.raises(ModelError, match=problem):
        examined(answering, **fields)


def test_what_is_no_url_is_misuse() -> None:
    """The address must be a URL."""
    with pytest.raises(MisuseError, match='"localhost:8000" is no URL'):
        doctor(DoctorConfig(url="localhost:8000"))
