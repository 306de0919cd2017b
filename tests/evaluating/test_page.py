"""Laws of the report's page in a browser: it loads nothing, nothing in it acts, and it can be read anywhere."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from browser import SCHEMES, SIZES, chromium
from playwright.sync_api import sync_playwright
from reported import hostile_report, reported, world_cases

from aligner.evaluating.report import write_report

CONTRASTS = """() => {
  const numbers = (colour) => colour.match(/[\\d.]+/g).map(Number);
  const light = (colour) => {
    const linear = (c) => (c <= 10 ? c / 3294.6 : ((c / 255 + 0.055) / 1.055) ** 2.4);
    const [r, g, b] = numbers(colour).map(linear);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const behind = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const colour = getComputedStyle(at).backgroundColor;
      if (numbers(colour)[3] !== 0) return colour;
    }
    return "rgb(255, 255, 255)";
  };
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  const found = [];
  while (walker.nextNode()) {
    const element = walker.currentNode.parentElement;
    if (!walker.currentNode.data.trim() || !element.checkVisibility() || element.tagName === "SCRIPT") continue;
    const style = getComputedStyle(element);
    const front = light(element instanceof SVGElement ? style.fill : style.color);
    const back = light(behind(element));
    const ratio = (Math.max(front, back) + 0.05) / (Math.min(front, back) + 0.05);
    if (ratio < 4.5) found.push(`${ratio.toFixed(2)} ${element.tagName} ${walker.currentNode.data.slice(0, 40)}`);
  }
  return found;
}"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Debian's Chromium without a window."""
    with sync_playwright() as started:
        opened = started.chromium.launch(executable_path=chromium(), args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report of the closed world, and a hostile one."""
    found = tmp_path_factory.mktemp("pages")
    for name, report in (
        ("world", reported(world_cases("careless", "timid", count=20, breaks=4))),
        ("hostile", hostile_report()),
    ):
        (found / name).mkdir()
        write_report(found / name, report)
    return found


@contextmanager
def shown(browser: Any, path: Path, size: str = "desktop", **options: Any) -> Iterator[Any]:
    """A page; raises at the end where anything went wrong on it, or was asked for."""
    width, height = SIZES[size]
    context = browser.new_context(viewport={"width": width, "height": height}, **options)
    page, problems = context.new_page(), list[str]()
    page.on("dialog", lambda dialog: (problems.append(f"a dialog: {dialog.message}"), dialog.dismiss()))
    page.on("pageerror", lambda error: problems.append(f"an error: {error}"))
    page.on("console", lambda line: problems.append(f"{line.type}: {line.text}"))
    page.on("request", lambda request: problems.append(f"a request: {request.url}"))
    page.goto(path.as_uri())
    assert problems == [f"a request: {path.as_uri()}"]
    problems.clear()
    yield page
    context.close()
    assert not problems


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("name", ["world", "hostile"])
def test_a_page_can_be_read_and_does_nothing_else(browser: Any, folder: Path, name: str, scheme: str) -> None:
    """At two widths: nothing is wider than the window, all texts stand out, nothing acts, and nothing is loaded."""
    path = folder / name / "report.html"
    with shown(browser, path, color_scheme=scheme) as page:
        for width, height in SIZES.values():
            page.set_viewport_size({"width": width, "height": height})
            assert page.evaluate("document.documentElement.scrollWidth") <= width
            assert page.evaluate(CONTRASTS) == []
        assert page.evaluate("window.acted") is None
        assert page.evaluate("document.querySelectorAll('img, iframe, base, link, object, article a').length") == 0
        assert page.url == path.as_uri()


def test_no_script_of_others_would_run(browser: Any, folder: Path) -> None:
    """Even mark-up that got in somehow could not act: the page's policy names the one script by its hash."""
    path = folder / "policy.html"
    page = (folder / "world" / "report.html").read_text(encoding="utf-8")
    attack = "<script>window.acted = 1</script><img src=x onerror='window.acted = 1'><b id=there>there</b>"
    path.write_text(page.replace("<main>", f"<main>{attack}"), encoding="utf-8")
    context = browser.new_context()
    shown = context.new_page()
    shown.goto(path.as_uri())
    assert shown.locator("#there").inner_text() == "there"
    assert shown.locator("#choose").is_visible()
    assert shown.evaluate("window.acted") is None
    context.close()


def test_examples_are_filtered_and_sorted(browser: Any, folder: Path) -> None:
    """By outcome, upstream, category, text and size; and all come back."""
    with shown(browser, folder / "world" / "report.html") as page:
        cases = page.locator(".case:visible")
        every = cases.count()
        outcomes = cases.evaluate_all("found => found.map((one) => one.dataset.outcome)")
        assert outcomes[0] == "broken"
        page.select_option("[name=outcome]", "fixed")
        assert cases.count() == outcomes.count("fixed") > 0
        page.select_option("[name=upstream]", "timid")
        assert set(cases.evaluate_all("found => found.map((one) => one.dataset.upstream)")) == {"timid"}
        assert page.locator("#seen").inner_text() == f"{cases.count()} of {every} shown"
        page.select_option("[name=outcome]", "")
        page.select_option("[name=upstream]", "")
        page.fill("[name=text]", "YOU FOOL")
        assert 0 < cases.count() < every
        page.fill("[name=text]", "")
        page.select_option("[name=order]", "largest")
        sizes = cases.evaluate_all("found => found.map((one) => Number(one.dataset.size))")
        assert sizes == sorted(sizes, reverse=True)
        assert len(sizes) == every
        page.select_option("[name=order]", "best")
        assert cases.first.get_attribute("data-outcome") == "fixed"


def test_without_scripts_all_is_there(browser: Any, folder: Path) -> None:
    """Every example is shown, broken ones first, and there is no form that does nothing."""
    path = folder / "world" / "report.html"
    with shown(browser, path, "phone", java_script_enabled=False) as page:
        assert page.locator(".case:visible").count() == path.read_text(encoding="utf-8").count("<article") > 20
        assert not page.locator("#choose").is_visible()
        assert page.locator(".case").first.get_attribute("data-outcome") == "broken"
