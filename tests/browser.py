"""Debian's Chromium on the pages, and all that it must never do there."""

import shutil
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import pytest

try:
    from playwright.async_api import Browser, BrowserContext, ConsoleMessage, Page, Request, async_playwright
except ImportError:
    pytest.skip("the pages are tested with playwright: pip install -e '.[dev]'", allow_module_level=True)

SIZES = {"desktop": (1440, 900), "phone": (390, 844)}
SCHEMES = ("light", "dark")


def chromium() -> str:
    """Where it is; the tests are skipped where it is not."""
    if (found := shutil.which("chromium")) is None:
        pytest.skip("no Chromium here: apt-get install chromium")
    return found


@asynccontextmanager
async def browser() -> AsyncGenerator[Browser, None]:
    """A browser without a window."""
    async with async_playwright() as playwright:
        opened = await playwright.chromium.launch(executable_path=chromium(), args=["--no-sandbox"])
        try:
            yield opened
        finally:
            await opened.close()


@dataclass
class Watched:
    """A page, and what went wrong on it."""

    page: Page
    origin: str
    problems: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        page = self.page
        page.on("dialog", lambda dialog: self._note(f"a dialog: {dialog.message}"))
        page.on("pageerror", lambda error: self._note(f"an error: {error}"))
        page.on("console", self._hears)
        page.on("request", self._leaves)
        page.on("popup", lambda _: self._note("a new window"))

    async def open(self, path: str) -> None:
        """Go to a page of ours."""
        await self.page.goto(self.origin + path)

    async def fits(self) -> bool:
        """Whether nothing is wider than the window."""
        return await self.page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")

    def _hears(self, line: ConsoleMessage) -> None:
        if line.type in ("error", "warning"):
            self._note(f"{line.type}: {line.text}")

    def _leaves(self, request: Request) -> None:
        to = urlsplit(request.url)
        if to.scheme not in ("data", "blob") and f"{to.scheme}://{to.netloc}" != self.origin:
            self._note(f"a request to {request.url}")

    def _note(self, problem: str) -> None:
        self.problems.append(problem)


@asynccontextmanager
async def watched(
    origin: str, size: str = "desktop", scheme: Any = "light", **options: Any
) -> AsyncGenerator[Watched, None]:
    """A page in a browser of its own; raises at the end where anything went wrong."""
    async with browser() as opened:
        context = await context_of(opened, size, scheme, **options)
        seen = Watched(await context.new_page(), origin)
        yield seen
        assert not seen.problems, seen.problems


async def context_of(opened: Browser, size: str, scheme: Any, **options: Any) -> BrowserContext:
    """A context with a window of that size and people's choice of colours."""
    width, height = SIZES[size]
    given: dict[str, Any] = {
        "viewport": {"width": width, "height": height},
        "color_scheme": scheme,
        "reduced_motion": "reduce",
    }
    context = await opened.new_context(**(given | options))
    context.set_default_timeout(30_000)
    return context
