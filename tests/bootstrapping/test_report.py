"""Laws of the report of a study: its files say the same, names are only read, and nothing in it is not a number."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from html import unescape
from itertools import takewhile
from math import inf, nan
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from reported import HOSTILE

from aligner.bootstrapping.nouns import Found, Guard, Verdict
from aligner.bootstrapping.report import RoundShown, write_report
from aligner.bootstrapping.rounds import Run, has_ended
from aligner.bootstrapping.wording import net, number, share
from aligner.config.bootstrapping import BootstrapArm, BootstrapConfig, BootstrapGuards
from aligner.evaluating.tables import CLOSED_WORLD
from aligner.scoring.intervals import Interval, mean_interval
from aligner.scoring.pairs import gain
from aligner.scoring.shares import wilson

FILES = ("curves.svg", "report.html", "report.json", "report.md")
ROLLED_BACK = Verdict(
    accepted=False,
    guards=(Guard("chosen", 0.31, "at most 0.1", tripped=True, why="The log-likelihood fell by 0.310 nats."),),
    why="The log-likelihood fell by 0.310 nats.",
)
NOTED = ROLLED_BACK._replace(accepted=True, why=f"Accepted as all are; the guards say: {ROLLED_BACK.why}")
ACCEPTED = Verdict(accepted=True, guards=(), why="It gained.")


def config(*arms: str, seeds: Sequence[int] = (0, 1, 2), **changed: Any) -> BootstrapConfig:
    """A study of these arms."""
    given: dict[str, Any] = {
        "upstream": "demo",
        "prompts": "world:10",
        "held_out": "world:5",
        "judge": "world:",
        "oracle": "world",
        "seeds": tuple(seeds),
        "arms": tuple(BootstrapArm(name=name) for name in arms),
    }
    return BootstrapConfig(**(given | changed))


def around(value: float, half: float = 0.03) -> Interval:
    """An interval around a value."""
    return Interval(value, value - half, value + half)


def a_round(arm: str, seed: int, place: int, verdict: Verdict = ACCEPTED, **changed: Any) -> RoundShown:
    """A round whose figures are all different from one another."""
    value = 0.5 + 0.1 * place + 0.013 * seed
    given: dict[str, Any] = {
        "good": around(value),
        "good_greedy": value + 0.02,
        "net": {"helpful": around(0.101), "all": around(0.103 + 0.01 * seed)} if place else {},
        "net_first": {"helpful": around(0.2 * place), "all": around(0.107 * place + 0.001 * seed)} if place else {},
        "chosen": -1.5 + 0.1 * place if place else nan,
        "chosen_before": -1.6 if place else nan,
        "length": 1.01 + 0.02 * place,
        "kl": 0.11 * place,
        "refusals": 0.011 * (1 + place),
    }
    return RoundShown(
        arm,
        seed,
        place,
        Found(**(given | changed)),
        verdict,
        fates={"learnt": 40 + place, "cut off": 2} if place else {},
        audit="On 90.0 % of 20 decisions people and the gate agree." if place else "",
        model=f"{seed}{place}" * 32,
        upstream=f"{seed}{place - 1}" * 16 if place else "",
    )


def study(*arms: str, seeds: Sequence[int] = (0, 1, 2), rounds: int = 3) -> list[RoundShown]:
    """Rounds of which the last of seed 1 is rolled back."""
    later = [
        a_round(arm, seed, place, ROLLED_BACK if (seed, place) == (1, rounds) else ACCEPTED)
        for arm in arms
        for seed in seeds
        for place in range(1, rounds + 1)
    ]
    return [*(a_round("", seed, 0) for seed in seeds), *later]


def marked(one: RoundShown) -> RoundShown:
    """The same with marks of 200 answers, of which each round has some more that are good."""
    good = "".join("01"[(7 * place + one.seed) % 20 < 8 + 4 * one.number] for place in range(200))
    alone = Interval(good.count("1") / len(good), *(wilson(good.count("1"), len(good)) or ()))
    return one._replace(found=one.found._replace(good=alone, figures={"good_marks": good}))


def written(folder: Path, settings: BootstrapConfig, rounds: Sequence[RoundShown]) -> dict[str, str]:
    """What each file says."""
    folder.mkdir(exist_ok=True)
    write_report(folder, settings, rounds)
    assert sorted(path.name for path in folder.iterdir()) == sorted(FILES)
    return {name: (folder / name).read_text(encoding="utf-8") for name in FILES}


def html_cells(page: str) -> list[list[str]]:
    """The rows of all tables of a page."""
    rows = re.findall(r"<tr>(.*?)</tr>", page, re.DOTALL)
    return [[unescape(cell) for cell in re.findall(r"<t[dh][^>]*>(.*?)</t[dh]>", row, re.DOTALL)] for row in rows]


def markdown_cells(text: str) -> Iterator[list[str]]:
    """The rows of all tables of a Markdown text, as a reader sees them."""
    row = list[str]()
    for token in MarkdownIt("commonmark").enable("table").parse(text):
        if token.type == "tr_open":
            row = []
        elif token.type == "inline" and token.level == 4:
            row.append("".join(child.content for child in token.children or []))
        elif token.type == "tr_close":
            yield row


def test_files_hold_the_same_figures(tmp_path: Path) -> None:
    """Every table of the page stands in the Markdown cell by cell, and its figures are those of the JSON."""
    said = written(tmp_path, config("sft", "dpo"), study("sft", "dpo"))
    cells = html_cells(said["report.html"])
    assert cells == list(markdown_cells(said["report.md"]))
    rows = {tuple(row[:3]): row for row in cells if len(row) == 12}
    found = orjson.loads(said["report.json"])
    assert len(found["rounds"]) == 3 + 2 * 3 * 3
    for one in found["rounds"]:
        row = rows[(one["arm"] or "all", str(one["seed"]), str(one["round"]))]
        assert row[3] == share(Interval(**one["found"]["good"]))
        assert row[8:10] == [number(one["found"]["length"]), number(one["found"]["kl"], 3)]
        if one["round"]:
            assert row[6] == net(Interval(**one["found"]["net_first"]["all"]))
            assert row[11].startswith("accepted" if one["verdict"]["accepted"] else "rolled back: The log-likelihood")
    for curve in found["curves"]:
        for point in curve["points"]:
            told = share(Interval(**point["figure"]))
            assert [curve["arm"], str(point["round"])] in [row[:2] for row in cells if row[-1] == told]
            assert told in said["report.html"].split("<main>")[1].split("</figure>")[0]
    for one in found["verdict"]:
        assert one["text"] in said["report.md"]
        assert one["text"] in said["report.html"]


def test_the_curve_is_that_of_the_upstreams_that_stand(tmp_path: Path) -> None:
    """After a round that was rolled back the last accepted upstream stands, and what was gained is counted from it."""
    said = written(tmp_path, config("sft", seeds=(1,)), study("sft", seeds=(1,)))
    found = orjson.loads(said["report.json"])
    values = [point["figure"]["value"] for point in found["curves"][0]["points"]]
    assert values == pytest.approx([0.513, 0.613, 0.713, 0.713])
    assert found["verdict"][0]["gain"]["value"] == pytest.approx(0.2)
    assert found["verdict"][0]["text"].endswith("51.3 % to 71.3 % of answers good, 1 seed. Rolled back: 1 of 3.")
    assert found["verdict"][0]["caught"] == [f"round 3 of seed 1: rolled back: {ROLLED_BACK.why}"]


def test_the_mean_goes_as_far_as_all_seeds_have_come(tmp_path: Path) -> None:
    """A seed that is still at work ends the mean; one that a guard ended stands where it stood."""
    rounds = study("sft")
    running = [one for one in rounds if (one.seed, one.number) not in ((0, 2), (0, 3))]
    ended = [
        one._replace(verdict=ROLLED_BACK) if one.seed == 0 and one.number else one
        for one in rounds
        if (one.seed, one.number) not in ((0, 2), (0, 3))
    ]
    for case, last in ((running, 1), (ended, 3)):
        points = orjson.loads(written(tmp_path, config("sft"), case)["report.json"])["curves"][0]["points"]
        assert [point["round"] for point in points] == list(range(last + 1))
        assert {point["seeds"] for point in points} == {3}


def test_what_was_accepted_all_the_same_is_told(tmp_path: Path) -> None:
    """An arm that accepts always has its rounds, and what the guards would have said of them."""
    rounds = [a_round("", 0, 0), a_round("naive", 0, 1, NOTED)]
    said = written(tmp_path, config("naive", seeds=(0,)), rounds)
    assert orjson.loads(said["report.json"])["verdict"][0]["gain"]["value"] == pytest.approx(0.1)
    for name in ("report.html", "report.md"):
        assert f"round 1 of seed 0: {NOTED.why}" in said[name]
        assert "Rolled back: 0 of 1." in said[name]


@pytest.mark.parametrize(
    ("rounds", "told"),
    [
        ([], "no round is finished."),
        (study("sft", rounds=0), "no round is finished."),
        ([a_round("", 0, 0), a_round("sft", 0, 1, ROLLED_BACK)], "nothing was gained: no round was accepted"),
        ([a_round("sft", 0, 1)], "no round is finished."),
    ],
    ids=["nothing", "round 0 alone", "all rolled back", "no round 0"],
)
def test_a_study_may_have_come_to_little(tmp_path: Path, rounds: Sequence[RoundShown], told: str) -> None:
    """A report says so where no round is finished, or none was accepted."""
    said = written(tmp_path, config("sft", seeds=(0,)), rounds)
    assert told in said["report.html"]
    assert told in said["report.md"]
    assert orjson.loads(said["report.json"])["verdict"][0]["text"].startswith(told)


def test_without_an_oracle_the_judge_is_shown(tmp_path: Path) -> None:
    """Where nothing marks answers, the curve is the net rate against round 0, and no world is spoken of."""
    rounds = [one._replace(found=one.found._replace(good=None, good_greedy=None)) for one in study("sft")]
    said = written(tmp_path, config("sft", oracle=""), rounds)
    found = orjson.loads(said["report.json"])
    assert found["curves"][0]["of"] == "net_first"
    values = [point["figure"]["value"] for point in found["curves"][0]["points"]]
    assert values == pytest.approx([0, 0.108, 0.215, (0.321 + 0.215 + 0.323) / 3])
    assert found["verdict"][0]["gain"] == found["curves"][0]["points"][-1]["figure"]
    assert "Net rate against round 0 after each round" in said["report.html"]
    assert not any("closed world" in text for text in said.values())
    assert CLOSED_WORLD in written(tmp_path, config("sft"), study("sft"))["report.md"]


def test_what_is_no_number_is_not_written(tmp_path: Path) -> None:
    """Figures that are missing or infinite are none in the tables, null in the JSON, and nowhere in the charts."""
    broken = a_round("sft", 0, 1, ROLLED_BACK, chosen=-inf, length=nan, kl=nan, refusals=nan, good_greedy=None)
    missing = a_round("sft", 0, 2, net={}, net_first={"all": Interval(nan, nan, nan)}, good=None)
    guard = ROLLED_BACK.guards[0]._replace(figure=inf)
    broken = broken._replace(verdict=ROLLED_BACK._replace(guards=(guard,)))
    first = a_round("", 0, 0, length=nan, kl=nan, refusals=nan)
    for oracle in ("world", ""):
        rounds = [first, broken, missing]
        if not oracle:
            rounds = [one._replace(found=one.found._replace(good=None)) for one in rounds]
        said = written(tmp_path, config("sft", seeds=(0,), oracle=oracle), rounds)
        for text in said.values():
            assert not re.search(r"\b(nan|inf)\b", text, re.IGNORECASE)
        assert orjson.loads(said["report.json"])["rounds"][1]["verdict"]["guards"][0]["figure"] is None


def test_names_are_only_read(tmp_path: Path) -> None:
    """Whatever an arm, a model or a reason is called, it is no mark-up in the page or in the Markdown."""
    why = ROLLED_BACK._replace(why=HOSTILE, guards=(ROLLED_BACK.guards[0]._replace(name=HOSTILE, why=HOSTILE),))
    hostile = [a_round("", 0, 0), a_round(HOSTILE, 0, 1, why)._replace(audit=HOSTILE, model=HOSTILE)]
    settings = config(HOSTILE, seeds=(0,), upstream=HOSTILE, aligners=(HOSTILE,), judge=HOSTILE)
    said = written(tmp_path, settings, hostile)
    assert set(re.findall(r"<(\w+)", said["report.html"])) <= {
        *("html", "head", "meta", "title", "style", "body", "header", "main", "section", "figure", "figcaption"),
        *(
            "details",
            "summary",
            "p",
            "h1",
            "h2",
            "h3",
            "b",
            "span",
            "div",
            "ul",
            "li",
            "table",
            "thead",
            "tbody",
            "tr",
            "th",
            "td",
        ),
        *("svg", "line", "path", "text"),
    }
    kinds = {
        child.type
        for token in MarkdownIt("commonmark").enable("table").parse(said["report.md"])
        for child in token.children or []
    }
    assert kinds <= {"text", "code_inline", "softbreak"}
    assert "@everyone" not in re.sub(r"`[^`\n]*`|`` .*? ``", "", said["report.md"])


def test_the_same_rounds_give_the_same_bytes(tmp_path: Path) -> None:
    """In whatever order they come, no byte of a report differs."""
    rounds = study("sft", "dpo")
    before = written(tmp_path, config("sft", "dpo"), rounds)
    assert written(tmp_path, config("sft", "dpo"), rounds[:3] + rounds[3:][::-1]) == before


@given(st.lists(st.booleans(), max_size=9), st.integers(0, 4))
def test_an_arm_ends_when_patience_does(verdicts: list[bool], patience: int) -> None:
    """An arm ends after so many rounds in a row that were rolled back, and without such a number never."""
    latest = list(takewhile(lambda accepted: not accepted, reversed(verdicts)))
    assert has_ended(verdicts, patience) == (patience > 0 and len(latest) >= patience)
    rounds = [a_round("sft", 0, i + 1, ACCEPTED if one else ROLLED_BACK) for i, one in enumerate(verdicts)]
    run = Run(0, a_round("", 0, 0), rounds)
    assert run.has_come_to(len(verdicts) + 1, patience) == has_ended(verdicts, patience)
    assert run.has_come_to(len(verdicts), patience)


def test_a_round_that_learnt_nothing_is_not_the_last_trained(tmp_path: Path) -> None:
    """The ways of learning are compared by rounds that have a model, whatever came after them."""
    nothing = Found(None, None, {}, {}, nan, nan, nan, nan, nan)
    rounds = [*study("sft", seeds=(0,), rounds=1), RoundShown("sft", 0, 2, nothing, ROLLED_BACK)]
    said = written(tmp_path, config("sft", seeds=(0,)), rounds)
    (row,) = [row for row in html_cells(said["report.html"]) if row[:2] == ["sft", "SFT"]]
    assert row == ["sft", "SFT", net(around(0.2)), net(around(0.107)), "1 of 1"]


def test_gains_are_of_the_same_prompts(tmp_path: Path) -> None:
    """With each answer's mark, what was gained has the interval of pairs, and the mean that of prompts with all seeds.

    It is narrower than that of two shares measured apart, which stands where a single mark is missing.
    """
    rounds = [marked(one) for one in study("sft", rounds=1)]
    gains, curves = list[Interval](), list[Interval]()
    for case in (rounds, [*rounds[:-1], rounds[-1]._replace(found=rounds[-1].found._replace(figures={}))]):
        found = orjson.loads(written(tmp_path, config("sft"), case)["report.json"])
        gains.append(Interval(**found["verdict"][0]["gain"]))
        curves.append(Interval(**found["curves"][0]["points"][1]["figure"]))
    paired, apart = gains
    firsts, lasts = ([one.found.figures["good_marks"] for one in some] for some in (rounds[:3], (*rounds[3:],)))
    # The last of seed 1 was rolled back, so that its upstream is the first one.
    lasts[1] = firsts[1]
    before, after = ([mark == "1" for one in some for mark in one] for some in (firsts, lasts))
    assert paired == gain(before, after, [*range(200)] * 3)
    assert 0 < paired.high - paired.low < apart.high - apart.low
    assert curves[0] == mean_interval([float(one) for one in after], [*range(200)] * 3)


def test_a_guard_that_is_off_has_no_bound(tmp_path: Path) -> None:
    """The dashed lines are those of guards that are on: two for length, one for each other."""
    settings = config("sft")
    assert written(tmp_path, settings, study("sft"))["report.html"].count('class="bound"') == 5
    off = BootstrapGuards(chosen=0, shortest=0, longest=0, kl=0, refusals=0)
    page = written(tmp_path, replace(settings, guards=off), study("sft"))["report.html"]
    assert 'class="bound"' not in page


def test_the_page_can_be_read_anywhere(tmp_path: Path) -> None:
    """On a phone of 360 pixels as on a desk: nothing is wider than the window, loaded, or wrong on the console."""
    from browser import SCHEMES, chromium
    from playwright.sync_api import sync_playwright

    arms = ("sft", "dpo", "a-very-long-name-of-an-arm-without-any-space-in-it-whatsoever-and-more")
    written(tmp_path, config(*arms), study(*arms))
    problems, place = list[str](), (tmp_path / "report.html").as_uri()
    with sync_playwright() as started:
        opened = started.chromium.launch(executable_path=chromium(), args=["--no-sandbox"])
        for scheme in SCHEMES:
            page = opened.new_context(color_scheme=scheme, viewport={"width": 360, "height": 800}).new_page()
            page.on("console", lambda line: problems.append(f"{line.type}: {line.text}"))
            page.on("pageerror", lambda error: problems.append(f"an error: {error}"))
            page.on("request", lambda request: problems.append(request.url))
            page.goto(place)
            page.evaluate("document.querySelectorAll('details').forEach((one) => (one.open = true))")
            for width in (360, 1440):
                page.set_viewport_size({"width": width, "height": 800})
                assert page.evaluate("document.documentElement.scrollWidth") <= width
            assert page.locator("svg[role=img]").count() == 5
        opened.close()
    assert problems == [place] * len(SCHEMES)


def test_the_picture_stands_alone(tmp_path: Path) -> None:
    """The curves are a whole SVG by themselves: well formed, with every arm by name, and nothing that runs or loads."""
    picture = ET.fromstring(written(tmp_path, config("sft", "<script>"), study("sft"))["curves.svg"])  # noqa: S314  # ours
    assert picture.tag == "{http://www.w3.org/2000/svg}svg"
    texts = {text.text for text in picture.iter("{http://www.w3.org/2000/svg}text")}
    assert {"sft", "<script>"} <= texts
    assert not list(picture.iter("{http://www.w3.org/2000/svg}script"))
    assert "http" not in (tmp_path / "curves.svg").read_text().replace("http://www.w3.org/2000/svg", "")
