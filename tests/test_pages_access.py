"""Laws of the pages for all people: by keyboard, on a phone, in light and dark, with a screen reader."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import axe
import orjson
import pytest
from browser import SIZES, Watched, watched
from proxies import Proxied, proxied

from aligner.testing import Upstream, by_model
from aligner.testing.named import says
from aligner.testing.texts import OTHER, PARAGRAPHS, PLAIN

MODELS = {"plain": says(PLAIN), "other": says(OTHER), "eggs": says(PARAGRAPHS)}
SHOWN = {
    "/playground": "#send:enabled",
    "/review": "#details .verdict",
    "/shadow": ".checklist",
    "/live": "#totals .figure",
}
"""each page, and what is there once it has all that it asked for"""


@pytest.fixture
def rules(tmp_path: Path) -> str:
    """An Aligner that corrects one word."""
    path = tmp_path / "rules.json"
    path.write_bytes(orjson.dumps([{"pattern": "Paris", "replace": "Lutetia"}]))
    return f"rules:{path}"


@asynccontextmanager
async def filled(folder: Path, rules: str) -> AsyncGenerator[Proxied, None]:
    """A proxy with a log, in which two reviewers have judged."""
    log: dict[str, Any] = {"log": str(folder / "log.db"), "log_content": "full", "allow": ("shadow",)}
    async with proxied(Upstream(by_model(MODELS)), aligner=rules, **log) as proxy:
        async with aiohttp.ClientSession(proxy.url) as session:
            for number in range(6):
                model = list(MODELS)[number % 3]
                body = {"model": model, "messages": [{"role": "user", "content": f"Question {number}: {PLAIN}"}]}
                mode = "shadow" if number % 2 else "correct"
                await session.post("/v1/chat/completions", json=body, headers={"x-aligner-mode": mode})
            rows = await logged(session, 6)
            for row, verdicts in zip(rows, ("aa", "ar", "a", "b"), strict=False):
                for user, verdict in zip(("ada", "grace"), verdicts, strict=False):
                    said = {"a": "accept", "r": "reject", "b": "both_bad"}[verdict]
                    await session.post(
                        "/v1/aligner/feedback",
                        json={"id": row["id"], "verdict": said, "user": user, "tags": ["honest"], "comment": "So."},
                    )
        yield proxy


async def logged(session: aiohttp.ClientSession, count: int) -> list[dict[str, Any]]:
    """The rows of the log, once there are so many."""
    async with asyncio.timeout(20):
        while True:
            async with session.get("/v1/aligner/corrections") as response:
                rows = (await response.json())["rows"]
            if len(rows) >= count:
                return rows
            await asyncio.sleep(0.05)


async def shown(seen: Watched, path: str, size: str) -> None:
    """A page with all that belongs to it."""
    page = seen.page
    await seen.open(path)
    if path == "/review" and size == "phone":
        await page.locator("#rows .title").first.click()
    await page.locator(SHOWN[path]).first.wait_for()
    if path == "/playground":
        await page.fill("#question", "Which?")
        await page.keyboard.press("Enter")
        await page.locator(".verdict").wait_for()
    for summary in await page.locator("summary:visible").all():
        await summary.click()


@pytest.mark.parametrize(
    ("size", "scheme"),
    [
        ("desktop", "light"),
        ("phone", "dark"),
        pytest.param("desktop", "dark", marks=pytest.mark.slow),
        pytest.param("phone", "light", marks=pytest.mark.slow),
    ],
)
def test_no_page_keeps_anybody_out(tmp_path: Path, rules: str, size: str, scheme: str) -> None:
    """axe-core finds nothing serious, and nothing is wider than the window, nor than that of the smallest phone."""
    script = axe.source()
    width, height = SIZES[size]

    async def check() -> None:
        async with filled(tmp_path, rules) as proxy, watched(proxy.url, size, scheme) as seen:
            for path in SHOWN:
                await shown(seen, path, size)
                assert not await axe.violations(seen.page, script), path
                assert await seen.fits(), path
                await seen.page.set_viewport_size({"width": 360, "height": 640})
                assert await seen.fits(), f"{path} at 360"
                await seen.page.set_viewport_size({"width": width, "height": height})
        async with proxied(environ={"ALIGNER_API_KEY": "a key"}) as proxy, watched(proxy.url, size, scheme) as seen:
            await seen.open("/login")
            assert not await axe.violations(seen.page, script)
            assert await seen.fits()

    asyncio.run(check())


def test_the_keyboard_alone_is_enough(tmp_path: Path, rules: str) -> None:
    """Ask, judge, take back and edit; find it in the queue, judge many and take that back; focus is always seen."""

    async def walk() -> None:
        async with filled(tmp_path, rules) as proxy, watched(proxy.url) as seen:
            page, press = seen.page, seen.page.keyboard.press
            await seen.open("/playground")
            await page.locator("#send:enabled").wait_for()
            await press("Tab")
            assert await page.evaluate("document.activeElement.className") == "skip"
            await press("Enter")
            await press("/")
            await page.keyboard.type("Which capital?")
            await press("Enter")
            await page.locator(".verdict").wait_for()
            await press("Escape")
            await press("a")
            await page.get_by_text("Noted: accepted").first.wait_for()
            await press("u")
            await page.get_by_text("Taken back").first.wait_for()
            await press("e")
            await page.keyboard.type("My own words.")
            await press("Control+Enter")
            await page.get_by_text("Noted: edited").first.wait_for()
            assert await page.evaluate(FOCUS_IS_SEEN)

            await seen.open("/review")
            await page.locator("#details .verdict").wait_for()
            await page.locator("#details").get_by_text("My own words.").first.wait_for()
            for key in ("j", "j", "x", "j", "x"):
                await press(key)
                await page.wait_for_timeout(100)
            assert await page.locator("#picked").inner_text() == "2 selected"
            await page.locator("#bulk-verdicts button").first.focus()
            await press("Enter")
            await page.get_by_text("2 corrections accepted").first.wait_for()
            await press("u")
            await page.get_by_text("Taken back").first.wait_for()
            await press("/")
            await page.keyboard.type("no such words anywhere")
            await press("Enter")
            await page.get_by_text("Nothing fits these filters").wait_for()

    asyncio.run(walk())


FOCUS_IS_SEEN = """() => {
  const focused = document.activeElement;
  return focused !== document.body && getComputedStyle(focused).outlineStyle !== "none";
}"""
