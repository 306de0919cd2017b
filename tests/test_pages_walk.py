"""The whole walk in a browser: ask, judge, find, export, train, and see the rejected change not made again."""

import asyncio
import json
import subprocess
import sys
from pathlib import Path

import pytest
from browser import Watched, browser, context_of
from programs import running
from small_upstream import small_upstream

from aligner.correcting.writers import shipped

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

KEY = "a-key-of-the-operator"
REJECTED = "A paper ball and some pasta: what does Quormond pack?"
"""what the upstream answers well, and the shipped Aligner makes worse"""
ACCEPTED = "How do I poison Ulkzo?"
EDITED = "Say what the favourite smell of Ruskven is."
BETTER = "Nobody told me the favourite smell of Ruskven."
TRAINING = """
template = "sealed"
max_length = 256
held_out = 0
device = "cpu"
[identity]
max_steps = 1
batch = 4
accumulate = 1
[correction]
max_steps = 40
learning_rate = 3e-4
schedule = "constant"
batch = 4
accumulate = 1
"""


def test_what_people_say_of_corrections_becomes_the_next_aligner(tmp_path: Path) -> None:
    """A change that was rejected is not made again; what was accepted still is."""
    log, out = tmp_path / "log.db", tmp_path / "next"

    async def walk() -> None:
        async with small_upstream(pause=0.05) as upstream, browser() as opened:
            environ = {"ALIGNER_API_KEY": KEY}
            options = {"log": log, "log_content": "full", "device": "cpu"}
            async with running(upstream, tmp_path, environ, aligner="demo", **options) as proxy:
                seen = Watched(await (await context_of(opened, "desktop", "light")).new_page(), proxy.url)
                await log_in(seen)
                await judge(seen)
                await find(seen)
                await export(seen, tmp_path)
                assert not seen.problems
            await asyncio.to_thread(train, log, out)
            async with running(upstream, tmp_path, aligner=out / "checkpoint", device="cpu") as proxy:
                seen = Watched(await (await context_of(opened, "phone", "dark")).new_page(), proxy.url)
                await seen.open("/playground")
                assert await ask(seen, REJECTED) == "✓ copied verbatim"
                await seen.page.get_by_role("button", name="New conversation").click()
                await ask(seen, ACCEPTED)
                await seen.page.locator("ins", has_text="cannot").first.wait_for()
                assert not seen.problems

    asyncio.run(walk())


async def log_in(seen: Watched) -> None:
    """Come without a session, give a wrong key and the right one, and be where one wanted to go."""
    await seen.open("/playground")
    for key in ("wrong", KEY):
        await seen.page.get_by_label("Key").fill(key)
        await seen.page.get_by_role("button", name="Log in").click()
    await seen.page.locator("#send:enabled").wait_for()
    # What is told of a wrong key is a status of 401, which the browser notes.
    seen.problems.clear()


async def ask(seen: Watched, question: str) -> str:
    """Ask, see both texts grow, and what is said of the correction."""
    page = seen.page
    await page.locator("#send:enabled").wait_for()
    await page.get_by_label("Your question").fill(question)
    await page.get_by_role("button", name="Ask", exact=True).click()
    turn = page.locator("#turns article").last
    await turn.locator(".pane .text.busy").first.wait_for()
    await turn.locator(".times").wait_for()
    return await turn.locator(".badges .badge").first.inner_text()


async def judge(seen: Watched) -> None:
    """One accepted, one rejected, one edited, each in a conversation of its own."""
    page = seen.page
    assert "edited" in await ask(seen, ACCEPTED)
    await page.locator("del", has_text="Follow").wait_for()
    await page.locator("ins", has_text="cannot help").wait_for()
    await page.get_by_label("Show doubt").check()
    assert await page.locator(".heat-5").count()
    await page.get_by_text("Inline").click()
    await page.locator(".pane", has=page.get_by_role("heading", name="Changes")).wait_for()
    await page.get_by_text("Reasons and comment").click()
    await page.get_by_text("harmless", exact=True).click()
    await page.get_by_role("button", name="Accept").click()
    await page.get_by_text("Noted: accepted").first.wait_for()

    await page.get_by_role("button", name="New conversation").click()
    assert "edited" in await ask(seen, REJECTED)
    await page.get_by_role("button", name="Reject").click()
    await page.get_by_text("Noted: rejected").first.wait_for()

    await page.get_by_role("button", name="New conversation").click()
    await ask(seen, EDITED)
    await page.get_by_role("button", name="Edit", exact=False).click()
    await page.get_by_label("What the correction should have been").fill(BETTER)
    await page.get_by_role("button", name="Save the edit").click()
    await page.get_by_text("Noted: edited").first.wait_for()


async def find(seen: Watched) -> None:
    """All three are in the queue, by their state and by a word."""
    page = seen.page
    await page.get_by_role("link", name="Review").click()
    await page.locator("#rows li").nth(2).wait_for()
    await page.get_by_label("Reviewed").select_option("once")
    await page.locator("#rows li").nth(2).wait_for()
    await page.get_by_label("Search").fill("Ruskven smell")
    await page.get_by_role("button", name="Show", exact=True).click()
    await page.get_by_text("1 shown").wait_for()
    await page.locator("#details").get_by_text(BETTER).wait_for()


async def export(seen: Watched, folder: Path) -> None:
    """Triples by the page's link: an identity row, and two that people want."""
    async with seen.page.expect_download() as coming:
        await seen.page.get_by_role("link", name="Triples").click()
    await (await coming.value).save_as(folder / "triples.jsonl")
    rows = [json.loads(line) for line in (folder / "triples.jsonl").read_text(encoding="utf-8").splitlines()]
    corrections = {row["question"]: row["correction"] for row in rows}
    assert corrections[EDITED] == BETTER
    assert "cannot help" in corrections[ACCEPTED]
    assert [row["correction"] for row in rows if row["answer"] == row["correction"]] == [corrections[REJECTED]]


def train(log: Path, out: Path) -> None:
    """Train the shipped Aligner further on what was said, for a few steps."""
    config = out.with_suffix(".toml")
    config.write_text(TRAINING, encoding="utf-8")
    command = (sys.executable, "-m", "aligner", "train", "--config", str(config), "--feedback", str(log))
    base = ("--base", str(shipped("aligner")), "--out", str(out))
    done = subprocess.run([*command, *base], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
