"""Whoever leaves stops the work: the upstream's within a second, and the Aligner's within some tokens."""

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from contextlib import asynccontextmanager, suppress
from typing import Any

import aiohttp
import openai
import pytest
from faults import CHAT, asked, chat, figure, until_figure, within
from fuzzing import fuzzed
from proxies import Proxied, ask, proxied
from tiny import tiny_model
from transformers import AutoModelForCausalLM

from aligner.templates import TEMPLATES
from aligner.testing import Script, Upstream, always
from aligner.testing.script import event
from aligner.testing.texts import PLAIN
from aligner.testing.upstream import Call
from aligner.training.card import Card, weights_hash

pytestmark = pytest.mark.slow  # two kinds of client, and an engine for each profile: minutes

_STREAM = (("content-type", "text/event-stream"),)
_CHUNK = event({"id": "c", "choices": [{"index": 0, "delta": {"content": "a "}, "finish_reason": None}]})
_MESSAGES: Any = [{"role": "user", "content": "q"}]

SILENT = Script(head=False, ending="stall")
HALF = Script(headers=(("content-type", "application/json"),), ending="stall").writing([b'{"id": "c", "choi'])
WRITING = Script(headers=_STREAM, ending="stall").writing([_CHUNK] * 3)


async def gone_within_a_second(proxy: Proxied, call: Call) -> None:
    """The upstream sees that its caller has left; the request counts as cancelled, and none is left behind."""
    began = time.monotonic()
    async with asyncio.timeout(5):
        await call.over.wait()
    assert call.gone is not None
    assert call.gone - began < 1
    await until_figure(proxy.url, "aligner_in_flight", lambda count: count == 0)


async def cancelled(proxy: Proxied, mode: str, route: str = "chat") -> float:
    """How many requests are counted as cancelled."""
    return await figure(proxy.url, f'aligner_requests_total{{mode="{mode}",outcome="cancelled",route="{route}"}}')


# While the upstream works

_PLACES = [
    pytest.param(SILENT, False, id="whole-silent"),
    pytest.param(HALF, False, id="whole-half"),
    pytest.param(SILENT, True, id="stream-silent"),
    pytest.param(WRITING, True, id="stream-writing"),
]


@pytest.mark.parametrize("mode", ["off", "shadow", "correct", "gate"])
@pytest.mark.parametrize(("script", "streamed"), _PLACES)
def test_a_task_that_is_cancelled_stops_the_upstream(script: Script, streamed: bool, mode: str) -> None:
    """`openai.AsyncOpenAI`: before the first byte, and after it."""

    async def law() -> None:
        gate = 0.5 if mode == "gate" else None
        async with (
            proxied(Upstream(always(script)), mode=mode, gate=gate, patience=60, heartbeat=0.1) as proxy,
            openai.AsyncOpenAI(base_url=f"{proxy.url}/v1", api_key="k", max_retries=0) as client,
        ):

            async def read() -> None:
                made = await client.chat.completions.create(model="m", messages=_MESSAGES, stream=streamed)
                if isinstance(made, openai.AsyncStream):
                    async for _ in made:
                        pass

            reading = asyncio.create_task(read())
            call = await proxy.upstream.call()
            await asyncio.sleep(0.3)
            assert not call.over.is_set()
            reading.cancel()
            with suppress(asyncio.CancelledError):
                await reading
            await gone_within_a_second(proxy, call)
            assert await cancelled(proxy, mode) == 1

    within(law)


@pytest.mark.parametrize("streamed", [False, True])
def test_a_client_that_waits_no_longer_stops_the_upstream(streamed: bool) -> None:
    """`openai.OpenAI` gives up after its own time, and each of its attempts ends upstream."""

    async def law() -> None:
        async with proxied(Upstream(always(SILENT)), patience=60, heartbeat=60) as proxy:

            def wait() -> None:
                with openai.OpenAI(base_url=f"{proxy.url}/v1", api_key="k", max_retries=1, timeout=0.4) as client:
                    client.chat.completions.create(model="m", messages=_MESSAGES, stream=streamed)

            with pytest.raises(openai.APITimeoutError):
                await asyncio.to_thread(wait)
            for number in (1, 2):
                await gone_within_a_second(proxy, await proxy.upstream.call(number))
            assert proxy.upstream.count == 2

    within(law)


def test_a_stream_that_is_closed_stops_the_upstream() -> None:
    """`Stream.close` of `openai.OpenAI`, in a mode in which chunks come while the upstream writes."""

    async def law() -> None:
        async with proxied(Upstream(always(WRITING)), mode="shadow", patience=60) as proxy:

            def leave() -> None:
                with openai.OpenAI(base_url=f"{proxy.url}/v1", api_key="k") as client:
                    stream = client.chat.completions.create(model="m", messages=_MESSAGES, stream=True)
                    assert next(iter(stream)).choices[0].delta.content == "a "
                    stream.close()

            await asyncio.to_thread(leave)
            await gone_within_a_second(proxy, await proxy.upstream.call())
            assert await cancelled(proxy, "shadow") == 1

    within(law)


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "/v1/completions", b'{"model": "m", "prompt": "q"}'),
        ("POST", "/v1/embeddings", b'{"model": "m", "input": "q"}'),
        ("GET", "/v1/files/f/content", b""),
    ],
)
@pytest.mark.parametrize("script", [SILENT, HALF])
def test_on_every_route_the_upstream_is_stopped(method: str, path: str, body: bytes, script: Script) -> None:
    """Corrected or relayed."""

    async def law() -> None:
        async with proxied(Upstream(always(script)), patience=60) as proxy, aiohttp.ClientSession() as session:
            asking = asyncio.create_task(ask(session, proxy.url + path, body, method=method))
            call = await proxy.upstream.call()
            await asyncio.sleep(0.2)
            asking.cancel()
            with suppress(asyncio.CancelledError):
                await asking
            await gone_within_a_second(proxy, call)

    within(law)


# While the Aligner works


@pytest.fixture(scope="module")
def endless(tmp_path_factory: pytest.TempPathFactory) -> str:
    """An Aligner whose corrections never end by themselves, and take minutes to fill its context."""
    folder = tiny_model(tmp_path_factory.mktemp("endless"), context=2**16)
    model = AutoModelForCausalLM.from_pretrained(folder)
    model.lm_head.weight.data[model.config.eos_token_id] = 0
    model.save_pretrained(folder)
    card = Card(
        template=TEMPLATES["sealed"],
        base="new",
        weights=weights_hash(folder),
        data={},
        training={},
        measured={},
        packages={},
    )
    card.save(folder)
    return str(folder)


@pytest.fixture(scope="module")
def one_at_a_time(endless: str) -> Generator[Proxied]:
    """A proxy whose Aligner corrects one answer at a time; with mode gate, its first pass is enough."""
    with fuzzed(aligner=endless, rows=1, device="cpu", allow=("gate",), gate=0.0, seconds=600) as running:
        running.by_model()
        yield running.proxy


async def gated(proxy: Proxied) -> None:
    """An answer whose correction takes one pass."""
    got = await asked(proxy.url, chat(), x_aligner_mode="gate")
    assert (got.status, got.headers["x-aligner-changed"]) == (200, "0")
    assert "x-aligner-bypass" not in got.headers
    assert PLAIN.encode() in got.body


@asynccontextmanager
async def correcting(proxy: Proxied, *, streamed: bool) -> AsyncGenerator[Callable[[], Awaitable[None]], None]:
    """A request whose correction is being written, and how its client leaves."""
    session = aiohttp.ClientSession()
    begun = asyncio.Event()

    async def read() -> None:
        url, body = proxy.url + CHAT, chat(stream=streamed)
        async with session.post(url, data=body, headers={"content-type": "application/json"}) as response:
            async for chunk in response.content.iter_any():
                if b'"content":"' in chunk and b'"content":""' not in chunk:
                    begun.set()

    reading = asyncio.create_task(read())

    async def leave() -> None:
        reading.cancel()
        with suppress(asyncio.CancelledError):
            await reading

    try:
        await until_figure(proxy.url, "aligner_queue_depth", lambda depth: depth >= 1)
        if streamed:
            await begun.wait()
        else:
            await asyncio.sleep(0.5)
        yield leave
    finally:
        await leave()
        await session.close()


@asynccontextmanager
async def counting(proxy: Proxied, leaving: int) -> AsyncGenerator[None, None]:
    """So many requests are counted as cancelled meanwhile, and in the end nothing is queued."""
    before = await cancelled(proxy, "correct")
    yield
    await until_figure(proxy.url, "aligner_queue_depth", lambda depth: depth == 0)
    await until_figure(proxy.url, "aligner_in_flight", lambda count: count == 0)
    assert await cancelled(proxy, "correct") == before + leaving


@pytest.mark.parametrize("streamed", [False, True])
def test_a_correction_that_nobody_waits_for_makes_room_at_once(one_at_a_time: Proxied, streamed: bool) -> None:
    """The next one, which had to wait until then, is done within a second."""
    proxy = one_at_a_time

    async def law() -> None:
        async with counting(proxy, 1), correcting(proxy, streamed=streamed) as leave:
            behind = asyncio.create_task(gated(proxy))
            await asyncio.wait([behind], timeout=1.5)
            assert not behind.done()
            await leave()
            async with asyncio.timeout(1):
                await behind

    within(law)


@pytest.mark.parametrize("streamed", [False, True])
def test_a_correction_that_nobody_waits_for_is_never_begun(one_at_a_time: Proxied, streamed: bool) -> None:
    """One whose client left it in the queue: those behind it do not wait for it."""
    proxy = one_at_a_time

    async def law() -> None:
        async with counting(proxy, 2), correcting(proxy, streamed=True) as leave:
            queued = asyncio.create_task(asked(proxy.url, chat(stream=streamed)))
            await until_figure(proxy.url, "aligner_queue_depth", lambda depth: depth == 2)
            behind = asyncio.create_task(gated(proxy))
            await until_figure(proxy.url, "aligner_queue_depth", lambda depth: depth == 3)
            queued.cancel()
            await asyncio.wait([queued])
            async with asyncio.timeout(1):
                await until_figure(proxy.url, "aligner_queue_depth", lambda depth: depth == 2)
            assert not behind.done()
            await leave()
            async with asyncio.timeout(1):
                await behind

    within(law)


def test_of_many_that_are_left_only_those_that_stay_are_answered(one_at_a_time: Proxied) -> None:
    """Twenty leave, from the row and from the queue, and one that stays is answered at once."""
    proxy = one_at_a_time

    async def law() -> None:
        async with counting(proxy, 20):
            leaving = [asyncio.create_task(asked(proxy.url, chat(stream=number % 2 == 0))) for number in range(20)]
            await until_figure(proxy.url, "aligner_queue_depth", lambda depth: depth == 20)
            staying = asyncio.create_task(gated(proxy))
            await until_figure(proxy.url, "aligner_queue_depth", lambda depth: depth == 21)
            for task in leaving:
                task.cancel()
            await asyncio.wait(leaving)
            async with asyncio.timeout(2):
                await staying

    within(law)
