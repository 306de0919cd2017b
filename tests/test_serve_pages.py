"""Laws of the pages: who may see what, logging in and out, and what a browser is told to trust."""

import asyncio
import hashlib
import logging
import re
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import quote

import aiohttp
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from proxies import Got, Proxied, proxied

from aligner.serving.pages.entering import local
from aligner.serving.pages.showing import NAMES

ROLES = ("client", "viewer", "reviewer", "operator")
KEYS = {role: f"sk-canary-{role}-6b1d" for role in ROLES}
MESSAGES = [{"role": "user", "content": "Which?"}]
ID = "0190aaaa-0000-7000-8000-000000000000"

# Method, path, body, the least role that it needs, and the status for whoever has it.
ROUTES: list[tuple[str, str, Any, str, int]] = [
    ("POST", "/v1/chat/completions", {"model": "unchanged", "messages": MESSAGES}, "client", 200),
    ("POST", "/v1/completions", {"model": "unchanged", "prompt": "Which?"}, "client", 200),
    ("GET", "/v1/models", None, "client", 200),
    ("GET", "/metrics", None, "client", 200),
    ("POST", "/v1/aligner/correct", {"question": "Which?", "answer": "Paris."}, "client", 200),
    ("GET", f"/v1/aligner/corrections/{ID}", None, "client", 404),
    ("POST", "/v1/aligner/feedback", {"id": ID, "verdict": "accept"}, "client", 404),
    ("POST", "/v1/aligner/feedback/undo", {"batch": ID}, "client", 404),
    ("GET", "/v1/aligner/settings", None, "viewer", 200),
    ("GET", "/v1/aligner/models", None, "viewer", 200),
    ("POST", "/v1/aligner/ask", {"model": "unchanged", "messages": MESSAGES}, "viewer", 200),
    ("GET", "/v1/aligner/corrections?limit=2", None, "viewer", 200),
    ("GET", "/v1/aligner/facets", None, "viewer", 200),
    ("GET", "/v1/aligner/agreement", None, "viewer", 200),
    ("GET", "/v1/aligner/shadow?mode=any", None, "viewer", 200),
    ("GET", "/shadow.html", None, "viewer", 404),
    ("GET", "/v1/aligner/export?kind=feedback", None, "operator", 200),
    *(("GET", f"/{name}", None, "viewer", 200) for name in NAMES),
]
OPEN = [("/healthz", 200), ("/readyz", 200), ("/", 303), ("/login", 200), ("/static/base.css", 200), ("/nothing", 404)]


INLINE = rb'<style|\bstyle="|<script(?![^>]*\bsrc=)|\bon\w+="|(?:src|href)="(?:https?:)?//'


class Form(HTMLParser):
    """The hidden fields of a page's forms."""

    def __init__(self, page: bytes) -> None:
        super().__init__()
        self.fields: dict[str, str] = {}
        self.feed(page.decode())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        if tag == "input" and found.get("type") == "hidden":
            self.fields[str(found["name"])] = str(found["value"])


class Browser:
    """Keeps cookies as a browser would, and follows nothing by itself."""

    def __init__(self, session: aiohttp.ClientSession, url: str, cookies: dict[str, str] | None = None) -> None:
        self._session, self._url = session, url
        self.cookies = dict(cookies or {})
        self.set: list[str] = []
        """every cookie that it was ever given, as it was written"""

    def another(self, cookies: dict[str, str] | None = None) -> "Browser":
        """One with other cookies."""
        return Browser(self._session, self._url, cookies)

    async def ask(self, method: str, path: str, *, body: Any = None, form: Any = None, **headers: str) -> Got:
        """One request."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        if self.cookies:
            named["cookie"] = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        async with self._session.request(
            method, self._url + path, json=body, data=form, headers=named, allow_redirects=False
        ) as response:
            for cookie in response.headers.getall("set-cookie", []):
                self.set.append(cookie)
                name, value = cookie.partition(";")[0].split("=", 1)
                self.cookies[name] = value
            return Got(response.status, {k.lower(): v for k, v in response.headers.items()}, await response.read())

    async def log_in(self, key: str, path: str = "/review", **headers: str) -> Got:
        """Fill in the form that a page leads to."""
        led = await self.ask("GET", path)
        form = Form((await self.ask("GET", led.headers["location"])).body)
        return await self.ask("POST", "/login", form={**form.fields, "key": key}, **headers)

    async def settings(self) -> Any:
        """What a page asks for first."""
        return orjson.loads((await self.ask("GET", "/v1/aligner/settings")).body)


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    """A file with a key of each role; the client's line has none, as those that are there already."""
    path = tmp_path / "keys.txt"
    lines = [f"{role} sha256:{hashlib.sha256(KEYS[role].encode()).hexdigest()}" for role in ROLES]
    path.write_text("\n".join([lines[0], *(f"{line} {role}" for role, line in zip(ROLES[1:], lines[1:], strict=True))]))
    return path


def rewrite(keys: Path, lines: list[str]) -> None:
    """The file of keys is another."""
    keys.write_text("\n".join(lines))


@asynccontextmanager
async def browsing(**fields: Any) -> AsyncGenerator[tuple[Proxied, Browser], None]:
    """A proxy, and a browser that knows it."""
    async with (
        proxied(**fields) as proxy,
        aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as session,
    ):
        yield proxy, Browser(session, proxy.url)


def test_every_role_may_do_what_it_may_and_no_more(keys: Path, tmp_path: Path) -> None:
    """On every route, by key and by session; without either, pages lead to the form, and the rest is refused."""

    async def run() -> None:
        async with browsing(keys=keys, log=str(tmp_path / "log.db")) as (proxy, nobody):
            for role in ROLES:
                async with aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as session:
                    browser = Browser(session, proxy.url)
                    logged_in = role != "client"
                    assert (await browser.log_in(KEYS[role])).status == (303 if logged_in else 403)
                    token = (await browser.settings())["csrf"] if logged_in else ""
                    for method, path, body, least, status in ROUTES:
                        may = ROLES.index(role) >= ROLES.index(least)
                        by_key = await nobody.ask(method, path, body=body, authorization=f"Bearer {KEYS[role]}")
                        assert (path, role, by_key.status) == (path, role, status if may else 403)
                        if logged_in:
                            by_session = await browser.ask(method, path, body=body, x_csrf_token=token)
                            assert (path, role, by_session.status) == (path, role, status if may else 403)
                        if logged_in and method == "POST":
                            forged = await browser.ask(method, path, body=body)
                            wrong = await browser.ask(method, path, body=body, x_csrf_token=token[:-1])
                            assert (path, forged.status, wrong.status) == (path, 403, 403)
            for method, path, body, _, _ in ROUTES:
                got = await nobody.ask(method, path, body=body)
                assert (path, got.status) == (path, 303 if path.strip("/") in NAMES else 401)
            for path, status in OPEN:
                assert (path, (await nobody.ask("GET", path)).status) == (path, status)
            assert all(
                "cookie" not in c.asked.headers and "x-csrf-token" not in c.asked.headers for c in proxy.upstream.calls
            )

    asyncio.run(run())


def test_a_session_lasts_until_its_key_is_taken_back_or_it_is_left(keys: Path) -> None:
    """At once, whoever holds the cookie; leaving needs the page's token; what it may is what the file says now."""

    async def run() -> None:
        async with browsing(keys=keys) as (_, browser):
            entered = await browser.log_in(KEYS["reviewer"], "/review?state=open&sort=doubt")
            assert entered.headers["location"] == "/review?state=open&sort=doubt"
            assert (await browser.settings())["role"] == "reviewer"
            stolen = browser.another(browser.cookies)
            assert (await stolen.ask("POST", "/logout")).status == 403
            lines = keys.read_text().splitlines()  # noqa: ASYNC240  # a small file
            rewrite(keys, [line.replace(" reviewer", " viewer") for line in lines])
            assert (await browser.settings())["role"] == "viewer"
            form = Form((await browser.ask("GET", "/review")).body).fields
            assert (await browser.ask("POST", "/logout", form=form)).headers["location"] == "/login"
            assert (await stolen.ask("GET", "/v1/aligner/settings")).status == 401
            await browser.log_in(KEYS["reviewer"])
            assert (await browser.ask("GET", "/review")).status == 200
            rewrite(keys, [line for line in lines if not line.startswith("reviewer")])
            assert (await browser.ask("GET", "/review")).status == 303
            assert (await browser.ask("GET", "/v1/aligner/settings")).status == 401

    asyncio.run(run())


def test_the_form_cannot_be_sent_from_elsewhere_nor_guessed_at(keys: Path) -> None:
    """Without its own token and cookie, from another origin, or too often: no session, and a page that says why."""

    async def run() -> None:
        async with browsing(keys=keys) as (_, browser):
            key = KEYS["operator"]
            bare = await browser.ask("POST", "/login", form={"key": key})
            assert (bare.status, b"too old" in bare.body) == (400, True)
            form = Form((await browser.ask("GET", "/login")).body).fields
            other = browser.another()
            assert (await other.ask("POST", "/login", form={**form, "key": key})).status == 400
            assert (await browser.log_in(key, origin="https://evil.example")).status == 403
            assert (await browser.log_in(key, origin="null")).status == 303
            assert (await browser.ask("POST", "/logout", x_csrf_token=(await browser.settings())["csrf"])).status == 303
            statuses = [(await browser.log_in("guess")).status for _ in range(40)]
            assert statuses == [401] * statuses.index(429) + [429] * (40 - statuses.index(429))
            assert 25 <= statuses.index(429) <= 35
            assert "aligner_session" not in "".join(other.set)

    asyncio.run(run())


@pytest.mark.parametrize("forwarded", ["", "http", "https", "https, http"])
def test_the_cookie_keeps_to_tls_where_the_browser_speaks_it(keys: Path, forwarded: str) -> None:
    """Also where a proxy before ours ends it; no script and no other site ever gets at it."""

    async def run() -> None:
        async with browsing(keys=keys) as (_, browser):
            entered = await browser.log_in(KEYS["viewer"], x_forwarded_proto=forwarded)
            name, *attributes = entered.headers["set-cookie"].split("; ")
            assert name.startswith("aligner_session=")
            assert set(attributes) >= {"HttpOnly", "SameSite=Strict", "Path=/"}
            assert ("Secure" in attributes) == forwarded.startswith("https")

    asyncio.run(run())


def test_no_key_is_ever_told(keys: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Not by a page, a cookie, a header, a line of the log or the log of corrections, whether it is right or wrong."""
    caplog.set_level(logging.DEBUG)
    seen: list[bytes] = []

    async def run() -> None:
        async with browsing(keys=keys, log=str(tmp_path / "log.db"), log_content="full") as (_, browser):
            for key in (f"{KEYS['operator']}-wrong", KEYS["client"], KEYS["operator"]):
                got = await browser.log_in(key)
                seen.extend([got.body, repr(got.headers).encode()])
            for path in ("/playground", "/v1/aligner/settings", "/metrics"):
                seen.append((await browser.ask("GET", path)).body)
            token = (await browser.settings())["csrf"]
            body = {"model": "unchanged", "messages": MESSAGES}
            seen.append((await browser.ask("POST", "/v1/aligner/ask", body=body, x_csrf_token=token)).body)
            seen.append(" ".join(browser.set).encode())

    asyncio.run(run())
    kept = [path.read_bytes() for path in tmp_path.glob("log.db*")]
    assert kept
    assert b"canary" not in b"".join([*seen, *kept, caplog.text.encode()])


def test_without_keys_only_our_own_pages_may_change_something() -> None:
    """Everybody on this machine is an operator; a page from elsewhere is refused, and reads nothing either."""

    async def run() -> None:
        async with browsing() as (proxy, browser):
            told = await browser.settings()
            assert (told["name"], told["role"], told["csrf"], told["log"]) == ("", "operator", "", None)
            assert (await browser.ask("GET", "/login?next=/live")).headers["location"] == "/live"
            body = {"question": "q", "answer": "a"}
            for origin, status in ((proxy.url, 200), ("http://evil.example", 403), ("null", 403), ("http://[", 403)):
                assert (await browser.ask("POST", "/v1/aligner/correct", body=body, origin=origin)).status == status
                assert (await browser.ask("POST", "/logout", origin=origin)).status == (303 if status == 200 else 403)
            there = {"origin": "https://aligner.example", "x_forwarded_host": "aligner.example"}
            assert (await browser.ask("POST", "/v1/aligner/correct", body=body, **there)).status == 200
            assert (await browser.ask("GET", "/playground", host="evil.example")).status == 403

    asyncio.run(run())


def test_without_keys_no_page_from_elsewhere_spends_the_upstreams_key() -> None:
    """What a browser sends without asking first is refused from elsewhere; JSON, and all that no page sends, is not."""

    async def run() -> None:
        async with browsing() as (proxy, browser):
            body = orjson.dumps({"model": "unchanged", "messages": MESSAGES})
            for kind, origin, status in (
                ("text/plain", "http://evil.example", 403),
                ("text/plain;application/json", "http://evil.example", 403),
                ("multipart/form-data", "null", 403),
                ("Application/JSON; charset=utf-8", "http://evil.example", 200),
                ("text/plain", proxy.url, 200),
            ):
                for path in ("/v1/chat/completions", "/v1/moderations"):
                    got = await browser.ask("POST", path, form=body, origin=origin, content_type=kind)
                    assert (path, kind, got.status == 403) == (path, kind, status == 403)
            assert (await browser.ask("POST", "/v1/chat/completions", form=body)).status != 403

    asyncio.run(run())


def test_a_browser_is_told_to_trust_nothing_but_us(keys: Path) -> None:
    """Pages are not kept, files are until they change, and nothing is loaded from anywhere else."""

    async def run() -> None:
        async with browsing(keys=keys) as (_, browser):
            await browser.log_in(KEYS["viewer"])
            for path in ("/login", *(f"/{name}" for name in NAMES)):
                page = await browser.ask("GET", path)
                assert page.headers["content-security-policy"].split("; ") == [
                    "default-src 'self'",
                    "frame-ancestors 'none'",
                    "base-uri 'none'",
                    "form-action 'self'",
                ]
                assert page.headers["x-content-type-options"] == "nosniff"
                assert page.headers["referrer-policy"] == "no-referrer"
                assert page.headers["cache-control"] == "no-store"
                assert page.headers["content-type"] == "text/html; charset=utf-8"
                assert not re.search(
                    rb'<style|style="|<script(?![^>]*\bsrc=)|\bon\w+="|(?:src|href)="(?:https?:)?//', page.body
                )
                for link in re.findall(rb'(?:src|href)="(/static/[^"]+)"', page.body):
                    file = await browser.ask("GET", link.decode())
                    assert (link, file.status) == (link, 200)
                    again = await browser.ask("GET", link.decode(), if_none_match=file.headers["etag"])
                    assert (again.status, again.body) == (304, b"")
            for path in ("/static/../pages.py", "/static/%2e%2e/pages.py", "/static/none.js", "/static/"):
                assert (await browser.ask("GET", path)).status == 404

    asyncio.run(run())


def test_no_page_where_there_are_none() -> None:
    """What programs ask for is there as ever."""

    async def run() -> None:
        async with browsing(pages="off") as (_, browser):
            for path in ("/", "/playground", "/login", "/static/base.css", "/v1/aligner/settings"):
                assert (path, (await browser.ask("GET", path)).status) == (path, 404)
            assert (await browser.ask("GET", "/v1/models")).status == 200

    asyncio.run(run())


HOSTILE = [
    "//evil.example",
    "/\\evil.example",
    "\\\\evil",
    "https://evil",
    "javascript:alert(1)",
    "/\t/evil",
    "/\n/evil",
]


@given(st.sampled_from(HOSTILE) | st.text() | st.text("/\\ .:%a\t\n@?#"))
def test_the_way_back_never_leads_elsewhere(path: str) -> None:
    r"""A browser, which takes \ for / and leaves out tabs and line ends, stays at the host that it is at."""
    found = local(path)
    read = re.sub(r"[\t\n\r]", "", found).replace("\\", "/")
    assert read.startswith("/")
    assert not read.startswith("//")
    assert found.isascii()
    assert not set(found) & set(" \r\n")
    assert found in (path, "/playground")


def test_a_hostile_way_back_is_not_taken(keys: Path) -> None:
    """Neither by the form nor by its answer."""

    async def run() -> None:
        async with browsing(keys=keys) as (_, browser):
            for path in (*HOSTILE, "%2F%2Fevil", "/%09/evil"):
                asked = await browser.ask("GET", f"/login?next={quote(path, safe='%')}")
                form = Form(asked.body).fields
                entered = await browser.ask("POST", "/login", form={**form, "next": path, "key": KEYS["viewer"]})
                assert entered.status == 303
                for led in (form["next"], entered.headers["location"]):
                    assert re.fullmatch(r"/(?![/\\])[!-~]*", led)

    asyncio.run(run())
