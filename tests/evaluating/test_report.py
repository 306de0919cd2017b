"""Laws of the report: its files say the same, the same cases give the same bytes, and texts in it are only read."""

import csv
import re
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from reported import HOSTILE, hostile_cases, hostile_report, reported, world_cases

from aligner.evaluating.cases import Case, Opinion
from aligner.evaluating.content import Overlapped, Report
from aligner.evaluating.examples import QUOTAS, outcome_of
from aligner.evaluating.figures import evidence_of
from aligner.evaluating.report import summary, write_report
from aligner.tasks import Score

FILES = ("report.html", "report.json", "report.csv", "report.md")
HIDDEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\U000e0000-\U000e0fff]"
)
OPINIONS = st.lists(
    st.builds(
        Opinion,
        st.just("judge"),
        st.sampled_from(["helpful", "harmless"]),
        st.sampled_from([0.0, 0.3, 0.5, 1.0]),
        flipped=st.booleans(),
        parsed=st.booleans(),
    ),
    max_size=2,
    unique_by=lambda opinion: opinion.quality,
)
TEXTS = st.sampled_from(["", "one two", "one three", "a wholly other text", HOSTILE])
SCORES = st.builds(Score, st.booleans(), st.just("7"))
CASES = st.builds(
    Case,
    upstream=st.sampled_from(["one", "two"]),
    task=st.sampled_from(["gsm8k", "xstest"]),
    item=st.integers(0, 5).map(str),
    category=st.sampled_from(["", "safe: figurative", "unsafe: contrast"]),
    question=TEXTS,
    answer=TEXTS,
    correction=TEXTS,
    kept_reason=st.none() | st.just("too long"),
    before=SCORES,
    after=SCORES,
    opinions=OPINIONS.map(tuple),
    tokens=st.integers(0, 9),
    seconds=st.fixed_dictionaries({"answer": st.floats(0, 9), "correct": st.floats(0, 9)}),
)


def written(folder: Path, report: Report) -> dict[str, str]:
    """What each file says."""
    folder.mkdir(exist_ok=True)
    write_report(folder, report)
    assert sorted(path.name for path in folder.iterdir()) == sorted(FILES)
    return {name: (folder / name).read_text(encoding="utf-8") for name in FILES}


@settings(max_examples=10)
@given(cases=st.lists(CASES, min_size=1, max_size=8), other=st.floats(0, 9))
def test_files_hold_the_evidence_and_nothing_else_changes(
    tmp_path_factory: pytest.TempPathFactory, cases: list[Case], other: float
) -> None:
    """The JSON reads back as the evidence; other times change `timed` and no other byte of it."""
    folder = tmp_path_factory.mktemp("report")
    report = reported(cases, overlaps=[Overlapped("one", "gsm8k", 3, 1, 2, {"targets": 1})])
    found = orjson.loads(written(folder, report)["report.json"])
    assert evidence_of(found) == report.evidence
    again = reported([replace(case, seconds={"answer": other, "correct": other}) for case in cases])
    later = orjson.loads(written(folder, replace(again, overlaps=report.overlaps))["report.json"])
    assert found.pop("timed") is not None
    assert later.pop("timed") is not None
    assert orjson.dumps(found) == orjson.dumps(later)


class Figures(HTMLParser):
    """The cells of a page that hold figures, by what they belong to."""

    def __init__(self) -> None:
        super().__init__()
        self.rows: dict[str, list[dict[str, int]]] = defaultdict(list)
        self.totals: dict[str, int] = {}
        self.kinds: list[str] = []
        self._figure = self._total = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        if "data-kind" in given:
            self.kinds.append(given["data-kind"])
            self.rows[given["data-kind"]].append({})
        self._figure, self._total = given.get("data-figure", ""), given.get("data-total", "")

    def handle_data(self, data: str) -> None:
        if self._figure:
            self.rows[self.kinds[-1]][-1][self._figure] = int(data.replace(",", ""))
        if self._total:
            self.totals[self._total] = int(data.replace(",", ""))
        self._figure = self._total = ""


def figures_of(html: str) -> Figures:
    """The figures of a page."""
    found = Figures()
    found.feed(html)
    return found


def expected(found: Mapping[str, Any]) -> dict[str, list[dict[str, int]]]:
    """The same, as the JSON has them."""
    counts = ("losses", "wins", "ties")
    judged = [
        {**{name: row[name] for name in counts}, "total": sum(row[name] for name in counts)} for row in found["judged"]
    ]
    pairs = [row["pairs"] for row in found["marked"]]
    marked = [
        {
            "broken": pair["broken"],
            "fixed": pair["fixed"],
            "before": pair["broken"] + pair["both_right"],
            "after": pair["fixed"] + pair["both_right"],
            "total": sum(pair.values()),
        }
        for pair in pairs
    ]
    edited = [{name: row["changes"][name] for name in ("identical", "total")} for row in found["edited"]]
    overlap = [{name: row[name] for name in ("flagged", "copied", "counted")} for row in found["overlaps"]]
    return {"judged": judged, "marked": marked, "edited": edited, "overlap": overlap}


def test_each_count_of_the_page_is_that_of_the_json(tmp_path: Path) -> None:
    """Judged, marked, edited and overlapping answers, and the kinds of examples."""
    overlaps = [Overlapped("careless", "world", 1200, 3, 1100, {"targets": 3})]
    files = written(tmp_path, reported(world_cases("careless", "timid", count=40), overlaps=overlaps))
    found, page = orjson.loads(files["report.json"]), figures_of(files["report.html"])
    # Cells of the same upstream stand together in the page.
    page.rows["judged"].sort(key=lambda row: sorted(row.items()))
    wanted = expected(found)
    wanted["judged"].sort(key=lambda row: sorted(row.items()))
    assert dict(page.rows) == wanted
    assert page.totals == found["outcomes"]
    assert sum(found["outcomes"].values()) == 80
    assert found["marked"][0]["pairs"]["broken"] > 0


def test_an_aligner_that_changes_nothing_is_told_so(tmp_path: Path) -> None:
    """Nothing broken, nothing fixed, a net rate of 0, all answers untouched."""
    report = reported(world_cases("careless", count=20, breaks=0, mends=False))
    files = written(tmp_path, report)
    assert "broke 0 and fixed 0: 0.0 points (95 % CI 0.0 to 0.0);" in summary(report)
    assert "it left 100\u00a0% untouched; +0.12\u00a0s median." in summary(report)
    for name in ("report.html", "report.md"):
        assert "broke 0 and fixed 0" in files[name], name
        assert "100\u00a0%" in files[name], name
    rows = list(csv.DictReader(files["report.csv"].splitlines()))
    values = {row["name"]: float(row["value"]) for row in rows if row["kind"] in ("judged", "marked", "edited")}
    assert (values["net rate"], values["broken"], values["fixed"], values["untouched"]) == (0, 0, 0, 1)
    assert figures_of(files["report.html"]).totals == {outcome: 20 * (outcome == "untouched") for outcome in QUOTAS}


def test_what_was_broken_comes_first(tmp_path: Path) -> None:
    """In the verdict, in the tables, and among the examples."""
    report = reported(world_cases("careless", count=40))
    files = written(tmp_path, report)
    assert re.search(r"broke \d+ and fixed \d+", summary(report))
    assert files["report.html"].index(">Broken<") < files["report.html"].index(">Fixed<")
    outcomes = re.findall('data-outcome="([a-z]+)"', files["report.html"])
    assert outcomes == sorted(outcomes, key=list(QUOTAS).index)
    assert outcomes[0] == "broken"
    assert outcomes == [example["outcome"] for example in orjson.loads(files["report.json"])["examples"]]


def test_many_upstreams_are_told_together(tmp_path: Path) -> None:
    """One sentence a task and a judge, which counts upstreams that are better or worse beyond chance."""
    report = reported(world_cases("careless", "timid", "reckless", "surly", "boastful", count=40, breaks=0))
    told = summary(report)
    assert re.search(
        r"On 200 world answers of 5 upstreams the Aligner broke 0 and fixed \d+: better on all 5 \(Holm", told
    )
    assert told.count("oracle") == 1
    assert "better on all 5" in written(tmp_path, report)["report.md"]


def test_the_closed_world_is_called_by_its_name(tmp_path: Path) -> None:
    """In the title, beside each table, and in what goes to a pull request and a terminal; and nowhere else."""
    report = reported(world_cases("careless"))
    inside, outside = written(tmp_path / "in", report), written(tmp_path / "out", replace(report, closed_world=False))
    headings = re.findall("<h2>.*?</h2>", inside["report.html"])
    assert len(headings) > 5
    assert all("closed world" in heading for heading in headings)
    assert "<title>What changed? (closed world)</title>" in inside["report.html"]
    assert all("closed world" in text.lower() for text in (inside["report.md"], summary(report)))
    assert all("closed world" not in outside[name].lower() for name in ("report.html", "report.md", "report.csv"))


class Tags(HTMLParser):
    """The names of all tags and attributes of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs if not name.startswith("data-")}


def tags_of(page: str) -> tuple[set[str], set[str]]:
    """The names of all tags and attributes of a page."""
    found = Tags()
    found.feed(page)
    return found.tags, found.attributes


def test_hostile_texts_are_only_text(tmp_path: Path) -> None:
    """No tag of theirs is a tag, nothing hidden is left, no name is a formula, a mention or a link."""
    files = written(tmp_path / "hostile", hostile_report())
    tags, attributes = tags_of(files["report.html"])
    assert not tags & {"img", "iframe", "base", "object", "link"}
    assert not [name for name in attributes if name.startswith("on") or name in ("style", "src", "srcdoc")]
    assert files["report.html"].count("<script") == files["report.html"].count("<style") == 1
    for name in ("report.html", "report.csv", "report.md"):
        assert not HIDDEN.search(files[name]), name
    assert not re.search(r"(^|,)\"?[=+@]", files["report.csv"], flags=re.MULTILINE)
    read = MarkdownIt("commonmark").enable("table").parse(files["report.md"])
    tokens = [part for token in read for part in (token, *(token.children or ()))]
    assert not {token.type for token in tokens} & {"html_inline", "html_block", "link_open", "image", "blockquote"}
    assert [token.tag for token in tokens if token.type == "heading_open"] == ["h2"]
    assert not any("@" in token.content for token in tokens if token.type == "text")
    widths = [line.count("|") - line.count("\\|") for line in files["report.md"].splitlines() if line.startswith("|")]
    assert set(widths) == {11, 13, 6}


def test_private_texts_stay_out(tmp_path: Path) -> None:
    """Where texts are withheld, what was read out of them and what judges said of them is, too."""
    [case, *_] = world_cases("careless")
    secret = replace(
        case,
        is_private=True,
        question="canary-4",
        answer="canary-5",
        correction="canary-6",
        before=Score(True, "canary-1"),
        after=Score(False, "canary-2"),
        opinions=(Opinion("judge", "helpful", 0.0, said="canary-3"),),
    )
    files = written(tmp_path, reported([secret]))
    assert "withheld" in files["report.html"]
    assert "canary" not in "".join(files.values())
    assert orjson.loads(files["report.json"])["outcomes"]["broken"] == 1


def test_a_page_stays_small(tmp_path: Path) -> None:
    """It has less than 2 MB for 50,000 cases with long hostile texts, and holds some of each kind and upstream."""
    [first, *_] = world_cases("careless")
    long = [
        replace(
            hostile_cases()[0],
            upstream=f"upstream {number % 7}",
            task="world",
            item=str(number),
            answer=f"{number} {HOSTILE * 3}",
        )
        for number in range(120)
    ]
    short = [replace(first, item=str(number), upstream=f"upstream {number % 11}") for number in range(49_880)]
    files = written(tmp_path, replace(reported(world_cases("careless")), cases=[*long, *short]))
    assert len(files["report.html"].encode()) < 2_000_000
    assert len(files["report.json"].encode()) < 4_000_000
    shown = re.findall('data-outcome="([a-z]+)" data-upstream="(.*?)"', files["report.html"])
    assert {upstream for _, upstream in shown if upstream} >= {f"upstream {number}" for number in range(7)}
    assert len(shown) >= 50


def test_the_worse_verdict_counts() -> None:
    """Right and wrong come before judges, and judges before whether anything changed."""
    [case, *_] = world_cases("careless", count=1, breaks=0)
    case = replace(case, answer="a", correction="b", before=None, after=None)
    loss, win, tie = (Opinion("judge", "helpful", preference) for preference in (0.0, 1.0, 0.5))
    right, wrong = Score(True, ""), Score(False, "")
    assert outcome_of(replace(case, opinions=(win,), before=right, after=wrong)) == "broken"
    assert outcome_of(replace(case, opinions=(loss,), before=wrong, after=right)) == "fixed"
    assert outcome_of(replace(case, opinions=(loss, loss, win))) == "worse"
    assert outcome_of(replace(case, opinions=(win, tie))) == "better"
    assert outcome_of(replace(case, opinions=(win, loss))) == "changed"
    assert outcome_of(replace(case, correction="a", kept_reason="too long")) == "kept"
    assert outcome_of(replace(case, correction="a")) == "untouched"
