"""Laws of the scripted upstream: what its corpus says is what clients see, twice alike, and who leaves is noticed."""

import asyncio
import http.client
import json
import signal
import socket
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import aiohttp
import openai
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route

import aligner.testing
from aligner.events import EventReader
from aligner.testing import (
    CORPUS,
    SCRIPTS,
    Asked,
    Chunk,
    Entry,
    Script,
    Upstream,
    always,
    by_model,
    in_turn,
    serving,
)
from aligner.testing.corpus import CHAT, TEXT
from aligner.testing.framing import FRAMINGS, framed
from aligner.testing.named import ARGUMENTS
from aligner.testing.replies import tokens_of
from aligner.testing.script import json_body, refusal

BY_NAME = {entry.name: entry for entry in CORPUS}
ANSWERED = [entry for entry in CORPUS if entry.answers is not None]
REFUSED = [entry for entry in CORPUS if entry.status != 200]
STALLED = [entry for entry in CORPUS if entry.payload["model"] in {"stall", "silence"}]
BROKEN = [entry for entry in CORPUS if entry.kind == "error" and entry.status == 200 and entry not in STALLED]
named = pytest.mark.parametrize


def script_of(entry: Entry) -> Script:
    """What the upstream does with an entry."""
    return by_model()(Asked("POST", entry.path, "", {"content-type": "application/json"}, entry.body))


def of(entries: list[Entry]) -> Any:
    """A test for each entry."""
    return named("entry", entries, ids=lambda entry: entry.name)


@pytest.fixture(scope="module")
def program() -> Iterator[str]:
    """The URL of a scripted upstream in a process of its own."""
    with subprocess.Popen([sys.executable, "-m", "aligner.testing"], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield process.stdout.readline().strip()
        process.send_signal(signal.SIGINT)
        assert process.wait(10) == 0


@pytest.fixture(scope="module")
def client(program: str) -> Iterator[openai.OpenAI]:
    """The official client, which tries nothing twice."""
    with openai.OpenAI(base_url=f"{program}/v1", api_key="k", max_retries=0, timeout=30) as made:
        yield made


class Raw(NamedTuple):
    """An answer as it came over the wire; the error says how it broke off."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes
    error: str


def fetch(url: str, entry: Entry) -> Raw:
    """One request over a connection of its own."""
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=30)
    status, headers = 0, ()
    try:
        connection.request("POST", entry.path, entry.body, {"content-type": "application/json"})
        response = connection.getresponse()
        status, headers = response.status, tuple(response.getheaders())
        return Raw(status, headers, response.read(), "")
    except http.client.RemoteDisconnected:
        return Raw(status, headers, b"", "no answer")
    except http.client.IncompleteRead as error:
        return Raw(status, headers, error.partial, "cut")
    finally:
        connection.close()


def ask(client: openai.OpenAI, entry: Entry) -> Any:
    """What the official client makes of an entry; its own types stand aside for unusual payloads."""
    fields = {name: value for name, value in entry.payload.items() if name not in {"model", "messages", "prompt"}}
    streamed = {"stream": True} if fields.pop("stream", False) else {}
    asked: dict[str, Any] = {"model": entry.payload["model"], "extra_body": fields, **streamed}
    if entry.path.endswith("chat/completions"):
        return client.chat.completions.create(messages=entry.payload["messages"], **asked)
    return client.completions.create(prompt=entry.payload["prompt"], **asked)


class Seen(NamedTuple):
    """What a client has read: the text and the finish reasons of each choice, and how often usage came."""

    answers: tuple[str | None, ...]
    finishes: tuple[tuple[str, ...], ...]
    usages: int


def seen(entry: Entry, answer: Any) -> Seen:
    """Read an answer, or a stream to its end."""
    texts_of: dict[int, list[str | None]] = defaultdict(list)
    finishes: dict[int, list[str]] = defaultdict(list)
    usages = 0
    for part in answer if entry.streamed else [answer]:
        usages += part.usage is not None
        for choice in part.choices:
            texts_of[choice.index].append(text_in(choice))
            finishes[choice.index] += [choice.finish_reason] if choice.finish_reason else []
    joined = [
        None if all(text is None for text in found) else "".join(filter(None, found))
        for _, found in sorted(texts_of.items())
    ]
    return Seen(tuple(joined), tuple(tuple(found) for _, found in sorted(finishes.items())), usages)


def text_in(choice: Any) -> str | None:
    """The text of a choice of either route, whole or in a chunk."""
    if hasattr(choice, "text"):
        return choice.text
    content = (choice.delta if hasattr(choice, "delta") else choice.message).content
    return "".join(part["text"] for part in content) if isinstance(content, list) else content


def test_the_corpus_is_large_and_its_names_are_unique() -> None:
    """There are requests of every kind, each with its own name, and every script has one."""
    assert len(BY_NAME) == len(CORPUS) >= 45
    assert {entry.payload["model"] for entry in CORPUS} == {*SCRIPTS, "no-such-model"}
    kinds = {(entry.path, entry.streamed, entry.kind) for entry in CORPUS}
    assert kinds >= {(CHAT, streamed, kind) for streamed in (True, False) for kind in ("same", "error")}
    assert kinds >= {(TEXT, False, "same"), (TEXT, True, "same"), (TEXT, True, "error")}


@of([entry for entry in CORPUS if entry not in STALLED])
def test_two_calls_give_the_same_bytes(program: str, entry: Entry) -> None:
    """An entry is answered alike each time: status, headers, body, and the way in which it breaks off."""
    first, script = fetch(program, entry), script_of(entry)
    assert first == fetch(program, entry)
    assert first.status == (entry.status if script.head else 0)
    assert first.body == script.body
    assert bool(first.error) == (script.ending == "cut")


@of(STALLED)
def test_a_stall_sends_its_part_and_then_nothing(program: str, entry: Entry) -> None:
    """What a script holds before it stalls arrives, and the connection stays open without another byte."""
    script = script_of(entry)
    with socket.create_connection(("127.0.0.1", urlsplit(program).port or 0), timeout=30) as connection:
        head = f"POST {entry.path} HTTP/1.1\r\nhost: a\r\ncontent-length: {len(entry.body)}\r\n\r\n"
        connection.sendall(head.encode() + entry.body)
        come, last = b"", script.chunks[-1].data if script.chunks else b"\r\n\r\n"
        while script.head and last not in come:
            come += connection.recv(65536)
        connection.settimeout(0.2)
        with pytest.raises(TimeoutError):
            while piece := connection.recv(65536):
                come += piece
        assert come.removesuffix(b"\r\n").endswith(last.removesuffix(b"\r\n")) if script.head else not come


@of(ANSWERED)
def test_the_official_client_reads_what_the_entry_says(client: openai.OpenAI, entry: Entry) -> None:
    """Each choice of a good answer has its text and one finish reason, and usage comes once where it is due."""
    read = seen(entry, ask(client, entry))
    assert read.answers == entry.answers
    assert [len(reasons) for reasons in read.finishes] == [1] * len(read.answers)
    wants_usage = entry.payload.get("stream_options", {}).get("include_usage")
    assert read.usages == (1 if wants_usage or not entry.streamed else 0)


@of(REFUSED)
def test_a_refusal_is_raised_with_its_status(client: openai.OpenAI, entry: Entry) -> None:
    """What is refused reaches the client's caller as an error of that status."""
    with pytest.raises(openai.APIStatusError) as caught:
        ask(client, entry)
    assert caught.value.status_code == entry.status


@of(BROKEN)
def test_a_broken_answer_never_passes_for_a_whole_one(client: openai.OpenAI, entry: Entry) -> None:
    """Whatever an unguarded client makes of a broken answer, it is not the answer with its finish reason."""
    try:
        read = seen(entry, ask(client, entry))
    except (openai.APIError, ValueError, AttributeError, TypeError):
        return
    assert read.finishes in {(), ((),)}


def test_the_pieces_of_a_tool_call_add_up(client: openai.OpenAI) -> None:
    """Streamed arguments of parallel calls are those of the whole message, each under its own call."""
    whole = ask(client, BY_NAME["chat-parallel-tools"]).choices[0].message.tool_calls
    pieces: dict[int, str] = defaultdict(str)
    for chunk in ask(client, BY_NAME["chat-parallel-tools-streamed"]):
        for call in chunk.choices[0].delta.tool_calls or ():
            pieces[call.index] += call.function.arguments
    assert list(pieces.values()) == [call.function.arguments for call in whole] == [ARGUMENTS] * 2


def test_choices_come_in_turn_and_their_roles_in_order(client: openai.OpenAI) -> None:
    """With n = 2 the roles come first, by index, and then the pieces of both choices mixed."""
    chunks = [chunk.choices[0] for chunk in ask(client, BY_NAME["chat-n2-streamed"])]
    assert [(choice.index, choice.delta.role) for choice in chunks[:2]] == [(0, "assistant"), (1, "assistant")]
    assert [choice.index for choice in chunks[2:8]] == [0, 1] * 3


def asked(payload: object, path: str = "/v1/chat/completions", method: str = "POST") -> Asked:
    """A request that has arrived."""
    return Asked(method, path, "", {}, payload if isinstance(payload, bytes) else json.dumps(payload).encode())


def say(text: str, **fields: Any) -> Script:
    """The script that says a text back."""
    return by_model()(asked({"model": "echo", "messages": [{"role": "user", "content": text}], **fields}))


def data_of(script: Script) -> list[Any]:
    """The events of a stream, read as bytes that come in the script's own writes."""
    reader = EventReader()
    events = [data for chunk in script.chunks for data in reader.add(chunk.data)] + reader.rest()
    return [data if data == "[DONE]" else json.loads(data) for data in events]


@given(st.text())
def test_any_text_comes_back_whole_and_in_pieces(text: str) -> None:
    """An echo is its question, letter by letter, and the pieces of a stream add up to it."""
    assert json.loads(say(text).body)["choices"][0]["message"]["content"] == text
    *chunks, done = data_of(say(text, stream=True))
    assert "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in chunks) == text
    assert done == "[DONE]"
    assert "".join(tokens_of(text)) == text


@named("name", FRAMINGS)
@settings(max_examples=30)
@given(text=st.text())
def test_every_spelling_means_the_same(name: str, text: str) -> None:
    """A stream in another spelling has the same events; a whole body has no other spelling."""
    plain = say(text, stream=True, n=2)
    assert data_of(framed(plain, *FRAMINGS[name])) == data_of(plain)
    assert framed(say(text), *FRAMINGS[name]) == say(text)


def test_the_split_spelling_cuts_letters() -> None:
    """Writes of the split spelling end inside of a letter, and reach the client one by one."""

    async def writes() -> list[bytes]:
        async with (
            serving(Upstream()) as url,
            aiohttp.ClientSession(url) as session,
            session.post("/v1/chat/completions", data=BY_NAME["chat-split-streamed"].body) as response,
        ):
            found, data = [], b""
            async for piece, ends in response.content.iter_chunks():
                data += piece
                if ends:
                    found, data = [*found, data], b""
            return found

    found = asyncio.run(writes())
    assert len(found) > 10
    for count in range(1, len(found)):
        with pytest.raises(UnicodeDecodeError, match="unexpected end of data"):
            b"".join(found[:count]).decode()


@named(
    ("body", "path", "status", "code"),
    [
        (b"{", "/v1/chat/completions", 400, "invalid_json"),
        (b"[]", "/v1/chat/completions", 400, "invalid_type"),
        ({"model": "echo"}, "/v1/chat/completions", 400, "invalid_type"),
        ({"model": "echo", "messages": []}, "/v1/chat/completions", 400, "invalid_type"),
        ({"model": "echo", "messages": ["hi"]}, "/v1/chat/completions", 400, "invalid_type"),
        ({"model": "echo", "messages": [{"role": "user", "content": 1}]}, "/v1/chat/completions", 400, "invalid_type"),
        ({"messages": [{"role": "user", "content": "hi"}]}, "/v1/chat/completions", 400, "invalid_type"),
        ({"model": "echo", "prompt": "hi", "stream": "yes"}, "/v1/completions", 400, "invalid_type"),
        ({"model": "echo", "prompt": "hi", "n": 0}, "/v1/completions", 400, "invalid_type"),
        ({"model": "echo", "prompt": "hi", "max_tokens": True}, "/v1/completions", 400, "invalid_type"),
        ({"model": "echo", "prompt": 1}, "/v1/completions", 400, "invalid_type"),
        ({"model": "tools", "prompt": "hi"}, "/v1/completions", 400, "model_not_supported"),
        ({"model": "nobody", "prompt": "hi"}, "/v1/completions", 404, "model_not_found"),
        ({"model": "echo@0", "prompt": "hi"}, "/v1/completions", 404, "model_not_found"),
        ({"model": "echo@fast", "prompt": "hi"}, "/v1/completions", 404, "model_not_found"),
        ({}, "/v1/chat/completions/none", 404, "unknown_url"),
        ({}, "/elsewhere", 404, "unknown_url"),
        ({}, "/v1/models", 405, "method_not_supported"),
    ],
)
def test_a_wrong_request_is_refused_as_openai_does(body: object, path: str, status: int, code: str) -> None:
    """Each mistake has its status and code, in an error object with all of its fields."""
    script = by_model()(asked(body, path))
    error = json.loads(script.body)["error"]
    assert (script.status, error["code"]) == (status, code)
    assert error.keys() == {"message", "type", "param", "code"}


def test_models_are_the_scripts() -> None:
    """Each script is a model of the list, and can be asked for by its name."""
    listed = json.loads(by_model()(asked(b"", "/v1/models", "GET")).body)["data"]
    assert [model["id"] for model in listed] == list(SCRIPTS)
    assert json.loads(by_model()(asked(b"", "/v1/models/n2", "GET")).body) in listed
    assert by_model()(asked(b"", "/v1/models/none", "HEAD")).status == 404


def test_a_rate_spreads_the_writes() -> None:
    """`NAME@RATE` is the script of that name with so many writes a second."""
    plain, slow = say("hi there", stream=True), by_model()(asked({"model": "n2@50", "prompt": "hi"}, "/v1/completions"))
    assert {chunk.pause for chunk in plain.chunks} == {0.0}
    assert {chunk.pause for chunk in slow.chunks} == {0.02}


def run(script: Script, client: Callable[[str, Upstream], Awaitable[None]]) -> float | None:
    """How long after a client was through the upstream saw it leave; none where the client stayed to the end."""

    async def one_call() -> float | None:
        upstream = Upstream(always(script))
        async with serving(upstream) as url:
            await client(url, upstream)
            left, call = time.monotonic(), await upstream.call()
            await asyncio.wait_for(call.over.wait(), 1)
            return None if call.gone is None else call.gone - left

    return asyncio.run(one_call())


async def impatient(url: str, upstream: Upstream) -> None:
    """A client that leaves while the upstream is at work."""
    waiting = asyncio.create_task(patient(url, upstream))
    await upstream.call()
    await asyncio.sleep(0.05)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting


async def patient(url: str, _: Upstream) -> None:
    """A client that reads to the end, if it comes."""
    async with aiohttp.ClientSession() as session, session.post(f"{url}/any", data=b"x") as response:
        await response.read()


@named(
    "script",
    [
        Script(head=False, ending="stall"),
        Script(wait=30),
        Script(ending="stall"),
        Script(chunks=(Chunk(b"x"),), ending="stall"),
        Script(chunks=tuple(Chunk(b"x", 0.01) for _ in range(1000))),
        Script(chunks=(*(Chunk(b"x") for _ in range(3)), Chunk(b"x", 30))),
    ],
    ids=["silent", "waiting", "head only", "stalled", "streaming", "pausing"],
)
def test_a_client_that_leaves_is_noticed_within_a_second(script: Script) -> None:
    """Wherever an answer stands, the upstream sees an abort, and when."""
    gone = run(script, impatient)
    assert gone is not None
    assert gone < 1


@named(
    "script",
    [json_body([1]), Script(), Script(chunks=tuple(Chunk(b"x" * 10_000) for _ in range(100)))],
    ids=["whole", "empty", "long"],
)
def test_a_client_that_stays_to_the_end_has_not_left(script: Script) -> None:
    """Closing the connection after the last byte is no abort."""
    assert run(script, patient) is None


@named("head", [True, False])
def test_a_connection_that_is_cut_was_not_left(head: bool) -> None:
    """The client sees the cut as an error, and counts as one that stayed."""

    async def cut_off(url: str, upstream: Upstream) -> None:
        with pytest.raises(aiohttp.ClientError):
            await patient(url, upstream)

    assert run(Script(chunks=(Chunk(b"x"),), ending="cut", head=head), cut_off) is None


def test_a_slow_reader_that_leaves_is_noticed() -> None:
    """An abort is seen, too, while the upstream waits for the client to take more."""

    async def slow(url: str, upstream: Upstream) -> None:
        _, writer = await asyncio.open_connection("127.0.0.1", urlsplit(url).port, limit=1)
        writer.write(b"GET /any HTTP/1.1\r\nhost: a\r\n\r\n")
        await upstream.call()
        await asyncio.sleep(0.1)
        writer.transport.abort()

    assert run(Script(chunks=(Chunk(b"x" * 2**22),) * 9), slow) is not None


def test_requests_are_remembered_in_order() -> None:
    """What was asked is kept byte by byte, up to a number of requests, also in what /calls tells."""

    async def three() -> tuple[Upstream, list[Any]]:
        upstream = Upstream(keep=2)
        async with serving(upstream) as url, aiohttp.ClientSession(url) as session:
            for number in range(3):
                headers = {"X-Number": str(number), "Content-Type": "application/octet-stream"}
                async with session.put(f"/v1/files?n={number}", data=b"\xff\x00", headers=headers) as response:
                    assert (await response.read(), response.content_type) == (b"\xff\x00", headers["Content-Type"])
            async with session.get("/v1/files") as response:
                assert (await response.json())["path"] == "/v1/files"
            async with session.get("/calls") as response:
                return upstream, await response.json()

    upstream, told = asyncio.run(three())
    assert upstream.count == 4
    put, get = (call.asked for call in upstream.calls)
    assert (put.method, put.path, put.query, put.body) == ("PUT", "/v1/files", "n=2", b"\xff\x00")
    assert put.headers["x-number"] == "2"
    assert (get.method, get.body, get.payload) == ("GET", b"", {})
    assert [(call["method"], call["query"], call["gone_after"]) for call in told] == [
        ("PUT", "n=2", None),
        ("GET", "", None),
    ]


def test_scripts_in_turn() -> None:
    """Scripts are played one after the other, and the last of them from then on."""
    answering = in_turn(refusal(429, "wait"), json_body("well"))
    assert [answering(asked(b"")).status for _ in range(4)] == [429, 200, 200, 200]


def test_any_application_can_be_served() -> None:
    """`serving` also runs another ASGI application, whose lifespan is respected."""
    states: list[str] = []

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        states.append("up")
        yield
        states.append("down")

    async def text() -> str:
        routes = [Route("/", lambda _: PlainTextResponse(states[-1]))]
        app = Starlette(routes=routes, lifespan=lifespan)
        async with serving(app) as url, aiohttp.ClientSession() as session, session.get(url) as response:
            return await response.text()

    assert asyncio.run(text()) == "up"
    assert states == ["up", "down"]


def test_every_name_of_the_package_is_there() -> None:
    """What the package promises can be imported, and a misspelt name fails as it does with any module."""
    assert [getattr(aligner.testing, name).__name__ for name in aligner.testing.__all__ if name[0].islower()]
    assert all(hasattr(aligner.testing, name) for name in aligner.testing.__all__)
    with pytest.raises(AttributeError, match='has no attribute "servin"'):
        getattr(aligner.testing, "servin")  # noqa: B009  # a type checker would refuse the attribute
