"""Laws of the playground and of who may do what on the pages."""

import asyncio
import subprocess
import sys
from pathlib import Path
from typing import Any

import orjson
import pytest
from browser import Watched, browser, context_of, watched
from playwright.async_api import Route
from proxies import proxied

from aligner.config import NamedAligner
from aligner.serving.keys import line_of
from aligner.testing import Upstream, by_model
from aligner.testing.named import says
from aligner.testing.texts import PLAIN

MODELS = {"plain": says(PLAIN), "cut": says(PLAIN, finish_reason="length"), "slow": says(PLAIN)}


@pytest.fixture
def rules(tmp_path: Path) -> str:
    """An Aligner that corrects one word."""
    path = tmp_path / "rules.json"
    path.write_bytes(orjson.dumps([{"pattern": "Paris", "replace": "Lutetia"}]))
    return f"rules:{path}"


async def ask(seen: Watched, question: str, model: str = "plain") -> Any:
    """Ask, and wait for what comes of it; gives the turn."""
    page = seen.page
    await page.locator("#send:enabled").wait_for()
    await page.get_by_label("Model").fill(model)
    await page.get_by_label("Your question").fill(question)
    await page.get_by_role("button", name="Ask", exact=True).click()
    return page.locator("#turns article").last


def test_the_next_turn_goes_on_with_the_answer_that_stands(tmp_path: Path, rules: str) -> None:
    """The correction, or after a reject the original, or an edit that stands again; another Aligner may take over."""
    upstream = Upstream(by_model(MODELS))

    async def walk() -> None:
        log: dict[str, Any] = {"log": str(tmp_path / "log.db"), "log_content": "full"}
        others = (NamedAligner(name="copy", aligner="echo:"),)
        async with proxied(upstream, aligner=rules, aligners=others, **log) as proxy, watched(proxy.url) as seen:
            page = seen.page
            await seen.open("/playground")
            await page.get_by_text("More settings").click()
            await page.get_by_label("System message").fill("Be brief.")
            turn = await ask(seen, "One?")
            await turn.locator(".verdict").wait_for()
            turn = await ask(seen, "Two?")
            await turn.locator(".verdict").wait_for()
            await turn.get_by_role("button", name="Reject").click()
            await page.get_by_text("Noted: rejected").first.wait_for()
            turn = await ask(seen, "Three?")
            await turn.locator(".verdict").wait_for()
            await turn.get_by_role("button", name="Edit").click()
            await turn.get_by_label("What the correction should have been").fill("Mine.")
            await turn.get_by_role("button", name="Save the edit").click()
            await page.get_by_text("Noted: edited").first.wait_for()
            await turn.get_by_role("button", name="Accept").click()
            await page.get_by_text("Noted: accepted").first.wait_for()
            await page.get_by_role("button", name="Undo").click()
            await page.get_by_text("Taken back").first.wait_for()
            await page.get_by_label("Aligner").select_option("copy")
            turn = await ask(seen, "Four?")
            await turn.get_by_text("copied verbatim").wait_for()

    asyncio.run(walk())
    turns = [turn["content"] for turn in upstream.calls[-1].asked.payload["messages"]]
    corrected = PLAIN.replace("Paris", "Lutetia")
    assert turns == ["Be brief.", "One?", corrected, "Two?", PLAIN, "Three?", "Mine.", "Four?"]


def test_stop_leaves_the_upstream_and_errors_say_what_helps(rules: str) -> None:
    """Nobody pays for what nobody waits for; a failure shows its reason, and asking again is one press."""
    upstream = Upstream(by_model(MODELS))

    async def walk() -> None:
        async with proxied(upstream, aligner=rules) as proxy, watched(proxy.url) as seen:
            page = seen.page
            await seen.open("/playground")
            turn = await ask(seen, "Which?", "slow@20")
            await turn.get_by_text("The capital").wait_for()
            await page.get_by_role("button", name="Stop").click()
            await turn.get_by_text("stopped").wait_for()
            async with asyncio.timeout(10):
                await upstream.calls[-1].over.wait()
            assert upstream.calls[-1].gone is not None

            turn = await ask(seen, "Which?", "no-such-model")
            await turn.get_by_role("alert").get_by_text("does not exist").wait_for()
            assert await page.get_by_label("Your question").input_value() == "Which?"
            await page.get_by_label("Model").fill("cut")
            await turn.get_by_role("button", name="Try again").click()
            await page.get_by_text("the answer was cut off at the upstream's limit").first.wait_for()
            # What was told of the unknown model is a status, which the browser notes.
            seen.problems[:] = [problem for problem in seen.problems if "404" not in problem]

    asyncio.run(walk())


def test_what_is_copied_runs(tmp_path: Path, rules: str) -> None:
    """The curl command and the Python program give the correction that the page shows; no key stands in them."""
    question = "Which city's \"capital\"? $HOME `id` \\ ' \u202e\x1b\n\U000e0041 é 🎉"

    async def walk() -> list[str]:
        copied = list[str]()
        async with proxied(Upstream(by_model(MODELS)), aligner=rules) as proxy, browser() as opened:
            context = await context_of(opened, "desktop", "light")
            await context.grant_permissions(["clipboard-read", "clipboard-write"])
            seen = Watched(await context.new_page(), proxy.url)
            await seen.open("/playground")
            turn = await ask(seen, question)
            for name in ("curl", "Python"):
                await turn.get_by_role("button", name=f"Copy as {name}").click()
                await seen.page.get_by_text("copied").last.wait_for()
                copied.append(await seen.page.evaluate("navigator.clipboard.readText()"))
            assert not seen.problems
            return [
                await asyncio.to_thread(ran, command) for command in zip(("sh", sys.executable), copied, strict=True)
            ]

    def ran(command: tuple[str, str]) -> str:
        program, text = command
        assert text.isprintable() or all(sign.isprintable() or sign == "\n" for sign in text)
        assert "ALIGNER_API_KEY" in text
        path = tmp_path / "copied"
        path.write_text(text, encoding="utf-8")
        return subprocess.run([program, str(path)], capture_output=True, text=True, timeout=60, check=True).stdout

    by_curl, by_python = asyncio.run(walk())
    corrected = PLAIN.replace("Paris", "Lutetia")
    assert orjson.loads(by_curl)["choices"][0]["message"]["content"] == corrected
    assert by_python == f"{corrected}\n"


def test_each_role_sees_what_it_may_do(tmp_path: Path, rules: str) -> None:
    """A viewer judges what is its own, a reviewer all, an operator exports; a client gets no pages."""
    keys = tmp_path / "keys.txt"
    keys.write_text(
        "".join(line_of(name, f"{name}-key", name) for name in ("client", "viewer", "reviewer", "operator")),  # pyright: ignore[reportArgumentType]
        encoding="utf-8",
    )
    log: dict[str, Any] = {"log": str(tmp_path / "log.db"), "log_content": "full", "keys": keys}

    async def walk() -> None:
        async with proxied(Upstream(by_model(MODELS)), aligner=rules, **log) as proxy, watched(proxy.url) as seen:
            page = seen.page
            for name, judges, exports in (("viewer", 0, 0), ("reviewer", 1, 0), ("operator", 1, 1)):
                await seen.open("/playground")
                await page.get_by_label("Key").fill("client-key")
                await page.get_by_role("button", name="Log in").click()
                await page.get_by_role("alert").get_by_text("for the API alone").wait_for()
                await page.get_by_label("Key").fill(f"{name}-key")
                await page.get_by_role("button", name="Log in").click()
                turn = await ask(seen, "Which?")
                await turn.get_by_role("button", name="Accept").click()
                await page.get_by_text("Noted: accepted").first.wait_for()
                await seen.open("/review")
                await page.get_by_text(f"{name}, {name}").wait_for()
                await page.locator("#details .question").wait_for()
                assert await page.locator("#details .verdict").count() == judges
                assert await page.locator("#bulk:visible").count() == judges
                assert await page.get_by_role("link", name="Triples").count() == exports
                assert not await page.get_by_label("Your name").is_visible()
                await page.get_by_role("button", name="Log out").click()
                await page.get_by_label("Key").wait_for()
            seen.problems[:] = [problem for problem in seen.problems if "403" not in problem]

    asyncio.run(walk())


def test_who_has_a_key_gives_no_other_name(tmp_path: Path, rules: str) -> None:
    """A name from before there were keys makes no second reviewer; a page older than its session says what helps."""
    keys = tmp_path / "keys.txt"
    keys.write_text(line_of("ada", "ada-key", "reviewer"), encoding="utf-8")
    log: dict[str, Any] = {"log": str(tmp_path / "log.db"), "log_content": "full", "keys": keys}
    given = list[Any]()

    async def grown_old(route: Route) -> None:
        given.append(route.request.post_data_json)
        stale = {"x-csrf-token": "old"} if len(given) > 1 else {}
        await route.continue_(headers={**route.request.headers, **stale})

    async def walk() -> None:
        async with proxied(Upstream(by_model(MODELS)), aligner=rules, **log) as proxy, watched(proxy.url) as seen:
            page = seen.page
            await page.add_init_script("localStorage.setItem('aligner.user', 'Ada L.')")
            await page.route("**/v1/aligner/feedback", grown_old)
            await seen.open("/playground")
            await page.get_by_label("Key").fill("ada-key")
            await page.get_by_role("button", name="Log in").click()
            turn = await ask(seen, "Which?")
            await turn.get_by_role("button", name="Accept").click()
            await page.get_by_text("Noted: accepted").first.wait_for()
            await turn.get_by_role("button", name="Reject").click()
            await turn.get_by_role("alert").get_by_text("older than the session: reload it").wait_for()
            seen.problems[:] = [problem for problem in seen.problems if "403" not in problem]

    asyncio.run(walk())
    assert [(each["verdict"], each.get("user")) for each in given] == [("accept", None), ("reject", None)]


def test_a_page_of_the_queue_is_shown_once(tmp_path: Path, rules: str) -> None:
    """However often the next is asked for while it comes."""
    log: dict[str, Any] = {"log": str(tmp_path / "log.db"), "log_content": "full"}

    async def one_by_one(route: Route) -> None:
        await route.continue_(url=route.request.url.replace("limit=50", "limit=1"))

    async def walk() -> None:
        async with proxied(Upstream(by_model(MODELS)), aligner=rules, **log) as proxy, watched(proxy.url) as seen:
            page = seen.page
            await seen.open("/playground")
            for question in ("One?", "Two?", "Three?"):
                turn = await ask(seen, question)
                await turn.locator(".verdict").wait_for()
            await page.route("**/v1/aligner/corrections?*", one_by_one)
            await seen.open("/review")
            await page.locator("#details .verdict").wait_for()
            await page.get_by_role("button", name="Show more").evaluate("button => [1, 2, 3].map(() => button.click())")
            await page.get_by_text("2 shown, and there are more", exact=True).wait_for()
            await page.get_by_role("button", name="Show more").click()
            await page.get_by_text("3 shown", exact=True).wait_for()
            assert await page.locator("#rows .title").all_inner_texts() == ["Three?", "Two?", "One?"]

    asyncio.run(walk())
