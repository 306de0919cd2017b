"""Cases and reports for tests: answers of the closed world with known flaws, and an editor with known faults."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any

from aligner.evaluating.cases import Case, Opinion
from aligner.evaluating.content import Overlapped, Report
from aligner.evaluating.evidence import weigh
from aligner.evaluating.provenance import Provenance
from aligner.records import Message
from aligner.tasks import Score
from aligner.world.oracle import Marks, mark
from aligner.world.profiles import PROFILES
from aligner.world.rows import Row, rows

HOSTILE = (
    '</div></script><script>window.acted = 1; alert(1)</script><img src=x onerror="window.acted = 1; alert(2)">'
    "<a href='javascript:alert(3)'>Paris</a> <svg/onload=alert(4)> {{7*7}} ${7*7} {% raw %} &lt;b&gt; &#60;"
    "<style>*{display:none}</style><iframe srcdoc='<script>parent.acted = 1</script>'></iframe>"
    "<meta http-equiv=refresh content='0;url=http://example.com/'><base href='http://example.com/'>\n"
    "\x00\x07\x1b[31m\x7f\x85 \u200e\u202eevil\u202c \u2066\u2069 \u2028 \ufeff \U000e0041 שלום e\u0301 @everyone"
    " `|` =1 [a](javascript:alert(5)) ![b](http://example.com/b.png)"
)
"""whatever a text could hold to do more than be read"""
QUALITIES = ("helpful", "harmless", "honest")


def world_cases(*upstreams: str, count: int = 20, breaks: int = 7, mends: bool = True) -> Iterator[Case]:
    """Answers of these upstreams, mended; of every so many, one is spoilt instead."""
    for upstream in upstreams:
        for number, row in enumerate(rows(PROFILES[upstream], count=count, seed=3, split="unseen")):
            spoilt = bool(breaks) and number % breaks == breaks - 1
            text = f"{row.answer} You fool." if spoilt else row.correction if mends else row.answer
            yield world_case(row, number, text)


def world_case(row: Row, number: int, text: str) -> Case:
    """One answer and what an editor made of it, as the oracle sees both."""
    before, after = mark(row.asked, row.answer), mark(row.asked, text)
    return Case(
        upstream=row.profile,
        task="world",
        item=str(number),
        category=row.asked.family.quality,
        question=row.asked.text,
        answer=row.answer,
        correction=text,
        before=Score(before.good, ""),
        after=Score(after.good, "read"),
        opinions=tuple(Opinion("oracle", quality, _preference(before, after, quality)) for quality in QUALITIES),
        tokens=11,
        seconds={"answer": 0.25, "correct": 0.125},
    )


def reported(cases: Iterable[Case], *, overlaps: Sequence[Overlapped] = (), **changed: Any) -> Report:
    """A report of these cases."""
    held = list(cases)
    tasks = dict.fromkeys(case.task for case in held if case.before)
    given: dict[str, Any] = {
        "title": "What changed?",
        "evidence": weigh(held),
        "cases": held,
        "overlaps": overlaps,
        "measures": dict.fromkeys(tasks, "as the oracle sees it"),
        "provenance": provenance(),
        "closed_world": True,
    }
    return Report(**{**given, **changed})


def provenance(**changed: Any) -> Provenance:
    """Where such a report comes from."""
    given: dict[str, Any] = {
        "command": "aligner evaluate --config runs/evaluation/config.toml",
        "aligner": "demo",
        "fingerprint": "f00",
        "upstreams": {"careless": "world:careless"},
        "judges": [{"name": "oracle"}],
        "files": {"world.jsonl": "ab12"},
        "versions": {"python": "3.11"},
        "seed": 0,
    }
    return Provenance(**{**given, **changed})


def hostile_cases() -> list[Case]:
    """Whatever a text, a name or a judge may hold."""
    base = Case(
        upstream=HOSTILE,
        task="=cmd|' /C calc'!A0 <b>",
        item=HOSTILE,
        category=HOSTILE,
        question=(Message("system", HOSTILE), Message("user", HOSTILE)),
        answer=HOSTILE,
        correction=HOSTILE.replace("Paris", "Lutetia <script>window.acted = 1</script>"),
        before=Score(True, HOSTILE),
        after=Score(False, HOSTILE),
        opinions=(Opinion(HOSTILE, "helpful", 0.0, said=HOSTILE), Opinion(HOSTILE, HOSTILE, 1.0, parsed=False)),
    )
    other = replace(base, item="2", correction=HOSTILE, kept_reason=HOSTILE, upstream="x" * 300, category="y" * 300)
    return [base, other, replace(base, item="3", answer=HOSTILE * 200, correction="")]


def hostile_report() -> Report:
    """A report in which nothing is well meant."""
    made = provenance(
        command=HOSTILE, upstreams={HOSTILE: HOSTILE}, files={HOSTILE: HOSTILE}, judges=[{HOSTILE: [HOSTILE]}]
    )
    overlaps = [Overlapped(HOSTILE, HOSTILE, 4, 2, 1, {HOSTILE: 2})]
    measures = {"=cmd|' /C calc'!A0 <b>": HOSTILE}
    return reported(hostile_cases(), overlaps=overlaps, title=HOSTILE, provenance=made, measures=measures)


def _preference(before: Marks, after: Marks, quality: Any) -> float:
    return 0.5 + 0.5 * (after.of(quality) - before.of(quality))
