"""Laws of what an operator sets: keys, rates, names, aliases, breakers, traces and log lines."""

import asyncio
import hashlib
import io
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode
from programs import running
from proxies import Got, Proxied, ask, proxied

from aligner.config import ServeConfig
from aligner.errors import MisuseError
from aligner.serve import check, opened
from aligner.serving.traces import open_traces
from aligner.testing import Upstream, always, serving
from aligner.testing.script import Script
from aligner.testing.texts import PLAIN


def chat(**fields: Any) -> bytes:
    """A request whose answer speaks of Paris."""
    return orjson.dumps({"model": "unchanged", "messages": [{"role": "user", "content": "Which?"}], **fields})


@pytest.fixture
def rules(tmp_path: Path) -> str:
    """An Aligner that corrects one word."""
    path = tmp_path / "rules.json"
    path.write_bytes(orjson.dumps([{"pattern": "Paris", "replace": "Lutetia"}]))
    return f"rules:{path}"


async def chatted(proxy: Proxied, body: bytes | None = None, **headers: str) -> Got:
    """One answer."""
    async with aiohttp.ClientSession() as session:
        return await ask(session, f"{proxy.url}/v1/chat/completions", body or chat(), **headers)


async def got(url: str, **headers: str) -> Got:
    """What is there."""
    async with aiohttp.ClientSession() as session:
        return await ask(session, url, b"", method="GET", **headers)


def test_each_client_has_a_key_of_its_own_and_sees_only_its_own_rows(tmp_path: Path) -> None:
    """The operator sees all; the upstream gets none of their keys."""
    keys = tmp_path / "keys.txt"
    keys.write_text("".join(f"{n} sha256:{hashlib.sha256(n.encode()).hexdigest()}\n" for n in ("ann", "bob")))
    environ = {"ALIGNER_API_KEY": "op", "ALIGNER_UPSTREAM_KEY": "theirs"}

    async def run() -> None:
        async with proxied(environ=environ, keys=keys, log=str(tmp_path / "log.db")) as proxy:
            answer = await chatted(proxy, authorization="Bearer ann")
            assert (await chatted(proxy, authorization="Bearer eve")).status == 401
            assert [call.asked.headers["authorization"] for call in proxy.upstream.calls] == ["Bearer theirs"]
            url = f"{proxy.url}/v1/aligner/corrections/{answer.headers['x-aligner-id']}"
            async with asyncio.timeout(20):
                while (await got(url, authorization="Bearer ann")).status == 404:  # noqa: ASYNC110  # nothing tells of it
                    await asyncio.sleep(0.05)
            statuses = [(await got(url, authorization=f"Bearer {key}")).status for key in ("ann", "bob", "op", "eve")]
            assert statuses == [200, 404, 200, 401]
            said = orjson.dumps({"id": answer.headers["x-aligner-id"], "verdict": "accept"})
            async with aiohttp.ClientSession() as session:
                feedback = [
                    (await ask(session, f"{proxy.url}/v1/aligner/feedback", said, authorization=f"Bearer {key}")).status
                    for key in ("bob", "ann")
                ]
            assert feedback == [404, 200]

    asyncio.run(run())


def test_a_client_beyond_its_rate_is_told_when_to_come_again() -> None:
    """Others are not held up by it, and neither are the probes."""

    async def run() -> None:
        async with proxied(rate=2) as proxy:
            first = [await chatted(proxy, authorization="Bearer a") for _ in range(3)]
            assert [answer.status for answer in first] == [200, 200, 429]
            assert first[2].headers["retry-after"] == "30"
            assert orjson.loads(first[2].body)["error"]["code"] == "rate_limit_exceeded"
            assert (await chatted(proxy, authorization="Bearer b")).status == 200
            assert [(await got(f"{proxy.url}/healthz")).status for _ in range(4)] == [200] * 4

    asyncio.run(run())


def test_without_a_key_it_is_called_by_this_machines_names_only() -> None:
    """A web page that has its own name point at this machine reaches nothing."""

    async def run() -> list[int]:
        async with proxied(hosts=("aligner.test",)) as proxy:
            port = proxy.url.rsplit(":", 1)[1]
            names = ("localhost", f"127.0.0.1:{port}", f"[::1]:{port}", "aligner.test", "evil.example", "[")
            return [(await chatted(proxy, host=name)).status for name in names]

    assert asyncio.run(run()) == [200, 200, 200, 200, 403, 403]


def test_a_models_name_chooses_the_mode_where_the_operator_allows_it(rules: str) -> None:
    """The list of models says so, and the upstream knows its own names only."""

    async def run() -> None:
        async with proxied(aligner=rules, allow=("off",)) as proxy:
            for name, corrected in (("unchanged", True), ("raw/unchanged", False)):
                answer = await chatted(proxy, chat(model=name))
                assert (answer.status, b"Lutetia" in answer.body) == (200, corrected)
            assert {orjson.loads(call.asked.body)["model"] for call in proxy.upstream.calls} == {"unchanged"}
            listed = orjson.loads((await got(f"{proxy.url}/v1/models")).body)["data"]
            direct = orjson.loads((await got(f"{proxy.upstream_url}/v1/models")).body)["data"]
            assert listed == [*direct, *({**model, "id": f"raw/{model['id']}"} for model in direct)]
            await got(f"{proxy.url}/v1/models")
            assert sum(call.asked.path == "/v1/models" for call in proxy.upstream.calls) == 2
        async with proxied(aligner=rules) as proxy:
            assert (await got(f"{proxy.url}/v1/models")).body == (await got(f"{proxy.upstream_url}/v1/models")).body
            assert (await chatted(proxy, chat(model="raw/unchanged"))).status == 404

    asyncio.run(run())


@pytest.mark.parametrize(("others", "statuses"), [("relay", [200, 404, 200]), ("refuse", [404, 404, 200])])
def test_other_routes_are_reached_as_the_operator_says(others: str, statuses: list[int]) -> None:
    """The list of models always; and no spelling of a corrected route gets round the correction."""

    async def run() -> list[int]:
        async with proxied(others=others) as proxy, aiohttp.ClientSession() as session:
            paths = ("embeddings", "chat/completions/")
            found = [(await ask(session, f"{proxy.url}/v1/{path}", chat())).status for path in paths]
            return [*found, (await got(f"{proxy.url}/v1/models")).status]

    assert asyncio.run(run()) == statuses


def test_an_upstream_that_fails_again_and_again_is_left_alone_for_a_while() -> None:
    """Clients are told at once when to come again; then one attempt finds it well."""
    scripts = [Script(status=503)] * 2

    def answering(_: object) -> Script:
        return scripts.pop() if scripts else Script(headers=(("content-type", "application/json"),)).writing([b"{}"])

    async def run() -> None:
        upstream = Upstream(answering)
        async with proxied(upstream, mode="off", failures=2, rest=0.5) as proxy:
            assert [(await chatted(proxy)).status for _ in range(2)] == [503, 503]
            refused = await chatted(proxy)
            assert (refused.status, refused.headers["retry-after"]) == (503, "1")
            assert orjson.loads(refused.body)["error"]["code"] == "upstream_unavailable"
            assert len(upstream.calls) == 2
            assert b'aligner_breaker_state{of="upstream"} 1.0' in (await got(f"{proxy.url}/metrics")).body
            await asyncio.sleep(0.6)
            assert (await chatted(proxy)).status == 200
            assert b'aligner_breaker_state{of="upstream"} 0.0' in (await got(f"{proxy.url}/metrics")).body

    asyncio.run(run())


def test_an_aligner_that_is_too_slow_again_and_again_is_left_alone() -> None:
    """Nobody waits for it any more, and every bypass is told."""

    async def run() -> list[str]:
        async with proxied(failures=2, seconds=0.0) as proxy:
            return [(await chatted(proxy)).headers["x-aligner-bypass"] for _ in range(3)]

    assert asyncio.run(run()) == ["timeout", "timeout", "engine_down"]


def test_spans_tell_the_times_and_no_text(rules: str) -> None:
    """They belong to the caller's trace, and the upstream's will belong to them."""
    spans = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(spans))
    trace, caller = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"

    async def run() -> dict[str, str]:
        upstream = Upstream()
        async with serving(upstream) as upstream_url:
            config = ServeConfig(upstream=f"{upstream_url}/v1", aligner=rules)
            async with (
                opened(config, {}, open_traces(provider)) as app,
                serving(app) as url,
                aiohttp.ClientSession() as session,
            ):
                await ask(session, f"{url}/v1/chat/completions", chat(), traceparent=f"00-{trace}-{caller}-01")
                await ask(session, f"{url}/v1/chat/completions", chat(model="hang-up"))
            return dict(upstream.calls[0].asked.headers)

    onward = asyncio.run(run())["traceparent"]
    found = {span.name: span for span in spans.get_finished_spans()}
    whole = found["chat unchanged"]
    assert whole.parent is not None
    assert whole.context is not None
    assert (f"{whole.context.trace_id:032x}", f"{whole.parent.span_id:016x}") == (trace, caller)
    assert onward == f"00-{trace}-{whole.context.span_id:016x}-01"
    own = whole.context.span_id
    parts = [span.name for span in spans.get_finished_spans() if span.parent and span.parent.span_id == own]
    assert parts == ["upstream", "correct"]
    assert whole.attributes is not None
    assert whole.attributes["aligner.changed"] == (True,)
    assert found["chat hang-up"].status.status_code is StatusCode.ERROR
    told = "".join(span.to_json() for span in spans.get_finished_spans())
    assert "Which?" not in told
    assert PLAIN not in told


def test_each_request_has_a_line_where_the_operator_wants_one(tmp_path: Path) -> None:
    """In JSON, with its id, its mode and what became of it."""

    async def run() -> tuple[str, list[Any]]:
        async with serving(Upstream()) as url, running(url, tmp_path, log_level="info") as program:
            async with aiohttp.ClientSession() as session:
                answer = await ask(session, f"{program.url}/v1/chat/completions", chat())
            program.process.terminate()
            await program.ended()
            lines = program.said.splitlines()
            return answer.headers["x-aligner-id"], [orjson.loads(line) for line in lines if line.startswith("{")]

    number, lines = asyncio.run(run())
    (line,) = [line for line in lines if line.get("id") == number]
    assert (line["event"], line["level"], line["mode"], line["outcome"]) == ("answered", "info", "correct", "sent")


def test_what_was_begun_ends_with_an_error_when_its_time_is_over(tmp_path: Path) -> None:
    """SIGTERM, and an upstream that goes on for longer than the proxy waits."""
    event = {"id": "c", "choices": [{"index": 0, "delta": {"content": "a "}, "finish_reason": None}]}
    script = Script(headers=(("content-type", "text/event-stream"),), ending="stall")
    stalled = Upstream(always(script.writing([b"data: " + orjson.dumps(event) + b"\n\n"])))

    async def run() -> tuple[Got, float]:
        async with serving(stalled) as url, running(url, tmp_path, mode="off", drain="1") as program:
            async with aiohttp.ClientSession() as session:
                asking = asyncio.create_task(ask(session, f"{program.url}/v1/chat/completions", chat(stream=True)))
                await stalled.call()
                await asyncio.sleep(0.3)
                began = time.monotonic()
                program.process.terminate()
                answer = await asking
            assert await program.ended() == 0
            return answer, time.monotonic() - began

    answer, seconds = asyncio.run(run())
    assert b"shutting_down" in answer.body
    assert answer.body.endswith(b"data: [DONE]\n\n")
    assert seconds < 20


@pytest.mark.parametrize(
    ("fields", "problem"),
    [({"rate": -1.0}, "--rate"), ({"at_a_time": 0}, "--at-a-time"), ({"keys": Path("nowhere.txt")}, "nowhere.txt")],
)
def test_limits_that_are_none_are_refused(fields: dict[str, Any], problem: str) -> None:
    """Before anything starts."""
    with pytest.raises(MisuseError, match=problem):
        check(ServeConfig(upstream="http://127.0.0.1:1/v1", **fields), {})


def test_the_lines_hold_what_the_standard_loggers_are_told() -> None:
    """In a process of its own, since a process has one such setting."""
    program = (
        "import logging, sys; from aligner.serving.lines import send_lines; send_lines('warning', sys.stdout.buffer);"
        "logging.getLogger('aligner').warning('of %s', 'ours'); logging.getLogger('aligner').info('no')"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    (line,) = io.BytesIO(done.stdout).readlines()
    assert orjson.loads(line)["event"] == "of ours"
