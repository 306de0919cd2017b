"""A report as one page of HTML that loads nothing, and in which texts of models are only read."""

import base64
import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import Any

from jinja2 import BaseLoader, Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from aligner.evaluating import charts, formats, panels, shown
from aligner.evaluating.breakdowns import Category, Size, pooled, withheld
from aligner.evaluating.content import Report
from aligner.evaluating.evidence import Edited, Evidence
from aligner.evaluating.examples import MEANINGS, QUOTAS, Example, Examples
from aligner.evaluating.tables import CLOSED_WORLD
from aligner.evaluating.verdicts import sentences, tone

_PAGE, _ROW = 1_800_000, 1_400
"""bytes of the page, and of a row of its tables"""
_LEAST, _MOST = 200_000, 1_100_000
"""bytes of examples"""
_MOST_CATEGORIES = 60
_BEST = ("fixed", "better", "changed", "kept", "untouched", "worse", "broken")


def page(report: Report, examples: Examples, categories: Sequence[Category], sizes: Sequence[Size]) -> str:
    """The page; raises jinja2's errors for nothing that a report may hold."""
    evidence = report.evidence
    nets, gains = panels.forests(evidence.judged, panels.net), panels.forests(evidence.marked, panels.gained)
    parts: dict[str, Any] = {
        "marked": evidence.marked,
        "preferences": panels.preferences(evidence.judged),
        "refusals": panels.refusals(categories, evidence.judged),
        "categories": {task: list(found.items()) for task, found in pooled(categories).items()},
        "sizes": list(panels.pulls(sizes)),
        "costs": panels.costs(evidence),
    }
    return (
        _environment()
        .get_template("report.html.jinja")
        .render(
            **parts,
            report=report,
            answers=sum(row.changes.total for row in evidence.edited),
            upstreams=list(dict.fromkeys(row.upstream for row in evidence.edited)),
            tasks=list(dict.fromkeys(row.task for row in evidence.edited)),
            sentences=sentences(evidence, timed=True),
            contents=_contents(report, parts),
            nets=nets,
            gains=gains,
            examples=examples,
            chosen=_chosen(examples.shown),
            meanings=MEANINGS,
            articles=Markup("").join(map(article, examples.shown)),
            closed_world=CLOSED_WORLD,
            most_categories=_MOST_CATEGORIES,
        )
    )


def article(example: Example) -> Markup:
    """One case as HTML."""
    macros: Any = _environment().get_template("example.html.jinja").module
    places = list(QUOTAS).index(example.outcome), _BEST.index(example.outcome)
    return macros.article(example, *places, withheld(example.case))


def within_limit(examples: Examples, most: int) -> Examples:
    """Examples of so many bytes in all: each kind has its share of them, and what is left of it goes to the next."""
    kept, left, whole = list[Example](), 0.0, sum(QUOTAS.values())
    for outcome, quota in QUOTAS.items():
        left += most * quota / whole
        for example in (example for example in examples.shown if example.outcome == outcome):
            size = len(article(example).encode())
            if size > left:
                break
            left -= size
            kept.append(example)
    return examples._replace(shown=kept)


def room(evidence: Evidence) -> int:
    """The bytes that examples may take; measured times, and so the lengths of their figures, count for nothing."""
    rows = len(evidence.judged) + len(evidence.marked) + len(evidence.edited)
    return min(max(_PAGE - _ROW * rows, _LEAST), _MOST)


def _contents(report: Report, parts: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    named = {
        "right": (parts["marked"], "Right and wrong"),
        "preferred": (parts["preferences"], "Judges"),
        "refusal": (parts["refusals"], "Over-refusal"),
        "edits": (True, "Edits"),
        "categories": (parts["categories"], "Categories"),
        "cost": (True, "Cost"),
        "overlap": (report.overlaps, "Overlap"),
        "examples": (True, "Examples"),
        "provenance": (True, "Provenance"),
    }
    return ((place, name) for place, (there, name) in named.items() if there)


def _chosen(examples: Sequence[Example]) -> dict[str, Counter[str]]:
    return {
        "outcome": Counter(example.outcome for example in examples),
        "upstream": Counter(example.case.upstream for example in examples),
        "task": Counter(example.case.task for example in examples),
        "category": Counter(shown.cut(example.case.category, 80) for example in examples),
    }


def environment(loader: BaseLoader, **named: Any) -> Environment:
    """Templates in which every text is visible and escaped, that know what is `named`, and the `hash` of a style."""
    found = Environment(
        autoescape=True,
        loader=loader,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_visible,
    )
    known: dict[str, Any] = {**named, "hash": _hash}
    found.globals.update(known)
    return found


@cache
def _environment() -> Environment:
    named: dict[str, Any] = {
        **{name: getattr(formats, name) for name in ("count", "p_value", "plain", "points", "seconds", "share")},
        **{name: getattr(charts, name) for name in ("against", "columns", "scale", "split", "whisker")},
        **{name: getattr(shown, name) for name in ("asked", "cut", "diff")},
    }
    own = {"changed": _changed, "share_of": _share_of, "tone": tone}
    return environment(PackageLoader("aligner.evaluating"), **named, **own)


def _visible(value: Any) -> Any:
    """Names may be as hostile as texts: all of them are visible before they are escaped."""
    return shown.visible(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _changed(row: Edited) -> list[int]:
    """Corrections that changed something, by the share of their words that was copied."""
    return [*row.copied[:-1], row.copied[-1] - row.changes.identical]


def _hash(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _share_of(part: float, whole: float) -> str:
    return formats.share(part / whole) if whole else ""
