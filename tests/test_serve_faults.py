"""Laws of the proxy while the upstream, a client or the engine breaks: no request hangs, and each has its end."""

import asyncio
import os
import signal
import socket
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, closing, suppress
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import pytest
from faults import CHAT, LIMIT, asked, chat, code_of, figure, raw, until_figure, within
from fuzzing import parsed, request
from programs import engine_of, megabytes, running
from proxies import Got, ask, proxied

from aligner.config import ServeConfig
from aligner.serve import opened
from aligner.testing import Upstream, always, serving
from aligner.testing.script import Asked, Script, whole
from aligner.testing.texts import PLAIN

_HEARTBEAT = b": aligner\n\n"

# The upstream


@pytest.mark.parametrize("mode", ["off", "shadow", "correct", "gate"])
@pytest.mark.parametrize("streamed", [False, True])
def test_a_refusal_comes_back_once_with_all_that_says_when_to_try_again(mode: str, streamed: bool) -> None:
    """Status, body and retry headers are the upstream's, and it is asked no second time."""

    async def law() -> None:
        async with proxied(mode=mode, gate=0.5 if mode == "gate" else None) as proxy:
            for number, model in enumerate(("error-429", "error-500", "error-503"), 1):
                got = await asked(proxy.url, chat(model, stream=streamed))
                assert proxy.upstream.count == 2 * number - 1
                direct = await asked(proxy.upstream_url, chat(model, stream=streamed))
                assert (got.status, got.body) == (direct.status, direct.body)
                for name in ("retry-after", "retry-after-ms", "x-should-retry", "content-type"):
                    assert got.headers.get(name) == direct.headers.get(name)

    within(law)


@asynccontextmanager
async def before(url: str, **fields: Any) -> AsyncGenerator[str]:
    """The URL of a proxy before some server."""
    async with opened(ServeConfig(upstream=f"{url}/v1", aligner="echo:", **fields), {}) as app, serving(app) as front:
        yield front


@asynccontextmanager
async def bare(said: list[bytes], *, hang: bool = False) -> AsyncGenerator[str]:
    """A server that says some bytes to whoever asks, and closes the connection or says no more; gives its URL."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(said[0])
            await writer.drain()
            if hang:
                await reader.read()
                await reader.read()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n"
GARBAGE = {
    "nothing": b"",
    "no-http": b"SSH-2.0-OpenSSH_9.2\r\n",
    "no-status": b"HTTP/1.1\r\n\r\n",
    "status-0": b"HTTP/1.1 000 \r\n\r\n",
    "bad-header": HEAD + b"x: \x00\x01\r\n\r\n{}",
    "long-header": HEAD + b"x: " + b"y" * 200_000 + b"\r\n\r\n{}",
    "bad-chunk": HEAD + b"transfer-encoding: chunked\r\n\r\nzz\r\n{}\r\n0\r\n\r\n",
    "short-chunk": HEAD + b"transfer-encoding: chunked\r\n\r\nff\r\n{}",
    "short-body": HEAD + b"content-length: 100\r\n\r\n{}",
    "negative-length": HEAD + b"content-length: -1\r\n\r\n{}",
    "gzip-that-is-none": HEAD + b"content-encoding: gzip\r\ncontent-length: 2\r\n\r\n{}",
    "html": HEAD.replace(b"json", b"html") + b"content-length: 6\r\n\r\n<html>",
    "switching": b"HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n",
}


@pytest.mark.parametrize("hang", [False, True])
@pytest.mark.parametrize("streamed", [False, True])
def test_an_upstream_that_speaks_no_http_is_an_error_of_the_gateway(hang: bool, streamed: bool) -> None:
    """Whatever its bytes are, and whether it hangs up after them or not: 502 or 504 in OpenAI's shape, in time."""
    said: list[bytes] = [b""]

    async def law() -> None:
        async with bare(said, hang=hang) as url, before(url, patience=0.3) as front:
            for name, said[0] in GARBAGE.items():
                got = await asked(front, chat(stream=streamed))
                assert got.status in (502, 504), (name, got)
                assert code_of(got) in ("upstream_cut", "upstream_garbage", "upstream_timeout"), (name, got)

    within(law)


@pytest.mark.parametrize("mode", ["off", "shadow"])
@pytest.mark.parametrize("route", [CHAT, "/v1/files/f/content"])
def test_a_body_that_breaks_off_does_not_end_as_if_it_were_whole(mode: str, route: str) -> None:
    """What is relayed and is no stream of events ends with the connection, and with nothing of our own."""
    script = Script(headers=(("content-type", "application/json"),), ending="cut").writing([b'{"a":', b'"b'])

    async def law() -> None:
        async with proxied(Upstream(always(script)), mode=mode) as proxy:
            reply = parsed(await raw(proxy.url, request(chat(), route.encode())))
            assert (reply.status, reply.body, reply.complete) == (200, script.body, False)

    within(law)


def test_an_upstream_that_comes_back_is_used_again() -> None:
    """While nobody listens there, 502 says so; the first request after that is answered."""

    async def law() -> None:
        with closing(socket.create_server(("127.0.0.1", 0))) as place:
            port = place.getsockname()[1]
        async with before(f"http://127.0.0.1:{port}") as front:
            got = await asked(front, chat())
            assert (got.status, code_of(got)) == (502, "upstream_unreachable")
            async with serving(Upstream(), port):
                assert (await asked(front, chat())).status == 200

    within(law)


def test_stalled_requests_do_not_hold_up_others() -> None:
    """While many requests wait for an upstream that says nothing, another is answered at once."""

    async def law() -> None:
        async with proxied(patience=5.0) as proxy:
            waiting = [asyncio.create_task(asked(proxy.url, chat("silence", stream=i % 2 == 0))) for i in range(60)]
            await proxy.upstream.call(60)
            began = time.monotonic()
            assert (await asked(proxy.url, chat())).status == 200
            assert time.monotonic() - began < 3
            ends = await asyncio.gather(*waiting)
            assert {code_of(got) for got in ends} == {"upstream_timeout"}

    within(law)


# A client


def test_clients_that_do_not_read_cost_no_memory_and_hold_up_nobody(tmp_path: Path) -> None:
    """Answers far larger than its memory wait in the upstream, and others are served meanwhile."""
    clients, megabyte = 8, bytes(2**20)
    large = Script(headers=(("content-type", "application/octet-stream"),)).writing([megabyte] * 24)

    def answering(asked: Asked) -> Script:
        return large if asked.path.endswith("/content") else whole(b'{"choices":[]}')

    async def law() -> None:
        async with serving(Upstream(answering)) as url, running(url, tmp_path, mode="off") as program:
            await asked(program.url, chat())
            before = megabytes(program.pid)
            lazy = [lazy_client(program.url, b"/v1/files/f/content") for _ in range(clients)]
            most = 0.0
            for _ in range(20):
                await asyncio.sleep(0.1)
                assert (await asked(program.url, chat())).status == 200
                most = max(most, megabytes(program.pid) - before)
            for client in lazy:
                client.close()
            assert most < clients * 4

    within(law)


def lazy_client(url: str, path: bytes) -> socket.socket:
    """A connection that has asked, and does not read."""
    host, _, port = url.removeprefix("http://").partition(":")
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    client.connect((host, int(port)))
    client.sendall(request(b"", path, b"GET"))
    return client


# The engine

POLICIES = pytest.mark.parametrize(("profile", "opens"), [("helpful", True), ("safety", False)])


def bypassed(got: Got, direct: Got, cause: str, *, opens: bool) -> None:
    """An answer whose correction failed: the original, or an error that says not to pay once more."""
    if opens:
        assert (got.status, got.body.replace(_HEARTBEAT, b"")) == (200, direct.body)
        return
    assert code_of(got) == "corrector_unavailable"
    assert cause.encode() in got.body
    if got.status != 200:  # a stream has its status already
        assert (got.status, got.headers["x-should-retry"]) == (503, "false")


def bypass_of(cause: str) -> str:
    """The name of the figure that counts bypasses."""
    return f'aligner_corrections_total{{reason="{cause}",result="bypassed"}}'


@POLICIES
def test_an_engine_killed_while_answers_wait_ends_them_all(profile: str, opens: bool) -> None:
    """By its profile, whole and streamed; the next engine corrects again."""

    async def law() -> None:
        async with proxied(profile=profile, rows=1) as proxy:
            pid = await engine_of(os.getpid())
            os.kill(pid, signal.SIGSTOP)
            streams = [number % 2 == 0 for number in range(8)]
            waiting = [asyncio.create_task(asked(proxy.url, chat(stream=streamed))) for streamed in streams]
            await until_figure(proxy.url, "aligner_queue_depth", lambda depth: depth == len(streams))
            os.kill(pid, signal.SIGKILL)
            for streamed, got in zip(streams, await asyncio.gather(*waiting), strict=True):
                direct = await asked(proxy.upstream_url, chat(stream=streamed))
                bypassed(got, direct, "engine_down", opens=opens)
                assert streamed or got.headers["x-aligner-bypass"] == "engine_down"
            if opens:
                assert await figure(proxy.url, bypass_of("engine_down")) == len(streams)
            await engine_of(os.getpid(), but=pid)
            await until_ready(proxy.url)
            again = await asked(proxy.url, chat())
            assert (again.status, "x-aligner-bypass" in again.headers) == (200, False)

    within(law)


async def until_ready(url: str) -> None:
    """Wait until the Aligner is there."""
    async with asyncio.timeout(LIMIT), aiohttp.ClientSession() as session:
        while (await ask(session, f"{url}/readyz", b"", method="GET")).status != 200:  # noqa: ASYNC110
            await asyncio.sleep(0.05)


@POLICIES
def test_an_engine_that_is_stopped_costs_no_more_than_the_budget(profile: str, opens: bool) -> None:
    """Then the answers go their way, and when the engine goes on, so do corrections."""

    async def law() -> None:
        async with proxied(profile=profile, seconds=0.5) as proxy:
            pid = await engine_of(os.getpid())
            os.kill(pid, signal.SIGSTOP)
            try:
                began = time.monotonic()
                for streamed in (False, True):
                    got = await asked(proxy.url, chat(stream=streamed))
                    direct = await asked(proxy.upstream_url, chat(stream=streamed))
                    bypassed(got, direct, "timeout", opens=opens)
                assert time.monotonic() - began < 10
            finally:
                os.kill(pid, signal.SIGCONT)
            async with asyncio.timeout(LIMIT):
                while "x-aligner-bypass" in (await asked(proxy.url, chat())).headers:  # noqa: ASYNC110
                    await asyncio.sleep(0.05)

    within(law)


@asynccontextmanager
async def slow_aligner(text: str, rate: float) -> AsyncGenerator[str]:
    """The name of an Aligner behind a server that writes this correction at so many pieces a second."""
    pieces = [text[at : at + 6] for at in range(0, len(text), 6)]
    choices = [{"index": 0, "text": piece, "finish_reason": None} for piece in pieces]
    choices.append({"index": 0, "text": "", "finish_reason": "stop"})
    events = [b"data: " + orjson.dumps({"choices": [choice]}) + b"\n\n" for choice in choices]
    script = Script(headers=(("content-type", "text/event-stream"),)).writing([*events, b"data: [DONE]\n\n"], 1 / rate)
    async with serving(Upstream(always(script))) as url:
        yield f"openai:{CHECKPOINT}@{url}/v1"


CHECKPOINT = next((Path(__file__).parents[1] / "src" / "aligner" / "assets").glob("*/aligner.json")).parent


# An engine that loads a tokenizer takes seconds to start.
SLOW = [pytest.param("helpful", True, id="helpful"), pytest.param("safety", False, id="safety", marks=pytest.mark.slow)]
OTHER = PLAIN.replace("Paris", "Lutetia")


@pytest.mark.parametrize(("profile", "opens"), SLOW)
@pytest.mark.parametrize(
    ("text", "agrees"),
    [
        pytest.param(PLAIN, True, id="same", marks=pytest.mark.slow),
        pytest.param(OTHER, False, id="other", marks=pytest.mark.slow),
    ],
)
def test_an_engine_killed_while_it_writes_leaves_whole_answers(
    profile: str, opens: bool, text: str, agrees: bool
) -> None:
    """What was sent of a correction goes on as the original where that fits, and else the stream ends with an error."""

    async def law() -> None:
        async with slow_aligner(text, rate=4) as aligner, proxied(aligner=aligner, profile=profile) as proxy:
            waiting = [asyncio.create_task(asked(proxy.url, chat(stream=streamed))) for streamed in (False, True)]
            await until_figure(proxy.url, "aligner_queue_depth", lambda depth: depth == 2)
            await asyncio.sleep(1.5)  # it has written some words, and not all of them
            os.kill(await engine_of(os.getpid()), signal.SIGKILL)
            whole, stream = await asyncio.gather(*waiting)
            bypassed(whole, await asked(proxy.upstream_url, chat()), "engine_down", opens=opens)
            if agrees or not opens:
                bypassed(stream, await asked(proxy.upstream_url, chat(stream=True)), "engine_down", opens=opens)
            else:
                assert code_of(stream) == "corrector_unavailable"

    within(law)


@pytest.mark.slow
@POLICIES
def test_more_answers_than_may_wait_go_their_way(profile: str, opens: bool) -> None:
    """Those beyond the queue fail at once, by the profile, and those within it are corrected."""

    async def law() -> None:
        async with (
            slow_aligner(PLAIN, rate=20) as aligner,
            proxied(aligner=aligner, profile=profile, rows=1, waiting=1) as proxy,
        ):
            found = await asyncio.gather(*(asked(proxy.url, chat()) for _ in range(6)))
            direct = await asked(proxy.upstream_url, chat())
            full = [got for got in found if got.headers.get("x-aligner-bypass") == "queue_full"]
            assert 1 <= len(full) <= 4
            for got in full:
                bypassed(got, direct, "queue_full", opens=opens)
            assert all((got.status, got.body) == (200, direct.body) for got in found if got not in full)

    within(law)
