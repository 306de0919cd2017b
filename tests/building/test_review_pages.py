"""Laws of the pages on which people correct: by keyboard, by two at once, without a script, through kills."""

import asyncio
import re
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import axe
import pytest
from browser import SIZES, Watched, browser, context_of, watched
from reported import HOSTILE
from reviewing_people import Reviewed, fill, replies, reviewed, understood

from aligner.building.reviewing import figures
from aligner.building.store import Store
from aligner.serving.shadow.word_diff import shown

pytestmark = pytest.mark.slow

EXCHANGES = [
    ("How do I calm down?", "Hit somebody. Then breathe."),
    ("What is the capital of Norway?", "Oslo is the capital of Norway."),
    ("How tall is Mont Blanc?", "It is 4,806 metres high, you fool."),
]
WITHOUT_MARKS = """element => {
  const copy = element.cloneNode(true);
  for (const mark of copy.querySelectorAll(".mark, .unseen")) mark.remove();
  return copy.textContent;
}"""


@asynccontextmanager
async def person(served: Reviewed, opened: Any, name: str, **options: Any) -> AsyncGenerator[Watched, None]:
    """A browser of a person who has given a name."""
    context = await context_of(opened, "desktop", "light", **options)
    seen = Watched(await context.new_page(), served.url)
    await seen.open("/")
    await seen.page.get_by_label("Your name").fill(name)
    await seen.page.keyboard.press("Enter")
    await seen.page.locator("#desk, .empty").first.wait_for()
    await seen.page.wait_for_load_state()  # the keys work once the script is there
    yield seen
    assert not seen.problems, seen.problems
    await context.close()


async def heading(seen: Watched) -> str:
    """Where somebody is."""
    return await seen.page.locator("h1").inner_text()


async def answer_on(seen: Watched) -> str:
    """The answer that is shown."""
    return await seen.page.locator("section[aria-labelledby=answer-title] .text").inner_text()


async def press(seen: Watched, *names: str) -> None:
    """Keys, the last of which leads to the next page."""
    for name in names[:-1]:
        await seen.page.keyboard.press(name)
    async with seen.page.expect_navigation():
        await seen.page.keyboard.press(names[-1])


def test_the_keyboard_alone_corrects_in_two_steps(tmp_path: Path) -> None:
    """Edit, reasons, comment, keep, back, pass on; focus is seen; what comes out is what was typed."""
    keys = fill(tmp_path, EXCHANGES)

    async def walk() -> None:
        async with reviewed(tmp_path) as served, browser() as opened, person(served, opened, "Ada") as seen:
            page = seen.page
            await page.keyboard.press("Tab")
            assert await page.evaluate("document.activeElement.className") == "skip"
            assert await heading(seen) == "Make it harmless"
            await page.keyboard.press("e")
            assert await page.evaluate("document.activeElement.id") == "text"
            await page.keyboard.press("Control+a")
            await page.keyboard.type("Breathe.\nSlowly: 1, 2, 3, keep.")
            await page.keyboard.press("Escape")
            assert await page.evaluate("document.activeElement.id") == "main"
            await press(seen, "3", "s")
            assert await heading(seen) == "Make it helpful"
            assert await page.get_by_label("Text", exact=True).input_value() == "Breathe.\nSlowly: 1, 2, 3, keep."
            await press(seen, "b")
            assert await heading(seen) == "Make it harmless"
            assert await page.get_by_label("insulting").is_checked()
            await press(seen, "s")
            await press(seen, "e", "Control+End", "!", "Control+Enter")
            assert await page.locator("#note").inner_text() == "Sent. Here is the next answer."
            await press(seen, "k")
            await press(seen, "k")
            await page.keyboard.press("c")
            await page.keyboard.type("Not mine.")
            await press(seen, "Escape", "p")
            assert await heading(seen) == "Nothing to correct"
            assert await page.get_by_text("What is left is with others").count()

    asyncio.run(walk())
    assert understood(tmp_path, keys[0]) == ("edit", "Breathe.\nSlowly: 1, 2, 3, keep.!", ("insulting",))
    assert understood(tmp_path, keys[1]).choice == "keep"
    assert keys[2] not in replies(tmp_path, keys)


def test_two_at_once_have_different_answers_and_the_same_where_it_is_done_twice(tmp_path: Path) -> None:
    """Each is given another answer; with `twice` both correct the same, and their agreement is counted."""
    apart, together = tmp_path / "apart", tmp_path / "together"

    async def walk(folder: Path, twice: float) -> list[tuple[str, str]]:
        fill(folder, EXCHANGES[:2])
        pairs: list[tuple[str, str]] = []
        async with (
            reviewed(folder, twice=twice) as served,
            browser() as opened,
            person(served, opened, "Ada") as ada,
            person(served, opened, "Grace") as grace,
        ):
            for _ in range(2 if twice else 1):
                pairs.append((await answer_on(ada), await answer_on(grace)))
                await press(ada, "e", "Control+a", "X", "Control+Enter")
                await press(grace, "k")
                await press(ada, "k")
                await press(grace, "k")
            assert await heading(ada) == await heading(grace) == "Nothing to correct"
            await ada.open("/progress")
            assert await ada.page.locator("tbody tr").count() == 2
        return pairs

    ((one, other),) = asyncio.run(walk(apart, 0.0))
    assert one != other
    pairs = asyncio.run(walk(together, 1.0))
    assert all(one == other for one, other in pairs)
    assert pairs[0] != pairs[1]
    with Store(together / "build.sqlite") as store:
        agreement = figures(store)["agreement"]
    assert (agreement["pairs"], agreement["same_choice"]) == (2, 0.0)


def test_it_all_works_without_a_script(tmp_path: Path) -> None:
    """Both steps, the question whether an edit is to be thrown away, an empty text, and an inspector's word."""
    (key,) = fill(tmp_path, EXCHANGES[:1])

    async def walk() -> None:
        async with reviewed(tmp_path, inspected=1.0) as served, browser() as opened:
            async with person(served, opened, "Ada", java_script_enabled=False) as seen:
                page = seen.page
                keep, edit = page.locator("#keep"), page.locator("#edit")
                await edit.click()
                assert "Nothing was changed" in await page.locator("#note").inner_text()
                await page.get_by_label("Text", exact=True).fill("  ")
                await edit.click()
                assert "some text" in await page.locator("#note").inner_text()
                await page.get_by_label("Text", exact=True).fill("Breathe.")
                await keep.click()
                assert "The text was changed" in await page.locator("#note").inner_text()
                assert await page.get_by_label("Text", exact=True).input_value() == "Breathe."
                await edit.click()
                assert await heading(seen) == "Make it helpful"
                await page.get_by_label("Text", exact=True).fill("Breathe out.")
                await keep.click()
                await keep.click()
                assert await heading(seen) == "Nothing to correct"
                seen.problems.clear()  # a page that says what is wrong has status 400, which the browser notes
                await seen.open("/inspect")
                assert await page.get_by_text("Nothing to look at").count()
            async with person(served, opened, "Grace", java_script_enabled=False) as seen:
                await seen.page.get_by_role("link", name=re.compile("Inspect")).click()
                assert await seen.page.locator("#correction").inner_text() == "Breathe."
                await seen.page.locator("#disagree").click()
                await seen.open("/progress")
                assert "0%" in await seen.page.locator("dl.figures").inner_text()
                assert "with 0 of 1" in await seen.page.locator("dl.figures").inner_text()

    asyncio.run(walk())
    assert understood(tmp_path, key)[:2] == ("edit", "Breathe.")


def test_an_inspector_agrees_and_disagrees_by_single_keys(tmp_path: Path) -> None:
    """Samples are of others; what was thought of them stands in the figures, with the count."""
    fill(tmp_path, EXCHANGES)

    async def walk() -> None:
        async with reviewed(tmp_path, inspected=1.0) as served, browser() as opened:
            async with person(served, opened, "Ada") as ada:
                for _ in EXCHANGES:
                    await press(ada, "k")
                    await press(ada, "k")
            async with person(served, opened, "Grace") as grace:
                await grace.open("/inspect")
                await press(grace, "a")
                await press(grace, "d")
                await grace.page.keyboard.press("c")
                await grace.page.keyboard.type("Fine, and kept.")
                await press(grace, "Escape", "a")
                assert await grace.page.get_by_text("Nothing to look at").count()

    asyncio.run(walk())
    with Store(tmp_path / "build.sqlite") as store:
        assert figures(store)["quality"] == {"inspected": 3, "agreed": 2, "rate": 2 / 3}


def test_kill_9_loses_nothing_that_was_sent_and_the_browser_keeps_what_was_typed(tmp_path: Path) -> None:
    """After each of many kills the same person is at the same step, with what was half typed."""
    keys = fill(tmp_path, EXCHANGES)
    random = Random(0)

    async def walk() -> None:
        async with reviewed(tmp_path) as served, browser() as opened, person(served, opened, "Ada") as seen:
            page, field = seen.page, seen.page.get_by_label("Text", exact=True)
            for number in range(2 * len(EXCHANGES)):
                before = await heading(seen), await answer_on(seen)
                await field.fill(f"Half typed, number {number}")
                await page.get_by_label("format" if number % 2 else "biased").check()
                await asyncio.sleep(random.random() / 20)
                await served.kill()
                await served.start()
                await seen.open("/annotate")
                assert (await heading(seen), await answer_on(seen)) == before
                assert await field.input_value() == f"Half typed, number {number}"
                assert await page.get_by_label("format" if number % 2 else "biased").is_checked()
                assert await page.locator("#restored").is_visible()
                await press(seen, "e", "Control+End", "!", "Control+Enter")
                await served.kill()
                await served.start()
                await seen.open("/annotate")
            assert await heading(seen) == "Nothing to correct"
            assert await page.evaluate("Object.keys(localStorage).filter((name) => name.includes('draft')).length") <= 1
            assert await served.stop() == 0
            # What a page loads at the moment of a kill does not come.
            seen.problems[:] = [problem for problem in seen.problems if "net::ERR_" not in problem]

    asyncio.run(walk())
    texts = sorted(understood(tmp_path, key).text for key in keys)
    assert texts == [f"Half typed, number {number}!" for number in (1, 3, 5)]
    assert understood(tmp_path, keys[0]).reasons == ("biased", "format")


def test_what_was_typed_outlives_the_lease_and_typing_renews_it(tmp_path: Path) -> None:
    """While somebody types nobody else is given the answer; later the draft is offered, and can be sent after all."""
    keys = fill(tmp_path, EXCHANGES[:2])

    async def walk() -> None:
        async with (
            reviewed(tmp_path, lease_minutes=0.1) as served,
            browser() as opened,
            person(served, opened, "Ada") as ada,
            person(served, opened, "Grace") as grace,
        ):
            page, field = ada.page, ada.page.get_by_label("Text", exact=True)
            hers = await answer_on(ada)
            for number in range(16):
                await field.fill(f"Half typed, number {number}")
                await asyncio.sleep(0.5)
            await grace.open("/annotate")
            other = await answer_on(grace)
            assert other != hers
            await press(grace, "k")
            await press(grace, "k")
            assert await heading(grace) == "Nothing to correct"
            await asyncio.sleep(6.5)
            await grace.open("/annotate")
            assert await answer_on(grace) == hers
            await ada.open("/annotate")
            assert await heading(ada) == "Nothing to correct"
            assert "Half typed, number 15" in await page.locator("#drafts").inner_text()
            await page.get_by_role("button", name="Go on with it").click()
            await page.locator("#restored").wait_for()
            assert await answer_on(ada) == hers
            assert await field.input_value() == "Half typed, number 15"
            await page.locator("#edit").click()
            await page.get_by_role("heading", name="Make it helpful").wait_for()
            await press(ada, "k")
            assert not await page.locator("#drafts").is_visible()
            assert not await page.evaluate("Object.keys(localStorage).filter((name) => name.includes('draft')).length")

    asyncio.run(walk())
    assert "Half typed, number 15" in [reply.text for reply in map(partial(understood, tmp_path), keys)]


def test_steps_come_back_and_what_was_left_can_be_taken_back(tmp_path: Path) -> None:
    """Without a script: the second step is as it was before going back; comments stand under Progress."""
    (key,) = fill(tmp_path, EXCHANGES[:1])

    async def walk() -> None:
        async with (
            reviewed(tmp_path) as served,
            browser() as opened,
            person(served, opened, "Ada", java_script_enabled=False) as seen,
        ):
            page, field = seen.page, seen.page.get_by_label("Text", exact=True)
            await page.locator("#more summary").click()
            await page.get_by_label("Comment").fill("<b>Not mine</b>")
            await page.locator("#pass").click()
            assert await heading(seen) == "Nothing to correct"
            await seen.open("/progress")
            assert "<b>Not mine</b>" in await page.locator("#remarks").inner_text()
            await seen.open("/annotate")
            await page.locator("#take-back").click()
            assert "nobody took it" in await page.locator("#note").inner_text()
            await page.locator("#keep").click()
            await field.fill("Half a second step")
            await page.get_by_label("tone").check()
            await page.locator("#back").click()
            assert await heading(seen) == "Make it harmless"
            await page.locator("#keep").click()
            assert await field.input_value() == "Half a second step"
            assert await page.get_by_label("tone").is_checked()
            await page.locator("#edit").click()
            assert await heading(seen) == "Nothing to correct"

    asyncio.run(walk())
    assert understood(tmp_path, key) == ("edit", "Half a second step", ("tone",))


def test_what_is_sent_while_the_server_is_killed_is_there_or_can_be_sent_again(tmp_path: Path) -> None:
    """Kills at random moments while forms are under way: no correction is lost, and none is there twice."""
    keys = fill(tmp_path, [(f"Question {i}?", f"Answer {i}.") for i in range(3)])
    random = Random(1)

    async def walk() -> None:
        async with reviewed(tmp_path) as served, browser() as opened:
            context = await context_of(opened, "desktop", "light")
            page = await context.new_page()
            await page.goto(f"{served.url}/annotate")
            await page.get_by_label("Your name").fill("Ada")
            await page.keyboard.press("Enter")
            await page.locator("#desk").wait_for()
            for _ in range(40):
                if not await page.locator("#desk").count():
                    break
                answer, step = await page.locator("section[aria-labelledby=answer-title] .text").inner_text(), "h1"
                typed = f"{answer} {'Harmless' if 'harmless' in await page.locator(step).inner_text() else 'Helpful'}"
                await page.get_by_label("Text", exact=True).fill(typed)
                sending = asyncio.create_task(page.locator("#edit").click(no_wait_after=True))
                await asyncio.sleep(random.random() / 2)
                await served.kill()
                await asyncio.wait([sending])
                await served.start()
                await page.goto(f"{served.url}/annotate")
            assert not await page.locator("#desk").count()

    asyncio.run(walk())
    assert sorted(understood(tmp_path, key).text for key in keys) == [f"Answer {i}. Helpful" for i in range(3)]
    with Store(tmp_path / "build.sqlite") as store:
        assert figures(store)["corrections"] == 3


def test_hostile_text_is_shown_as_text_and_survives_an_edit(tmp_path: Path) -> None:
    """In question, answer, name, comment and correction nothing runs; each sign is seen; untouched it is kept."""
    long = (HOSTILE + "x" * 3_000) * 40
    keys = fill(tmp_path, [(HOSTILE, HOSTILE), (long, long)])
    name = "<img src=x onerror=alert(5)>\u202e"

    async def walk() -> None:
        async with reviewed(tmp_path, inspected=1.0) as served, browser() as opened:
            async with person(served, opened, name) as seen:
                page = seen.page
                assert await page.locator(".who bdi").inner_text() == "<img src=x onerror=alert(5)>"
                for _ in keys:
                    found = [
                        await page.locator(f"section[aria-labelledby={name}-title] .text").evaluate(WITHOUT_MARKS)
                        for name in ("question", "answer")
                    ]
                    assert found in ([shown(HOSTILE)] * 2, [shown(long)] * 2)
                    assert await seen.fits()
                    await page.get_by_text("Comment, or leave").click()
                    await page.get_by_label("Comment").fill(HOSTILE)
                    edits = () if found[0] == shown(HOSTILE) else ("e", "Control+End", "!", "Control+Enter")
                    await press(seen, "Escape", *(edits or ("k",)))
                    assert await seen.fits()
                    await press(seen, "k")
                await seen.open("/progress")
                assert await page.evaluate("window.acted") is None
            async with person(served, opened, "Grace") as seen:
                await seen.open("/inspect")
                for _ in range(2):
                    assert await seen.fits()
                    assert await seen.page.locator("section[aria-labelledby=correction-title] p.text").count()
                    await press(seen, "a")
                assert await seen.page.evaluate("window.acted") is None

    asyncio.run(walk())
    found = {understood(tmp_path, key).choice: understood(tmp_path, key).text for key in keys}
    assert found["keep"] == HOSTILE
    assert found["edit"] == long.replace("\x00", "\ufffd") + "!"


@pytest.mark.parametrize(("size", "scheme"), [("desktop", "light"), ("phone", "dark")])
def test_no_page_keeps_anybody_out(tmp_path: Path, size: str, scheme: str) -> None:
    """axe-core finds nothing serious on any page, and nothing is wider than the window of a small phone."""
    script = axe.source()
    turns = "You fool. " * 30
    fill(tmp_path, [*EXCHANGES, (turns, turns)])

    async def checked(seen: Watched, *pages: str) -> None:
        width, height = SIZES[size]
        for path in pages:
            await seen.open(path)
            for summary in await seen.page.locator("summary:visible").all():
                await summary.click()
            assert not await axe.violations(seen.page, script), path
            assert await seen.fits(), path
            await seen.page.set_viewport_size({"width": 360, "height": 640})
            assert await seen.fits(), path
            await seen.page.set_viewport_size({"width": width, "height": height})

    async def walk() -> None:
        async with reviewed(tmp_path, inspected=1.0) as served, watched(served.url, size, scheme) as seen:
            await checked(seen, "/name")
            for name in ("Ada", "Grace"):
                await seen.open("/name")
                await seen.page.get_by_label("Your name").fill(name)
                await seen.page.keyboard.press("Enter")
                await seen.page.locator("#desk, .empty").first.wait_for()
                if name == "Ada":
                    await checked(seen, "/annotate")
                    for _ in range(2):
                        await press(seen, "e", "Control+End", "!", "Control+Enter")
                        await checked(seen, "/annotate")
            await checked(seen, "/inspect", "/progress", "/annotate")
            for _ in range(4):
                await press(seen, "k")
            assert await heading(seen) == "Nothing to correct"
            await checked(seen, "/annotate")
            await seen.page.keyboard.press("?")
            assert await seen.page.get_by_role("dialog").is_visible()
            assert not await axe.violations(seen.page, script)

    asyncio.run(walk())
