"""Laws of who may correct: keys and roles, sessions, pages from elsewhere, and what headers every page has."""

import asyncio
import re
import subprocess
import sys
from collections.abc import AsyncGenerator
from importlib.resources import files
from io import BytesIO
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import aiohttp
import orjson
import pytest
from browser import Watched, browser, context_of
from hypothesis import given, settings
from hypothesis import strategies as st
from reviewing_people import config_of, fill, reviewed, understood

from aligner.building.reviewing import app
from aligner.config import Role
from aligner.serving.keys import line_of
from aligner.testing import serving

ACTS = (
    r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|createContextualFragment|setHTML|DOMParser|srcdoc",
    r"\beval\b|new Function|setTimeout\(\s*[\"'`]|javascript:",
    r"\.style\b|\.cssText|\.href\s*=|\.src\s*=|location\s*=|location\.(assign|replace)",
    r"https?://",
)
"""what could make a text act, or load something from elsewhere"""
FOLDER = files("aligner.building.reviewing")
ROLES: tuple[Role, ...] = ("client", "viewer", "reviewer")
PATHS = ("/annotate", "/inspect", "/progress")


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    """A file of keys, one for each role, each of which is its role's name."""
    path = tmp_path / "keys.txt"
    path.write_text("".join(line_of(f"{role} one", role, role) for role in ROLES), encoding="utf-8")
    return path


def test_no_script_of_ours_can_make_a_text_act() -> None:
    """Nothing writes HTML, evaluates, or sets a style or an address; no template marks anything as safe."""
    for folder in ("static", "templates"):
        for entry in FOLDER.joinpath(folder).iterdir():
            source = entry.read_text(encoding="utf-8")
            for pattern in ACTS if entry.name.endswith(".js") else ACTS[-1:]:
                assert not re.findall(pattern, source), f"{entry.name}: {pattern}"
            if entry.name.endswith(".html"):
                assert not re.findall(r"\sstyle=|\son\w+=|<style|<script(?![^>]*\ssrc=)|\|\s*safe", source), entry.name


def test_beyond_loopback_nobody_listens_without_keys(tmp_path: Path) -> None:
    """The command ends with one line, and nothing was opened."""
    code = (
        "import sys; from pathlib import Path; from aligner.building.reviewing import serve; "
        "from reviewing_people import config_of; from aligner.errors import MisuseError\n"
        "try: serve(config_of(Path(sys.argv[1]), host='0.0.0.0'))\n"
        "except MisuseError as error: print(error)"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "build")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=Path(__file__).parents[1])
    assert done.returncode == 0, done.stderr
    assert "not loopback: give --review.keys" in done.stdout
    assert not (tmp_path / "build").exists()


@pytest.mark.slow
def test_each_role_may_do_what_is_said_of_it(tmp_path: Path, keys: Path) -> None:
    """A client comes in nowhere; a viewer corrects; a reviewer inspects, too; the name in the figures is the key's."""
    (key,) = fill(tmp_path, [("How?", "An answer.")])
    options: dict[str, Any] = {"keys": str(keys), "inspected": 1.0}

    async def log_in(seen: Watched, role: str) -> None:
        await seen.open("/annotate")
        await seen.page.get_by_label("Key").fill(role)
        await seen.page.keyboard.press("Enter")

    async def walk() -> None:
        async with reviewed(tmp_path, **options) as served, browser() as opened:
            seen = Watched(await (await context_of(opened, "desktop", "light")).new_page(), served.url)
            await log_in(seen, "wrong")
            assert await seen.page.get_by_role("alert").inner_text() == "No such key is known here."
            await log_in(seen, "client")
            assert "for the API alone" in await seen.page.get_by_role("alert").inner_text()
            await log_in(seen, "viewer")
            page = seen.page
            await page.get_by_label("Text", exact=True).fill("Hers.")
            await page.locator("#edit").click()
            await page.get_by_role("heading", name="Make it helpful").wait_for()
            await page.locator("#keep").click()
            await page.get_by_role("heading", name="Nothing to correct").wait_for()
            assert not await page.get_by_role("link", name=re.compile("Inspect")).count()
            response = await page.goto(f"{served.url}/inspect")
            assert response is not None
            assert response.status == 403
            await seen.open("/progress")
            assert await page.locator("tbody th").inner_text() == "viewer one"
            await page.get_by_role("button", name="Log out").click()
            await page.get_by_label("Key").wait_for()
            await log_in(seen, "reviewer")
            await page.get_by_role("link", name=re.compile("Inspect")).click()
            assert await page.locator("#correction").inner_text() == "Hers."
            await page.locator("#agree").click()
            await page.get_by_text("Nothing to look at").wait_for()

    asyncio.run(walk())
    assert understood(tmp_path, key).text == "Hers."


@pytest.mark.slow
def test_what_was_typed_is_still_there_after_a_kill_took_the_session(tmp_path: Path, keys: Path) -> None:
    """Sessions live in memory: whoever sends then is led to the form for the key, and finds their text again."""
    (key,) = fill(tmp_path, [("How?", "An answer.")])

    async def walk() -> None:
        async with reviewed(tmp_path, keys=str(keys)) as served, browser() as opened:
            page = await (await context_of(opened, "desktop", "light")).new_page()
            await page.goto(f"{served.url}/annotate")
            await page.get_by_label("Key").fill("viewer")
            await page.keyboard.press("Enter")
            await page.get_by_label("Text", exact=True).fill("A long text of hers.")
            await served.kill()
            await served.start()
            await page.locator("#edit").click()
            await page.get_by_label("Key").fill("viewer")
            await page.keyboard.press("Enter")
            await page.locator("#restored").wait_for()
            assert await page.get_by_label("Text", exact=True).input_value() == "A long text of hers."
            await page.locator("#edit").click()
            await page.locator("#keep").click()
            await page.get_by_role("heading", name="Nothing to correct").wait_for()

    asyncio.run(walk())
    assert understood(tmp_path, key).text == "A long text of hers."


def test_every_page_has_the_headers_that_keep_strangers_out(tmp_path: Path) -> None:
    """A policy without inline scripts, no sniffing, no framing, and nothing kept; unknown paths are 404."""
    fill(tmp_path, [("How?", "An answer.")])

    async def ask() -> None:
        application = app(tmp_path / "build.sqlite", config_of(tmp_path))
        async with (
            serving(application) as url,
            aiohttp.ClientSession(url, cookies={"aligner_annotator": "Ada"}) as session,
        ):
            for path in ("/name", *PATHS):
                async with session.get(path) as response:
                    assert response.status == 200
                    assert "default-src 'self'" in response.headers["content-security-policy"]
                    assert "frame-ancestors 'none'" in response.headers["content-security-policy"]
                    assert response.headers["x-content-type-options"] == "nosniff"
                    assert response.headers["cache-control"] == "no-store"
            for path in ("/static/annotate.js", "/static/annotate.css", "/static/base.css"):
                async with session.get(path) as response:
                    assert response.status == 200
            for path in ("/static/../desk.py", "/static/%2e%2e%2fdesk.py", "/v1/models", "/metrics", "/playgrounds"):
                async with session.get(path) as response:
                    assert response.status == 404

    asyncio.run(ask())


def test_pages_from_elsewhere_send_nothing(tmp_path: Path, keys: Path) -> None:
    """Another origin, another host's name, and a form without the session's token change nothing."""
    (key,) = fill(tmp_path, [("How?", "An answer.")])
    form = {"key": key, "step": "1", "action": "keep", "text": "An answer."}

    async def ask() -> None:
        application = app(tmp_path / "build.sqlite", config_of(tmp_path))
        cookies = {"aligner_annotator": "Ada"}
        async with (
            serving(application) as url,
            aiohttp.ClientSession(url, cookies=cookies) as session,
        ):
            await session.get("/annotate")
            for headers in ({"origin": "http://example.com"}, {"origin": "null"}, {"host": "example.com"}):
                for path in ("/annotate", "/inspect", "/name"):
                    async with session.post(path, data=form, headers=headers, allow_redirects=False) as response:
                        assert response.status == 403, (path, headers)
            async with session.get("/annotate", headers={"host": "example.com"}) as response:
                assert response.status == 403
            async with session.post("/annotate", data=form, allow_redirects=False) as response:
                assert response.headers["location"] == f"/annotate?note=step&key={key}"
        application = app(tmp_path / "build.sqlite", config_of(tmp_path, keys=keys))
        async with (
            serving(application) as url,
            aiohttp.ClientSession(url, cookie_jar=aiohttp.CookieJar(unsafe=True)) as session,
        ):
            async with session.post("/annotate", data=form, allow_redirects=False) as response:
                assert response.headers["location"] == "/login?next=/annotate"
            async with session.get("/login") as response:
                token = re.findall(r'name="token" value="(.+?)"', await response.text())[0]
            async with session.post("/login", data={"token": token, "key": "viewer", "next": "/annotate"}) as response:
                assert response.url.path == "/annotate"
            async with session.post("/annotate", data=form, allow_redirects=False) as response:
                assert response.headers["location"] == "/annotate?note=old"

    asyncio.run(ask())


def test_forms_are_read_only_of_people_who_may_send_them_and_only_so_long(tmp_path: Path, keys: Path) -> None:
    """Strangers are answered before their body is there; a form has 64 KiB, one with a text 1 MiB."""
    (key,) = fill(tmp_path, [("How?", "An answer.")])
    application = app(tmp_path / "build.sqlite", config_of(tmp_path, keys=keys))
    arrived = asyncio.Event()

    async def never() -> AsyncGenerator[bytes, None]:
        yield b"text="
        await arrived.wait()

    async def ask() -> None:
        async with serving(application) as url, aiohttp.ClientSession(url) as session:
            for path in ("/annotate", "/annotate/held", "/annotate/back", "/inspect"):
                async with asyncio.timeout(10), session.post(path, data=never(), allow_redirects=False) as response:
                    assert response.headers["location"].startswith("/login?next=/")
        without = app(tmp_path / "build.sqlite", config_of(tmp_path))
        cookies = {"aligner_annotator": "Ada"}
        async with serving(without) as url, aiohttp.ClientSession(url, cookies=cookies) as session:
            await session.get("/annotate")
            form = {"key": key, "step": "1", "action": "edit"}
            for path, most in (("/name", 2**16), ("/inspect", 2**16), ("/annotate/held", 2**16), ("/annotate", 2**20)):
                async with session.post(path, data=BytesIO(b"x" * (most + 1)), allow_redirects=False) as response:
                    assert response.status == 413, path
            sent = BytesIO(urlencode({**form, "text": "\u00e9" * 100_000}).encode())
            async with session.post("/annotate", data=sent, allow_redirects=False) as response:
                assert response.headers["location"] == f"/annotate?note=step&key={key}"
            for held, status in ((key, 204), ("none", 410)):
                async with session.post("/annotate/held", data={"key": held}) as response:
                    assert response.status == status

    asyncio.run(ask())


@settings(max_examples=12, deadline=None)
@given(
    fields=st.dictionaries(
        st.sampled_from(
            ["key", "step", "action", "text", "reason", "comment", "sure", "number", "name", "next", "csrf"]
        ),
        st.text(max_size=20) | st.sampled_from(["1", "2", "keep", "edit", "back", "pass", "agree", "9" * 30]),
    ),
    body=st.none() | st.binary(max_size=40),
)
def test_no_form_makes_the_server_fail(
    tmp_path_factory: pytest.TempPathFactory, fields: dict[str, str], body: bytes | None
) -> None:
    """Whatever is sent, the answer is a page, a way to one, or an error that names what is wrong."""
    folder = tmp_path_factory.mktemp("build")
    (key,) = fill(folder, [("How?", "An answer.")])

    async def ask() -> None:
        application = app(folder / "build.sqlite", config_of(folder))
        async with (
            serving(application) as url,
            aiohttp.ClientSession(url, cookies={"aligner_annotator": "Ada"}) as session,
        ):
            await session.get("/annotate")
            for path in ("/annotate", "/annotate/back", "/inspect", "/name", "/login"):
                for sent in (body or fields, {**fields, "key": key}):
                    async with session.post(path, data=sent, allow_redirects=False) as response:
                        assert response.status in (200, 303, 400, 401), (response.status, await response.text())
                        if response.status == 400 and "json" in response.headers["content-type"]:
                            assert orjson.loads(await response.read())["error"]["message"]

    asyncio.run(ask())
