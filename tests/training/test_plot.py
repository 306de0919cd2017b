"""Laws of curves.svg."""

import asyncio
import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest
from browser import browser, context_of
from hypothesis import given
from hypothesis import strategies as st

from aligner.training.plot import curves

_SVG = "{http://www.w3.org/2000/svg}"
_LOSSES = st.none() | st.floats(0, 1e4)
_RATES = st.none() | st.tuples(st.floats(0, 1), st.floats(0, 1), st.floats(0, 1)).map(list)
_MEASURED = st.fixed_dictionaries({"fix_rate": _RATES, "break_rate": _RATES, "loss_edited": _LOSSES})
_ROWS = st.lists(
    st.fixed_dictionaries(
        {
            "stage": st.text(st.characters(codec="utf-8", exclude_categories=("C",)), max_size=5),
            "step": st.integers(0, 10**7),
        },
        optional={"loss": _LOSSES, "measured": _MEASURED},
    ),
    max_size=12,
)


def rows(stages: dict[str, int], *, every: int = 1) -> list[dict[str, Any]]:
    """Lines of a metrics.jsonl."""
    figures = {
        "fix_rate": [0.5, 0.4, 0.6],
        "break_rate": [0.1, 0.0, 0.2],
        "copy_rate": [0.9, 0.8, 1.0],
        "loss_edited": 2.0,
    }
    return [
        {"stage": stage, "step": step, "loss": 1 / step, **({"measured": figures} if step % every == 0 else {})}
        for stage, steps in stages.items()
        for step in range(1, steps + 1)
    ]


@given(_ROWS)
def test_any_figures_make_a_picture(given_rows: list[dict[str, Any]]) -> None:
    """It is XML with numbers for its places, whatever stages are called and whichever figures are missing."""
    picture = curves(given_rows)
    root = ET.fromstring(picture)  # noqa: S314  # what we wrote ourselves
    assert root.tag == f"{_SVG}svg"
    assert not re.search(r"\b(nan|inf)\b", picture.partition("</style>")[2])
    assert curves(given_rows) == picture


def test_a_picture_stays_light() -> None:
    """A hundred thousand steps make no heavier picture than can be looked at, and all that is in it lies inside."""
    picture = curves(rows({"identity": 5_000, "correction": 95_000}, every=100))
    assert len(picture) < 250_000
    root = ET.fromstring(picture)  # noqa: S314  # what we wrote ourselves
    width, height = float(root.attrib["width"]), float(root.attrib["height"])
    for line in root.iter(f"{_SVG}polyline"):
        for place in line.attrib["points"].split():
            x, y = map(float, place.split(","))
            assert 0 <= x <= width
            assert 0 <= y <= height


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_browser_shows_it(tmp_path: Path, scheme: str) -> None:
    """Every text lies inside the picture and on no other text, in colours that follow the reader's choice."""
    (tmp_path / "curves.svg").write_text(curves(rows({"identity": 40, "correction": 400, "preference": 9}, every=20)))

    async def look() -> tuple[list[list[float]], str]:
        async with browser() as opened:
            page = await (await context_of(opened, "desktop", scheme)).new_page()
            await page.goto((tmp_path / "curves.svg").as_uri())
            boxes = await page.evaluate(
                "[...document.querySelectorAll('text')].map(t => t.getBoundingClientRect())"
                ".map(b => [b.left, b.top, b.right, b.bottom])"
            )
            return boxes, await page.evaluate("getComputedStyle(document.documentElement).backgroundColor")

    boxes, colour = asyncio.run(look())
    assert colour == {"light": "rgb(255, 255, 255)", "dark": "rgb(22, 24, 28)"}[scheme]
    assert len(boxes) > 20
    for i, (left, top, right, bottom) in enumerate(boxes):
        assert left >= 0
        assert top >= 0
        assert right <= 965
        for other in boxes[:i]:
            apart = right <= other[0] or other[2] <= left or bottom <= other[1] + 2 or other[3] <= top + 2
            assert apart, (boxes[i], other)
