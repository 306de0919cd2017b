"""Laws of the live page: its figures are those of the metrics, and it rests while nobody looks."""

import asyncio
from pathlib import Path
from typing import Any

import aiohttp
import orjson
from browser import watched
from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.parser import text_string_to_metric_families
from proxies import proxied

from aligner.testing import Upstream, by_model
from aligner.testing.named import says
from aligner.testing.texts import COMBINING, PLAIN

READ = """async ([before, after, shares]) => {
  const { Reading, quantile } = await import("/static/prometheus.js");
  const [from, to] = [new Reading(before, 0), new Reading(after, 5)];
  return [to.samples, shares.map((q) => quantile(q, from, to, "seconds"))];
}"""
ODD = 'a "quoted" \\ name\nof two lines, {with="labels"} 1.5'


def test_the_page_reads_metrics_as_prometheus_does() -> None:
    """Samples and labels are those of Prometheus' own parser; a quantile lies in the bucket that holds it."""
    registry = CollectorRegistry()
    counter = Counter("requests", "Requests.", ["of"], registry=registry)
    histogram = Histogram("seconds", "Times.", buckets=(0.1, 1, 10), registry=registry)
    counter.labels(ODD).inc(3)
    histogram.observe(0.05)
    before = generate_latest(registry).decode()
    for seconds in (0.5, 0.6, 0.7, 5.0):
        histogram.observe(seconds)
    after = generate_latest(registry).decode()
    families = text_string_to_metric_families(after)
    wanted = [sample for family in families for sample in family.samples]

    async def read() -> Any:
        async with proxied() as proxy, watched(proxy.url) as seen:
            await seen.open("/live")
            return await seen.page.evaluate(READ, [before, after, [0.5, 0.9]])

    samples, (half, most) = asyncio.run(read())
    assert [(each["name"], each["labels"], each["value"]) for each in samples] == [
        (sample.name, sample.labels, sample.value) for sample in wanted
    ]
    assert 0.1 < half < 1 < most < 10


def test_the_live_page_counts_what_came_and_rests_when_told_to(tmp_path: Path) -> None:
    """Totals follow the proxy's; a page that is paused asks for nothing."""
    rules = tmp_path / "rules.json"
    rules.write_bytes(orjson.dumps([{"pattern": "Paris", "replace": "Lutetia"}]))
    upstream = Upstream(by_model({"plain": says(PLAIN), "other": says(COMBINING)}))

    async def walk() -> None:
        async with (
            proxied(upstream, aligner=f"rules:{rules}") as proxy,
            aiohttp.ClientSession(proxy.url) as session,
            watched(proxy.url) as seen,
        ):

            async def chat(model: str) -> None:
                body = {"model": model, "messages": [{"role": "user", "content": "Which?"}]}
                (await session.post("/v1/chat/completions", json=body)).release()

            page, asked = seen.page, list[str]()
            page.on("request", lambda request: asked.append(request.url))
            await page.clock.install()
            for model in ("plain", "other", "other", "plain"):
                await chat(model)
            await seen.open("/live")
            await page.get_by_text("2 of 4 answers read").wait_for()
            await chat("plain")
            await page.clock.run_for(5_000)
            await page.get_by_text("3 of 5 answers read").wait_for()
            await page.get_by_text("As a table").first.click()
            assert await page.locator("figure").first.locator("tbody tr").count() == 2
            await page.get_by_role("button", name="Pause").click()
            count = len(asked)
            await page.clock.run_for(60_000)
            assert len(asked) == count
            await page.get_by_role("button", name="Pause").click()
            await page.wait_for_function("document.querySelectorAll('figure tbody tr').length > 2")

    asyncio.run(walk())
