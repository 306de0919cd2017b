"""Laws of the proxy, with real servers, a real engine and real clients."""

import asyncio
import os
import re
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import openai
import orjson
import pytest
from proxies import Got, Proxied, ask, proxied
from tiny import tiny_aligner

from aligner.config import ServeConfig
from aligner.correct import Aligner
from aligner.correcting.lm_writer import LMWriter
from aligner.errors import MisuseError
from aligner.records import Edit, apply_edits
from aligner.serve import check
from aligner.serving.door import new_id
from aligner.testing import CORPUS, Entry, Upstream, always, by_model
from aligner.testing.named import says
from aligner.testing.script import Script
from aligner.testing.texts import PLAIN

_HEARTBEAT = b": aligner\n\n"


def is_error(got: Got) -> bool:
    """Whether it is an error in OpenAI's shape, as a body or as the last event but [DONE]."""
    body = got.body.replace(_HEARTBEAT, b"")
    if got.status == 200:
        assert body.endswith(b"data: [DONE]\n\n")
        events = [orjson.loads(data) for data in re.findall(rb"data: (\{.*\"error\".*\})\n\n", body)]
        found = events[-1]["error"] if events else None
    else:
        found = orjson.loads(body)["error"]
    return found is not None and set(found) >= {"message", "type", "param", "code"}


async def each(entries: tuple[Entry, ...], law: Callable[[aiohttp.ClientSession, Entry], Awaitable[None]]) -> None:
    """The law for all entries, some at a time."""
    gate = asyncio.Semaphore(3)  # one loop serves all of them, and a busy machine must not make it miss a connection
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session, asyncio.TaskGroup() as group:

        async def one(entry: Entry) -> None:
            async with gate:
                try:
                    await law(session, entry)
                except BaseException as problem:
                    problem.add_note(entry.name)
                    raise

        for entry in entries:
            group.create_task(one(entry))


@pytest.mark.parametrize("mode", ["off", "shadow", "correct", "gate"])
def test_an_echo_aligner_leaves_every_byte_as_it_was(mode: str) -> None:
    """Heartbeats taken out; status and body are those of the upstream, for all kinds of requests."""
    same = tuple(entry for entry in CORPUS if entry.kind == "same")
    assert len(same) > 40

    async def run() -> None:
        async with proxied(mode=mode, gate=0.5 if mode == "gate" else None, heartbeat=0.2) as proxy:

            async def law(session: aiohttp.ClientSession, entry: Entry) -> None:
                direct = await ask(session, proxy.upstream_url + entry.path, entry.body)
                through = await ask(session, proxy.url + entry.path, entry.body)
                assert (through.status, through.body.replace(_HEARTBEAT, b"")) == (direct.status, direct.body)
                if direct.body:
                    assert through.headers["content-type"] == direct.headers["content-type"]

            await each(same, law)

    asyncio.run(run())


def test_what_must_be_an_error_is_one() -> None:
    """Truncated, stalled and senseless answers end in an error of OpenAI's shape, and no request hangs."""
    broken = tuple(entry for entry in CORPUS if entry.kind == "error")

    async def run() -> None:
        async with proxied(heartbeat=0.2, patience=0.5) as proxy:

            async def law(session: aiohttp.ClientSession, entry: Entry) -> None:
                async with asyncio.timeout(20):
                    got = await ask(session, proxy.url + entry.path, entry.body)
                assert is_error(got), got

            await each(broken, law)

    asyncio.run(run())


@pytest.fixture
def rules(tmp_path: Path) -> str:
    """An Aligner that corrects one word."""
    path = tmp_path / "rules.json"
    path.write_bytes(orjson.dumps([{"pattern": "Paris", "replace": "Lutetia"}]))
    return f"rules:{path}"


def answers_of(entry: Entry, got: Got) -> list[str]:
    """The text of each choice."""
    texts: dict[int, str] = {}
    bodies = [got.body] if not entry.streamed else re.findall(rb"data: (\{.*\})\n\n", got.body)
    for body in bodies:
        for choice in orjson.loads(body)["choices"]:
            said = choice.get("delta") or choice.get("message") or {"content": choice.get("text")}
            texts[choice["index"]] = texts.get(choice["index"], "") + (said.get("content") or "")
    return [texts[index] for index in sorted(texts)]


def test_a_correction_reaches_the_client_and_nothing_else_changes(rules: str) -> None:
    """In every choice, whole and streamed; all other fields stay."""
    names = {"chat-unchanged", "chat-unchanged-streamed", "chat-n2", "chat-n2-streamed", "text-unchanged-streamed"}
    names |= {"text-n2", "chat-plain-streamed-usage", "text-plain-streamed-usage", "chat-unknown-fields"}
    entries = tuple(entry for entry in CORPUS if entry.name in names)
    assert {entry.name for entry in entries} == names

    async def run() -> None:
        async with proxied(aligner=rules) as proxy:

            async def law(session: aiohttp.ClientSession, entry: Entry) -> None:
                direct = await ask(session, proxy.upstream_url + entry.path, entry.body)
                through = await ask(session, proxy.url + entry.path, entry.body)
                expected = [text.replace("Paris", "Lutetia") for text in answers_of(entry, direct)]
                assert answers_of(entry, through) == expected
                assert b"Lutetia" in through.body
                if not entry.streamed:
                    assert through.headers["x-aligner-changed"] == ",".join(
                        str(int("Lutetia" in text)) for text in expected
                    )
                    before, after = orjson.loads(direct.body), orjson.loads(through.body)
                    for completion in (before, after):
                        for choice in completion["choices"]:
                            choice.pop("text", None)
                            choice.get("message", {}).pop("content", None)
                    assert after == before

            await each(entries, law)

    asyncio.run(run())


@pytest.mark.parametrize("streamed", [False, True])
def test_the_openai_client_reads_corrected_answers(rules: str, streamed: bool) -> None:
    """Also through its accumulating stream."""

    async def run() -> tuple[str | None, str | None]:
        async with proxied(aligner=rules) as proxy:
            client = openai.AsyncOpenAI(base_url=f"{proxy.url}/v1", api_key="k")
            messages: Any = [{"role": "user", "content": "Which is the capital?"}]
            if not streamed:
                made = await client.chat.completions.create(model="unchanged", messages=messages)
            else:
                async with client.chat.completions.stream(model="unchanged", messages=messages) as events:
                    made = await events.get_final_completion()
            await client.close()
            return made.choices[0].message.content, made.choices[0].finish_reason

    assert asyncio.run(run()) == (PLAIN.replace("Paris", "Lutetia"), "stop")


def stalled(chunks: int) -> Upstream:
    """An upstream that says so much of an answer, and then no more."""
    script = Script(head=chunks > 0, ending="stall")
    if chunks > 0:
        event = {"id": "c", "choices": [{"index": 0, "delta": {"content": "a "}, "finish_reason": None}]}
        script = Script(headers=(("content-type", "text/event-stream"),), ending="stall").writing(
            [b"data: " + orjson.dumps(event) + b"\n\n"] * chunks
        )
    return Upstream(always(script))


@pytest.mark.parametrize(("chunks", "payload"), [(0, {}), (0, {"stream": True}), (3, {"stream": True})])
@pytest.mark.parametrize("mode", ["off", "shadow", "correct"])
def test_the_upstream_sees_within_a_second_that_the_client_has_gone(
    chunks: int, payload: dict[str, Any], mode: str
) -> None:
    """Before the first byte, and in the middle of a stream."""

    async def run() -> None:
        async with proxied(stalled(chunks), mode=mode, patience=60, heartbeat=60) as proxy:
            body = orjson.dumps({"model": "m", "messages": [{"role": "user", "content": "q"}], **payload})
            async with aiohttp.ClientSession() as session:
                asking = asyncio.create_task(ask(session, f"{proxy.url}/v1/chat/completions", body))
                call = await proxy.upstream.call()
                await asyncio.sleep(0.3)
                asking.cancel()
                await asyncio.wait([asking])
            async with asyncio.timeout(1):
                await call.over.wait()
            assert call.gone is not None

    asyncio.run(run())


def test_long_waits_are_filled_with_comments_that_clients_ignore() -> None:
    """And the status comes before the upstream has given one."""

    async def run(proxy: Proxied) -> Got:
        body = orjson.dumps({"model": "m", "messages": [{"role": "user", "content": "q"}], "stream": True})
        async with aiohttp.ClientSession() as session:
            return await ask(session, f"{proxy.url}/v1/chat/completions", body)

    async def all_of_it() -> Got:
        async with proxied(stalled(0), patience=1.0, heartbeat=0.1, open_after=0.2) as proxy:
            return await run(proxy)

    got = asyncio.run(all_of_it())
    assert got.status == 200
    assert got.body.count(_HEARTBEAT) >= 3
    assert b"upstream_timeout" in got.body
    assert is_error(got)


@pytest.mark.parametrize(("profile", "status"), [("helpful", 200), ("safety", 503)])
def test_a_failing_aligner_gives_the_original_or_an_error_as_its_profile_says(profile: str, status: int) -> None:
    """Here one for which nothing is fast enough; the client is told not to pay the upstream again."""

    async def run() -> tuple[Got, Got]:
        async with proxied(seconds=0.0, profile=profile) as proxy, aiohttp.ClientSession() as session:
            entry = next(entry for entry in CORPUS if entry.name == "chat-unchanged")
            through = await ask(session, proxy.url + entry.path, entry.body)
            return await ask(session, proxy.upstream_url + entry.path, entry.body), through

    direct, through = asyncio.run(run())
    assert through.status == status
    assert through.headers["x-aligner-bypass"] == "timeout"
    if status == 200:
        assert through.body == direct.body
    else:
        assert is_error(through)
        assert through.headers["x-should-retry"] == "false"


def test_a_correction_without_an_upstream(rules: str) -> None:
    """Question and answer in, correction out."""

    async def run(answer: str) -> dict[str, Any]:
        async with proxied(aligner=rules) as proxy, aiohttp.ClientSession() as session:
            body = orjson.dumps({"question": "Which?", "answer": answer})
            return orjson.loads((await ask(session, f"{proxy.url}/v1/aligner/correct", body)).body)

    found = asyncio.run(run("Paris it is."))
    assert (found["correction"], found["changed"]) == ("Lutetia it is.", True)
    thinking = asyncio.run(run(answer := "<think>Paris?</think>\n\nParis it is."))
    assert thinking["correction"] == "<think>Paris?</think>\n\nLutetia it is."  # what was thought is no answer
    assert apply_edits(answer, [Edit(*edit) for edit in thinking["edits"]]) == thinking["correction"]


def test_a_limit_of_the_clients_holds_for_the_correction(tmp_path: Path) -> None:
    """But never below the answer's own length, since its upstream counted in other tokens."""
    aligner, answer = str(tiny_aligner(tmp_path)), "No."
    asked = {"model": "no", "messages": [{"role": "user", "content": "Is it?"}], "aligner": {"report": True}}

    async def run() -> list[int]:
        written: list[int] = []
        async with (
            proxied(Upstream(by_model({"no": says(answer)})), aligner=aligner) as proxy,
            aiohttp.ClientSession() as session,
        ):
            for limit in ({}, {"max_tokens": 1}, {"max_completion_tokens": 10**6, "max_tokens": 1}):
                body = orjson.dumps({**asked, **limit})
                through = await ask(session, f"{proxy.url}/v1/chat/completions", body)
                written.append(orjson.loads(through.body)["aligner"]["usage"]["completion_tokens"])
        return written

    free, limited, generous = asyncio.run(run())
    writer = Aligner.from_pretrained(aligner).writer
    assert isinstance(writer, LMWriter)
    assert len(writer.codec.encode(answer)) + 1 == limited < free == generous


def test_the_head_of_another_route_is_the_upstreams() -> None:
    """Its length is told, and nothing follows it."""

    async def run() -> None:
        async with proxied() as proxy, aiohttp.ClientSession() as session:
            direct, through = [
                await ask(session, f"{url}/v1/models", b"", method="HEAD") for url in (proxy.upstream_url, proxy.url)
            ]
        assert through.status == direct.status
        assert through.headers["content-length"] == direct.headers["content-length"]
        assert through.body == b""

    asyncio.run(run())


@pytest.mark.parametrize("mode", ["shadow", "correct"])
@pytest.mark.parametrize("name", ["chat-n2", "chat-n2-streamed"])
def test_what_is_logged_is_what_was_sent(rules: str, tmp_path: Path, mode: str, name: str) -> None:
    """A row for each choice, found by the request's id, and feedback goes with it."""
    entry = next(entry for entry in CORPUS if entry.name == name)

    async def run() -> tuple[Got, list[Any], list[int]]:
        log = str(tmp_path / "log.db")
        async with (
            proxied(aligner=rules, mode=mode, log=log, log_content="full") as proxy,
            aiohttp.ClientSession() as session,
        ):
            got = await ask(session, proxy.url + entry.path, entry.body)
            number, rows = got.headers["x-aligner-id"], list[Any]()
            for one in (number, f"{number}.1"):
                async with asyncio.timeout(20):
                    row = await ask(session, f"{proxy.url}/v1/aligner/corrections/{one}", b"", method="GET")
                    while row.status == 404:  # the log is written when it is time
                        await asyncio.sleep(0.05)
                        row = await ask(session, f"{proxy.url}/v1/aligner/corrections/{one}", b"", method="GET")
                rows.append(orjson.loads(row.body))
            said = [{"id": number, "verdict": "accept"}, {"id": "none", "verdict": "accept"}, {"id": number}]
            url = f"{proxy.url}/v1/aligner/feedback"
            return got, rows, [(await ask(session, url, orjson.dumps(one))).status for one in said]

    got, rows, statuses = asyncio.run(run())
    sent = answers_of(entry, got)
    assert [row["correction"] for row in rows] == [text.replace("Paris", "Lutetia") for text in sent]
    assert [row["correction"] if mode == "correct" else row["answer"] for row in rows] == sent
    assert [row["mode"] for row in rows] == [mode] * 2
    assert statuses == [200, 404, 400]


def test_figures_are_told_without_any_text(rules: str) -> None:
    """Requests by their end, and choices by what became of them."""

    async def run() -> str:
        async with proxied(aligner=rules) as proxy, aiohttp.ClientSession() as session:
            for name in ("chat-n2", "chat-tools", "chat-error-500", "chat-truncated-streamed"):
                entry = next(entry for entry in CORPUS if entry.name == name)
                await ask(session, proxy.url + entry.path, entry.body)
            while True:  # a request is counted when its client has its answer
                told = (await ask(session, f"{proxy.url}/metrics", b"", method="GET")).body.decode()
                if 'aligner_requests_total{mode="correct",outcome="sent",route="chat"} 4.0' in told:
                    return told

    told = asyncio.run(run())
    assert 'aligner_corrections_total{reason="",result="changed"} 2.0' in told
    assert 'aligner_corrections_total{reason="tool_calls",result="skipped"} 1.0' in told
    assert "Paris" not in told


def test_a_key_of_ours_lets_in_who_has_it_and_goes_no_further() -> None:
    """Neither a wrong key nor one that is not ASCII passes, and the upstream sees only its own."""
    environ = {"ALIGNER_API_KEY": "ours", "ALIGNER_UPSTREAM_KEY": "theirs"}

    async def run() -> tuple[list[int], list[str]]:
        async with proxied(environ=environ) as proxy, aiohttp.ClientSession() as session:
            entry = next(entry for entry in CORPUS if entry.name == "chat-unchanged")
            statuses = [
                (await ask(session, proxy.url + entry.path, entry.body, authorization=f"Bearer {key}")).status
                for key in ("ours", "other", "öurs", "")
            ]
            return statuses, [call.asked.headers.get("authorization", "") for call in proxy.upstream.calls]

    assert asyncio.run(run()) == ([200, 401, 401, 401], ["Bearer theirs"])


def test_a_request_chooses_its_mode_where_the_operator_allows_it(rules: str) -> None:
    """By header or by a field that the upstream never sees."""

    async def run() -> list[tuple[int, bool]]:
        async with proxied(aligner=rules, allow=("off",)) as proxy, aiohttp.ClientSession() as session:
            entry = next(entry for entry in CORPUS if entry.name == "chat-unchanged")
            url, field = proxy.url + entry.path, orjson.dumps({**entry.payload, "aligner": {"mode": "off"}})
            found = [
                await ask(session, url, entry.body),
                await ask(session, url, entry.body, x_aligner_mode="off"),
                await ask(session, url, field),
                await ask(session, url, entry.body, x_aligner_mode="shadow"),
            ]
            assert not any(b"aligner" in call.asked.body for call in proxy.upstream.calls)
            return [(got.status, b"Lutetia" in got.body) for got in found]

    assert asyncio.run(run()) == [(200, True), (200, False), (200, False), (400, False)]


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"upstream": "localhost:8000"}, "https://host/v1"),
        ({"upstream": "http://user:secret@host/v1"}, "keys come from the environment"),
        ({"gate": 0.5}, "mode gate"),
        ({"mode": "gate", "gate": 1.5}, "probability"),
        ({"profile": "safety", "allow": ("off",)}, "uncorrected"),
        ({"host": "192.0.2.1"}, "ALIGNER_API_KEY"),
    ],
)
def test_contradictions_are_refused_before_anything_starts(fields: dict[str, Any], problem: str) -> None:
    """In one line that names the cure, and holds no secret."""
    given: dict[str, Any] = {"upstream": "http://127.0.0.1:1/v1", **fields}
    with pytest.raises(MisuseError, match=problem) as raised:
        check(ServeConfig(**given), {})
    assert "secret" not in str(raised.value)


def test_bodies_that_cannot_be_used_are_refused_in_openais_shape() -> None:
    """Too large ones before they are read."""

    async def run() -> list[tuple[int, bool]]:
        async with proxied(largest_body=1000) as proxy, aiohttp.ClientSession() as session:
            bodies = [b"{", b"[]", b'{"model":"m"}', b'{"messages":{}}', b'{"messages":[],"stream":1}', b" " * 2000]
            bodies.append(b'{"messages":[],"aligner":5}')
            got = [await ask(session, f"{proxy.url}/v1/chat/completions", body) for body in bodies]
            got.append(await ask(session, f"{proxy.url}/nowhere", b"", method="GET"))
            assert not proxy.upstream.calls
            assert all(one.headers["x-request-id"] for one in got)
            return [(one.status, is_error(one)) for one in got]

    assert asyncio.run(run()) == [(status, True) for status in (400, 400, 400, 400, 400, 413, 400, 404)]


@pytest.fixture
def program(rules: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """`aligner serve` as a program of its own, before an upstream of its own, and where it listens."""
    upstream = [sys.executable, "-m", "aligner.testing", "--port", "0"]
    with subprocess.Popen(upstream, stdout=subprocess.PIPE, text=True) as behind:
        assert behind.stdout is not None
        url = behind.stdout.readline().split()[-1]
        serve = [sys.executable, "-m", "aligner", "serve", "--upstream", f"{url}/v1", "--port", "0", "--aligner", rules]
        with subprocess.Popen(serve, stderr=subprocess.PIPE, text=True) as proxy:
            assert proxy.stderr is not None
            said = proxy.stderr.readline()
            yield proxy, said.split()[2]
            proxy.kill()
        behind.kill()


def test_the_command_serves_until_it_is_told_to_end_and_finishes_what_was_begun(
    program: tuple[subprocess.Popen[str], str],
) -> None:
    """SIGTERM in the middle of a stream: the answer comes to its end, and the exit code is 0."""
    proxy, base = program

    async def run() -> Got:
        entry = next(entry for entry in CORPUS if entry.name == "chat-unchanged-streamed")
        body = orjson.dumps({**entry.payload, "model": "unchanged@40"})
        async with aiohttp.ClientSession() as session:
            asking = asyncio.create_task(ask(session, f"{base}/chat/completions", body))
            await asyncio.sleep(0.3)
            proxy.send_signal(signal.SIGTERM)
            return await asking

    got = asyncio.run(run())
    assert b"Lutetia" in got.body
    assert got.body.endswith(b"data: [DONE]\n\n")
    assert proxy.wait(timeout=60) == 0


@pytest.mark.parametrize(
    ("flags", "line"),
    [
        (["--aligner", "nowhere:"], "aligner: unknown kind of Aligner"),
        (["--host", "203.0.113.1"], "aligner: cannot listen on 203.0.113.1:0"),
    ],
)
def test_what_cannot_start_says_why_in_one_line(flags: list[str], line: str) -> None:
    """An Aligner that is none, an address that is not ours."""
    command = [sys.executable, "-m", "aligner", "serve", "--upstream", "http://127.0.0.1:1/v1", "--port", "0", *flags]
    environ = {**os.environ, "ALIGNER_API_KEY": "k"}
    done = subprocess.run(command, capture_output=True, text=True, env=environ, timeout=120)
    assert done.stderr.startswith(line)
    assert done.stderr.count("\n") == 1
    assert done.returncode == 2


def test_ids_are_in_the_order_of_their_making() -> None:
    """Version 7 of UUIDs, to the millisecond."""
    ids = [new_id() for _ in range(1000)]
    assert sorted(ids, key=lambda value: value[:13]) == ids
    assert len(set(ids)) == 1000
    assert all(re.fullmatch(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}", i) for i in ids)
