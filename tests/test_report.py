"""Laws of the shadow report: its figures are those of the log, and its page is text and nothing but text."""

import asyncio
import hashlib
import json
import math
import re
import shutil
import subprocess
import tracemalloc
from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import closing
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from random import Random
from typing import Any

import aiohttp
import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st
from logged_rows import ROW, row
from postgresql import running_server
from proxies import Got, ask, proxied

from aligner.cli import main
from aligner.config import ExportConfig, ReportConfig
from aligner.export import export
from aligner.report import report
from aligner.scoring.shares import wilson
from aligner.serving.database import place_of
from aligner.serving.logged import Feedback, Logged, Verdict, reduced
from aligner.serving.shadow.checklist import Counted, checklist
from aligner.serving.shadow.figures import BINS, SAMPLES, Seen, Tally
from aligner.serving.shadow.rows import ShadowRows
from aligner.serving.shadow.sketch import Sketch
from aligner.serving.shadow.word_diff import pieces_of, shown
from aligner.serving.store import Store

HOSTILE = (
    "<script>document.title='RAN'</script><img src=x onerror=\"document.title='RAN'\"></p></main>"
    "{{ 7 * 7 }}{% raw %}\x00\x1b[31m\u202e\u2066\ufeff\ud800 It is 3."
)


def logged(database: str, rows: Iterable[Logged], feedback: Iterable[Feedback] = ()) -> str:
    """A log with these rows; gives the database."""
    with closing(Store(place_of(database))) as store:
        assert store.write(list(rows)) == 0
        assert all(map(store.add_feedback, feedback))
        store.open()
    return database


def shadowed(number: int, **given: Any) -> Logged:
    """A row of mode shadow."""
    return row(number, mode="shadow", **given)


def said(one: Logged, verdict: Verdict, user: str = "ann") -> Feedback:
    """What somebody thinks of a row."""
    return Feedback(id=one.id, verdict=verdict, user=user, created=1.0)


def some_rows(count: int, seed: int = 1) -> list[Logged]:
    """Rows of mode shadow as they come in a day."""
    random = Random(seed)
    return [
        shadowed(
            number,
            changed=(changed := random.random() < 0.3),
            edit_share=random.random() if changed else 0.0,
            confidence=random.choice([None, random.random()]),
            model=random.choice(["small", "large"]),
            skipped=random.choice([None, None, "tools"]),
            bypass=random.choice([None, None, None, "timeout"]),
            seconds={"upstream": random.expovariate(1), "correct": random.expovariate(5)},
            conversation=f"talk {number // 3}",
        )
        for number in range(count)
    ]


def figures_of(database: str, mode: str = "shadow") -> dict[str, Any]:
    """The figures of a log as JSON."""
    with closing(ShadowRows(place_of(database), writable=False)) as rows:
        reading = rows.report(mode, None)
        try:
            while True:
                next(reading)
        except StopIteration as end:
            return json.loads(end.value.as_json)


def test_the_figures_are_those_of_the_log(tmp_path: Path) -> None:
    """Counts are exact, quantiles within two percent, and other modes' rows are none of them."""
    rows = some_rows(700)
    changes = [one for one in rows if one.changed]
    words = [said(changes[0], "accept"), said(changes[1], "reject"), said(changes[2], "edit")]
    words += [said(changes[3], "accept"), said(changes[3], "reject", "bob")]
    others = [row(number, conversation="other") for number in range(1000, 1005)]
    found = figures_of(logged(str(tmp_path / "log.db"), [*rows, *others], words))
    assert found["answers"] == 700
    assert (found["first"], found["last"]) == (rows[0].created, rows[-1].created)
    assert (found["changed"]["count"], found["changed"]["of"]) == (len(changes), 700)
    assert found["upstreams"] == dict(Counter(f"local {one.model}" for one in rows).most_common())
    assert found["bypass"] == {"timeout": sum(one.bypass is not None for one in rows)}
    assert found["tokens"] == {"completion_tokens": 2800, "prompt_tokens": 8400}
    assert found["verdicts"] == {"accept": 1, "disputed": 1, "edit": 1, "reject": 1}
    assert sum(found["histogram"]) == len(changes)
    for name, share in (("p50", 0.5), ("p90", 0.9), ("p99", 0.99)):
        exact = float(np.quantile([one.seconds["upstream"] for one in rows], share, method="inverted_cdf"))
        assert found["seconds"]["upstream"][name] == pytest.approx(exact, rel=0.02)
    read = [one.seconds["correct"] for one in rows if one.skipped is None]
    assert found["added"]["count"] == len(read)
    worst = sorted(changes, key=lambda one: one.edit_share, reverse=True)[:SAMPLES]
    assert [sample["id"] for sample in found["largest"]] == [one.id for one in worst]
    sure = [one for one in changes if one.confidence is not None]
    assert found["doubtful"][0]["id"] == max(sure, key=lambda one: one.confidence or 0).id
    assert figures_of(str(tmp_path / "log.db"), "any")["answers"] == 705


def test_postgresql_gives_the_same_figures(tmp_path: Path) -> None:
    """The report does not depend on the kind of database."""
    rows = some_rows(40)
    words = [said(one, "accept") for one in rows[:9]]
    with running_server() as server:
        there = figures_of(logged(server.new_schema(), rows, words))
    assert there == figures_of(logged(str(tmp_path / "log.db"), rows, words))


@given(st.lists(st.floats(1e-5, 1e5), min_size=1, max_size=60), st.floats(0, 1))
def test_a_sketch_is_within_a_percent(values: list[float], share: float) -> None:
    """Any quantile of any figures is near the true one, and the order of the figures does not matter."""
    one, other = Sketch(), Sketch()
    for value in values:
        one.add(value)
    for value in reversed(values):
        other.add(value)
    exact = sorted(values)[max(math.ceil(share * len(values)), 1) - 1]
    assert one.quantile(share) == pytest.approx(exact, rel=0.0101)
    assert one.quantile(share) == other.quantile(share)


@given(st.integers(1, 10_000).flatmap(lambda total: st.tuples(st.integers(0, total), st.just(total))))
def test_the_interval_is_wilsons(counts: tuple[int, int]) -> None:
    """The interval of a share is that of SciPy."""
    expected = scipy.stats.binomtest(*counts).proportion_ci(0.95, method="wilson")
    assert wilson(*counts) == pytest.approx((expected.low, expected.high), abs=1e-12)
    assert wilson(0, 0) is None


TEXT = st.text(st.sampled_from("ab .\n<&\u202e\x00\ud800é"), max_size=40)


@given(TEXT, TEXT)
def test_a_diff_holds_both_texts_and_no_sign_that_acts(answer: str, correction: str) -> None:
    """What stays and goes is the answer, what stays and comes the correction, and neither holds what is not seen."""
    pieces = pieces_of(answer, correction)
    assert "".join(piece.text for piece in pieces if piece.kind != "new") == shown(answer)
    assert "".join(piece.text for piece in pieces if piece.kind != "gone") == shown(correction)
    assert not re.search("[\x00\u202e\ud800]", "".join(piece.text for piece in pieces))


def test_a_diff_of_long_texts_is_short() -> None:
    """Of 100,000 characters what is near a change is shown, and how many are not."""
    pieces = pieces_of("word " * 20_000 + "old." + " tail" * 9_000, "word " * 20_000 + "new." + " tail" * 9_000)
    assert [piece.kind for piece in pieces] == ["cut", "same", "gone", "new", "same", "cut"]
    assert sum(len(piece.text) for piece in pieces) < 500
    assert "99,8" in pieces[0].text


def test_memory_is_flat() -> None:
    """Three times as many answers take no more memory, even where each names a model of its own."""
    peaks: list[int] = []
    for count in (5_000, 15_000):
        random, tally = Random(1), Tally("shadow")
        values: Any = {name: getattr(ROW, name) for name in Seen._fields}
        values |= {"changed": True, "usage": '{"tokens":1}'}
        tracemalloc.start()
        for number in range(count):
            seconds = f'{{"correct":{random.expovariate(1)}}}'
            made: Any = {"id": str(number), "model": str(number), "edit_share": random.random(), "seconds": seconds}
            tally.add(Seen(**{**values, **made}))
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.3 * peaks[0]


class Elements(HTMLParser):
    """The elements of a page, and where it would load something from."""

    def __init__(self) -> None:
        super().__init__()
        self.tags = Counter[str]()
        self.attributes = set[str]()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Count an element."""
        self.tags[tag] += 1
        self.attributes |= {name for name, _ in attrs}


def page(folder: Path, rows: Sequence[Logged], **given: Any) -> str:
    """The report on rows as the command writes it."""
    database = logged(str(folder / "log.db"), rows)
    report(ReportConfig(database=database, out=folder / "shadow.html", **given))
    return (folder / "shadow.html").read_text(encoding="utf-8")


def hostile_rows() -> list[Logged]:
    """Changes in whose every text there is something that would run."""
    texts = {"question": HOSTILE, "answer": HOSTILE + " old", "correction": HOSTILE + " new", "model": HOSTILE}
    return [shadowed(i, **texts, changed=True, aligner=HOSTILE, upstream=HOSTILE, skipped=HOSTILE) for i in range(3)]


def test_hostile_texts_are_text(tmp_path: Path) -> None:
    """Whatever models wrote, the page has its own elements only, loads nothing, and shows signs that act by number."""
    shown_page = page(tmp_path, hostile_rows())
    elements = Elements()
    elements.feed(shown_page)
    assert not elements.tags.keys() & {"script", "img", "iframe", "object", "link", "form", "a", "base"}
    assert not {name for name in elements.attributes if name.startswith("on")} | elements.attributes & {"src", "href"}
    assert "&lt;script&gt;" in shown_page
    assert "{{ 7 * 7 }}" in shown_page
    assert not re.search("[\x00\x1b\u202e\u2066\ufeff]", shown_page)
    assert "␛[31m⟦U+202E⟧⟦U+2066⟧⟦U+FEFF⟧⟦U+D800⟧" in shown_page
    assert "default-src &#39;none&#39;" in shown_page or "default-src 'none'" in shown_page


@pytest.mark.skipif(shutil.which("chromium") is None, reason="needs a browser: apt-get install chromium")
def test_nothing_runs_in_a_browser(tmp_path: Path) -> None:
    """A real browser opens the page and runs nothing of it."""
    page(tmp_path, hostile_rows())
    command = ["chromium", "--headless=new", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'browser'}"]
    address = (tmp_path / "shadow.html").as_uri()
    done = subprocess.run([*command, "--dump-dom", address], capture_output=True, text=True, timeout=120)
    assert "<title>Shadow report · aligner</title>" in done.stdout
    assert "RAN</title>" not in done.stdout


def test_without_texts_there_are_figures_and_a_line_that_says_so(tmp_path: Path) -> None:
    """Where the log keeps no content the report holds figures alone, and says why."""
    rows = [reduced(shadowed(number, changed=True), "hash" if number else "off") for number in range(9)]
    shown_page = page(tmp_path, rows)
    assert "Figures alone: the log keeps no texts (log_content hash and off)" in shown_page
    assert "The largest edits" not in shown_page
    assert "sha256:" not in shown_page


@pytest.mark.parametrize(
    ("rows", "flags", "line"),
    [
        ([], [], "nothing was logged in mode shadow; `aligner serve --mode shadow --log …` logs it"),
        ([ROW], [], "nothing was logged in mode shadow; `aligner serve --mode shadow --log …` logs it"),
        ([], ["--mode", "any"], "nothing was logged"),
        ([shadowed(1)], ["--since", "2030-01-01"], "nothing was logged in mode shadow since 2030-01-01"),
    ],
)
def test_a_log_with_nothing_to_report_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], rows: list[Logged], flags: list[str], line: str
) -> None:
    """An empty log, and one without rows of the mode or the time, is said in one line, and no page is made."""
    database = logged(str(tmp_path / "log.db"), rows)
    assert main(["report", database, "--out", str(tmp_path / "o.html"), *flags]) == 1
    assert f"aligner: {database}: {line}" in capsys.readouterr().err
    assert not (tmp_path / "o.html").exists()


SOUND = Counted(
    answers=2000,
    days=1.5,
    aligners=1,
    changed=200,
    large=5,
    bypassed=3,
    guarded=2,
    p90=0.4,
    verdicts={"accept": 95, "edit": 3, "reject": 2},
)


@pytest.mark.parametrize(
    ("changes", "states"),
    [
        ({}, {}),
        ({"answers": 100, "changed": 10}, {"Were enough answers seen?": "fail"}),
        ({"days": 0.2}, {"Was a whole day seen?": "look"}),
        ({"aligners": 2}, {"Do the figures speak of one Aligner?": "look"}),
        ({"bypassed": 150}, {"Does it answer?": "fail"}),
        ({"p90": 2.0}, {"Is it quick enough?": "look"}),
        ({"p90": None}, {"Is it quick enough?": "look"}),
        ({"guarded": 30}, {"Is what it writes sound?": "look"}),
        ({"large": 50}, {"Are its edits small?": "look"}),
        ({"verdicts": {}}, {"Did people look at its changes?": "fail", "Are its changes accepted?": "fail"}),
        ({"verdicts": {"accept": 50, "disputed": 10}}, {"Are its changes accepted?": "look"}),
        ({"verdicts": {"accept": 10, "reject": 90}}, {"Are few changes refused?": "fail"}),
    ],
)
def test_the_checklist_follows_from_the_figures(changes: dict[str, Any], states: dict[str, str]) -> None:
    """Sound figures pass all checks; each figure that is not sound is seen by its check."""
    found = {check.question: check.state for check in checklist(replace(SOUND, **changes))}
    assert {question: found[question] for question in states} == states
    assert states or set(found.values()) == {"pass"}


def test_an_answers_choices_share_its_times(tmp_path: Path) -> None:
    """The seconds of a request with several choices count once."""
    rows = [shadowed(1), replace(shadowed(1), id=f"{shadowed(1).id}.1", created=ROW.created + 2)]
    found = figures_of(logged(str(tmp_path / "log.db"), rows))
    assert (found["answers"], found["seconds"]["read"]["count"], found["added"]["p50"] > 0.49) == (2, 1, True)
    assert len(found["histogram"]) == BINS


ROLES = ("client", "viewer", "reviewer", "operator")


def test_the_proxy_reports_and_exports_by_role(tmp_path: Path) -> None:
    """Viewers have the report as figures and as a file, operators the rows that the command writes, others neither."""
    rows = [shadowed(number, changed=True) for number in range(4)]
    database = logged(str(tmp_path / "log.db"), rows, [said(one, "accept") for one in rows])
    export(ExportConfig(database=database, out=tmp_path / "triples.jsonl"))
    report(ReportConfig(database=database, out=tmp_path / "shadow.html"))
    keys = tmp_path / "keys.txt"
    keys.write_text("".join(f"{role} sha256:{hashlib.sha256(role.encode()).hexdigest()} {role}\n" for role in ROLES))

    async def law() -> None:
        async with proxied(keys=keys, log=database) as proxy, aiohttp.ClientSession() as session:

            async def got(path: str, role: str) -> Got:
                return await ask(session, proxy.url + path, b"", method="GET", authorization=f"Bearer {role}")

            for path, allowed in (("/v1/aligner/shadow", 3), ("/shadow.html", 3), ("/v1/aligner/export", 1)):
                assert [(await got(path, role)).status for role in ROLES] == [403] * (4 - allowed) + [200] * allowed
            assert json.loads((await got("/v1/aligner/shadow", "viewer")).body)["answers"] == 4
            told = await got("/shadow.html", "viewer")
            assert told.body == (tmp_path / "shadow.html").read_bytes()
            assert told.headers["content-disposition"] == 'attachment; filename="shadow.html"'
            exported = await got("/v1/aligner/export?kind=triples", "operator")
            assert exported.body == (tmp_path / "triples.jsonl").read_bytes()
            assert (await got("/v1/aligner/export?votes=2", "operator")).body == b""
            assert (await got("/shadow.html?mode=gate", "viewer")).status == 404
            for query in ("export?kind=all", "export?votes=x", "export?since=soon", "shadow?mode=off"):
                assert (await got(f"/v1/aligner/{query}", "operator")).status == 400

    asyncio.run(law())


def test_without_a_log_there_is_no_report() -> None:
    """A proxy that logs nothing says so."""

    async def law() -> None:
        async with proxied() as proxy, aiohttp.ClientSession() as session:
            for path in ("/v1/aligner/shadow", "/shadow.html", "/v1/aligner/export"):
                refused = await ask(session, proxy.url + path, b"", method="GET")
                assert (refused.status, json.loads(refused.body)["error"]["code"]) == (404, "no_log")

    asyncio.run(law())
