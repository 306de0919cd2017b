"""The report of an evaluation: one page, and the same figures as JSON, CSV and Markdown."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from aligner.evaluating.breakdowns import Category, Size, by_category, by_size, withheld
from aligner.evaluating.content import Overlapped, Report
from aligner.evaluating.examples import Example, Examples, choose
from aligner.evaluating.figures import plain
from aligner.evaluating.page import page, room, within_limit
from aligner.evaluating.tables import CLOSED_WORLD, as_csv, as_markdown
from aligner.evaluating.verdicts import sentences
from aligner.files import write_json_atomic, write_text_atomic

__all__ = ["Overlapped", "Report", "as_json", "summary", "write_report"]


def write_report(folder: Path, report: Report) -> None:
    """Write report.html, report.json, report.csv and report.md; the same cases give the same JSON, `timed` apart.

    The page is below 2 MB, however many cases there are. Raises OutputFileError.
    """
    categories, sizes = by_category(report.cases), by_size(report.cases)
    examples = within_limit(choose(report.cases), room(report.evidence))
    write_json_atomic(folder / "report.json", as_json(report, examples, categories, sizes))
    write_text_atomic(folder / "report.csv", as_csv(report))
    write_text_atomic(folder / "report.md", as_markdown(report))
    write_text_atomic(folder / "report.html", page(report, examples, categories, sizes))


def summary(report: Report) -> str:
    """The verdict for a terminal."""
    lines = [sentence.text for sentence in sentences(report.evidence, timed=True)]
    return "\n".join([*([CLOSED_WORLD] if report.closed_world else []), *lines])


def as_json(
    report: Report, examples: Examples, categories: Sequence[Category], sizes: Sequence[Size]
) -> Mapping[str, Any]:
    """All that the report tells, as JSON has it; `timed` alone differs from run to run."""
    return {
        "title": report.title,
        "closed_world": report.closed_world,
        "verdict": [plain(sentence) for sentence in sentences(report.evidence)],
        **plain(report.evidence),
        "overlaps": plain(report.overlaps),
        "categories": plain(categories),
        "sizes": plain(sizes),
        "measures": plain(report.measures),
        "outcomes": plain(examples.totals),
        "examples": [_example(example) for example in examples.shown],
        "provenance": plain(report.provenance),
    }


def _example(example: Example) -> Mapping[str, Any]:
    """A case without its times; the words of judges would tell what is withheld."""
    found = plain(example.case)
    del found["seconds"]
    if withheld(example.case):
        found |= dict.fromkeys(("question", "answer", "correction"), "")
        found |= {"opinions": [{**opinion, "said": ""} for opinion in found["opinions"]]}
        found |= {when: {**found[when], "read": ""} for when in ("before", "after") if found[when]}
    return {**found, "outcome": example.outcome, "new_words": example.new_words}
