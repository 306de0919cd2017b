"""Laws of how the pages show text: all of it, exactly, and nothing of it acts."""

import asyncio
import re
from contextlib import AsyncExitStack
from importlib.resources import files
from pathlib import Path
from typing import Any

import orjson
import pytest
from browser import Watched, browser, context_of, watched
from hypothesis import given, settings
from hypothesis import strategies as st
from proxies import proxied

from aligner.scoring.edits import edits_between
from aligner.testing import Upstream, by_model
from aligner.testing.named import says, sends

STATIC = files("aligner.serving").joinpath("static")
TEMPLATES = files("aligner.serving").joinpath("templates")
ACTS = (
    r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|createContextualFragment|setHTML|DOMParser|srcdoc",
    r"\beval\b|new Function|setTimeout\(\s*[\"'`]|javascript:",
    r"\.style\b|\.cssText|\.href\s*=|\.src\s*=|location\s*=|location\.(assign|replace)",
    r"https?://(?!www\.w3\.org/2000/svg)",
)
"""what could make a text act, or load something from elsewhere"""
HOSTILE = (
    '</div></script><script>window.acted = 1; alert(1)</script><img src=x onerror="alert(2)">'
    "<a href='javascript:alert(3)'>Paris</a> <svg/onload=alert(4)> {{7*7}} ${7*7} {% raw %} <%= 7*7 %> &lt;b&gt; &#60;"
    "<style>*{display:none}</style><iframe srcdoc='<script>parent.acted = 1</script>'></iframe>"
    "<meta http-equiv=refresh content='0;url=http://example.com/'><base href='http://example.com/'>\n"
    "\x00\x07\x08\x0b\x1b[31m\x7f\x85 \u200e\u200f\u202eevil\u202c \u2066\u2069 \u2028 \ufeff \U000e0041 \u00ad"
    " שלום עולם مرحبا 👩‍🔬 e\u0301\n\n\t<b>bold</b> "
)
"""whatever an answer could hold to do more than be read"""
LONG = (HOSTILE + "x" * 500 + " Paris and so on. ") * (100_000 // (len(HOSTILE) + 518) + 1)
HIDDEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u00ad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff"
    "\ufff9-\ufffb\U000e0000-\U000e0fff\ud800-\udfff]"
)
WITHOUT_MARKS = """element => {
  const copy = element.cloneNode(true);
  for (const mark of copy.querySelectorAll(".mark, .unseen")) mark.remove();
  return copy.textContent;
}"""
NAME = "<img src=x onerror=alert(5)>\u202e"


def visible(text: str) -> str:
    """What the pages show of a text."""

    def picture(match: re.Match[str]) -> str:
        code = ord(match[0])
        return chr(0x2400 + code) if code < 0x20 else "␡" if code == 0x7F else f"⟦U+{code:04X}⟧"

    return HIDDEN.sub(picture, text)


def test_no_script_of_ours_can_make_a_text_act() -> None:
    """None of them writes HTML, evaluates, sets a style or an address, or names another server; nor do templates."""
    sources = {entry.name: entry.read_text(encoding="utf-8") for entry in (*STATIC.iterdir(), *TEMPLATES.iterdir())}
    assert {"dom.js", "base.html", "base.css"} <= set(sources)
    for name, source in sources.items():
        for pattern in ACTS if name.endswith(".js") else ACTS[-1:]:
            assert not re.findall(pattern, source), f"{name}: {pattern}"
    for name in (name for name in sources if name.endswith(".html") and name != "shadow_report.html"):
        assert not re.findall(r"\sstyle=|\son\w+=|<style|<script(?![^>]*\ssrc=)|\|\s*safe", sources[name]), name


def test_diffs_and_heat_maps_lose_no_character() -> None:
    """What is kept and removed is the answer, what is kept and added the correction, for any text; so are its words."""
    letters = st.characters(exclude_categories=["Cs"]) | st.sampled_from(" \n\t👩\u200d🔬é\u202e\x00a.")
    with asyncio.Runner() as runner:
        stack = AsyncExitStack()
        page = runner.run(opened(stack))

        @settings(max_examples=20)
        @given(st.lists(st.tuples(st.text(letters), st.text(letters)), min_size=10, max_size=40))
        def law(pairs: list[tuple[str, str]]) -> None:
            edited = [(answer, text, [list(e) for e in edits_between(answer, text)]) for answer, text in pairs]
            for (answer, text, _), drawn in zip(edited, runner.run(page.evaluate(DRAWN, edited)), strict=True):
                assert "".join(part["text"] for part in drawn["parts"] if part["kind"] != "ins") == answer
                assert "".join(part["text"] for part in drawn["parts"] if part["kind"] != "del") == text
                assert "".join(word["text"] for word in drawn["words"]) == answer
                assert drawn["shown"] == visible(answer)

        law()
        runner.run(stack.aclose())


async def opened(stack: AsyncExitStack) -> Any:
    """A page that may load our modules."""
    proxy = await stack.enter_async_context(proxied())
    seen = await stack.enter_async_context(watched(proxy.url))
    await seen.open("/login")
    return seen.page


DRAWN = """async (edited) => {
  const [{ parts }, { words }, { shown }] = await Promise.all(
    ["diff", "heat", "text"].map((name) => import(`/static/${name}.js`)),
  );
  return edited.map(([answer, , edits]) => (
    { parts: parts(answer, edits), words: words(answer, [[0, 1, 0.5]]), shown: shown(answer) }
  ));
}"""


@pytest.fixture
def rules(tmp_path: Path) -> str:
    """An Aligner that corrects one word."""
    path = tmp_path / "rules.json"
    path.write_bytes(orjson.dumps([{"pattern": "Paris", "replace": "Lutetia"}]))
    return f"rules:{path}"


def in_pieces(text: str) -> Any:
    """A script whose choice says a long text in long pieces."""
    return sends({"content": text}, [{"content": text[at : at + 700]} for at in range(0, len(text), 700)])


async def asked(seen: Watched, question: str, model: str) -> list[str]:
    """Original and correction as the playground shows them, of an answer that was judged by hostile words."""
    page = seen.page
    await page.locator("#send:enabled").wait_for()
    await page.fill("#model", model)
    await page.fill("#question", question)
    await page.keyboard.press("Enter")
    turn = page.locator("#turns article:last-child")
    await turn.locator(".verdict").wait_for()
    await turn.locator(".verdict summary").click()
    await turn.get_by_label("Comment").fill(HOSTILE)
    await turn.get_by_role("button", name="Reject").click()
    await page.locator(".toast").wait_for()
    return [await pane.evaluate(WITHOUT_MARKS) for pane in await turn.locator(".pane > .text").all()]


def test_a_hostile_answer_is_shown_as_text_and_runs_nothing(tmp_path: Path, rules: str) -> None:
    """In the playground, by a shared link, in the queue, its details and the report; with 100,000 characters, too."""
    upstream = Upstream(by_model({NAME: says(HOSTILE), "long": in_pieces(LONG)}))
    log: dict[str, Any] = {"log": str(tmp_path / "log.db"), "log_content": "full"}
    answers = [(visible(text), visible(text.replace("Paris", "Lutetia"))) for text in (HOSTILE, LONG)]

    async def walk() -> None:
        async with proxied(upstream, aligner=rules, **log) as proxy, browser() as opened:
            context = await context_of(opened, "desktop", "light")
            seen = Watched(await context.new_page(), proxy.url)
            page = seen.page
            await seen.open("/playground")
            for model, (answer, correction) in zip((NAME, "long"), answers, strict=True):
                assert await asked(seen, HOSTILE, model) == [answer, correction]
            await page.evaluate("navigator.clipboard.writeText = async () => {}")
            await page.get_by_role("button", name="Copy as link").last.click()
            await page.get_by_text("The link copied").wait_for()
            assert await seen.fits()

            await page.goto(page.url.replace("/playground", "/playground?again"))
            panes = page.locator("#turns article .pane > .text")
            await panes.nth(3).wait_for()
            shown = [await pane.evaluate(WITHOUT_MARKS) for pane in await panes.all()]
            assert shown == [text for pair in answers for text in pair]
            assert not [call for call in upstream.calls if "c=" in call.asked.query]

            await seen.open("/review?sort=oldest")
            await page.locator("#details .verdict").wait_for()
            details = [
                await pane.evaluate(WITHOUT_MARKS) for pane in await page.locator("#details .pane > .text").all()
            ]
            assert tuple(details) == answers[0]
            assert await page.locator("#details .text.muted").inner_text() == visible(HOSTILE).strip()
            assert await seen.fits()

            await seen.open("/shadow")
            await page.get_by_label("Mode").select_option("correct")
            await page.get_by_role("button", name="Show").click()
            await page.locator(".samples ins").first.wait_for()
            assert await seen.fits()
            for broken in ("#c=AAAA", "#c=" + "A" * 10_000, "#c=%00"):
                await page.goto(f"{proxy.url}/playground{broken}")
            assert await page.evaluate("window.acted") is None
            assert not seen.problems, seen.problems

    asyncio.run(walk())
