"""A shadow report as one HTML file that needs no other, and in which nothing runs."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

from jinja2 import Environment, PackageLoader, StrictUndefined

from aligner.serving.shadow.figures import BINS, Report

_WIDTH, _HEIGHT = 600, 160
"""of the histogram's bars, in its own units"""


class Bar(NamedTuple):
    """A bar of the histogram: its place, and what it says."""

    x: float
    y: float
    width: float
    height: float
    title: str


def page_of(report: Report) -> str:
    """The report; raises what Jinja raises for a template that asks for what is not there."""
    environment = Environment(
        loader=PackageLoader("aligner.serving", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(_FILTERS)
    template = environment.get_template("shadow_report.html")
    bars = _bars(report.figures.histogram)
    highest = max(bars, key=lambda bar: bar.height)
    drawn = {"bars": bars, "highest": highest, "width": _WIDTH, "height": _HEIGHT}
    return template.render(report=report, figures=report.figures, **drawn)


def _bars(histogram: Sequence[int]) -> list[Bar]:
    highest, step = max([*histogram, 1]), _WIDTH / BINS
    return [
        Bar(
            x=round(i * step + 1, 2),
            y=round(_HEIGHT - _HEIGHT * count / highest, 2),
            width=round(step - 2, 2),
            height=round(_HEIGHT * count / highest, 2),
            title=f"{i / BINS:.0%} to {(i + 1) / BINS:.0%}: {count:,}",
        )
        for i, count in enumerate(histogram)
    ]


def _percent(share: float | None) -> str:
    return "none" if share is None else f"{share:.1%}"


def _seconds(value: float | None) -> str:
    if value is None:
        return "none"
    return f"{value:.2f} s" if value >= 1 else f"{1000 * value:.0f} ms" if value >= 0.01 else f"{1000 * value:.1f} ms"


def _moment(created: float | None) -> str:
    return "never" if created is None else f"{datetime.fromtimestamp(created, UTC):%Y-%m-%d %H:%M} UTC"


def _count(count: int) -> str:
    return f"{count:,}"


_FILTERS: Mapping[str, Any] = {
    "percent": _percent,
    "seconds": _seconds,
    "moment": _moment,
    "count": _count,
}
