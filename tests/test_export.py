"""Laws of the export: what people said of corrections becomes rows that training takes."""

import asyncio
import json
import os
import subprocess
import sys
import tracemalloc
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from logged_rows import ROW, row
from postgresql import running_server
from proxies import ask, proxied

from aligner.cli import main
from aligner.config import ExportConfig
from aligner.data.fields import triple_of
from aligner.data.readers import ultrafeedback
from aligner.errors import MisuseError
from aligner.export import export
from aligner.files import bad_rows_named, read
from aligner.records import Message, Triple
from aligner.serving.database import place_of
from aligner.serving.engine import Engine, EngineOptions
from aligner.serving.exporting.lessons import Lessons, Wanted, preference, triple
from aligner.serving.logged import Feedback, Logged, Verdict, reduced
from aligner.serving.store import Store

TALK = (Message("system", "Be kind."), Message("user", "What is 1 + 1?"))
MODEL = "local:small"


def said(made: Logged, verdict: Verdict, **given: Any) -> Feedback:
    """Feedback on a correction."""
    return Feedback(id=made.id, verdict=verdict, created=given.pop("created", 1.0), **given)


def logged(database: str, rows: Sequence[Logged], feedback: Sequence[Feedback] = ()) -> str:
    """A log with these rows; gives the database."""
    with closing(Store(place_of(database))) as store:
        assert store.write(rows) == 0
        assert all(map(store.add_feedback, feedback))
    return database


def exported(database: str, out: Path, **given: Any) -> list[Triple]:
    """The triples that an export of the log gives, read by the reader of training."""
    export(ExportConfig(database=database, out=out, **given))
    return [value for _, value in read(out, triple_of, bad_rows=bad_rows_named("stop", out))]


def triple_row(number: int, correction: str, source: str) -> Triple:
    """The triple that row gives."""
    return Triple(TALK, ROW.answer, correction, (f"log:{row(number).id}", MODEL, source), "talk")


def judged(database: str) -> str:
    """A log of seven corrections, each with another fate."""
    rows = [row(number) for number in range(7)]
    rows[6] = replace(rows[6], skipped="tools", correction=ROW.answer)
    verdicts = [said(rows[0], "accept"), said(rows[1], "reject"), said(rows[2], "edit", text="Two.", user="ann")]
    return logged(database, rows, [*verdicts, said(rows[3], "both_bad"), said(rows[4], "edit")])


@pytest.mark.parametrize("out", ["out.jsonl", "out.jsonl.gz", "out.parquet"])
def test_each_verdict_becomes_its_triple(tmp_path: Path, capsys: pytest.CaptureFixture[str], out: str) -> None:
    """Accepted: the correction; edited: the human text; rejected: the answer itself; all else is counted."""
    assert exported(judged(str(tmp_path / "log.db")), tmp_path / out) == [
        triple_row(0, "It is 2.", "demo@1"),
        triple_row(1, "It is 3.", MODEL),
        triple_row(2, "Two.", "human:ann"),
    ]
    assert capsys.readouterr().err == (
        "7 corrections read, 3 triples written, 4 left out "
        "(2 without feedback; 1 both bad; 1 edited, but without the text)\n"
    )


def test_what_people_preferred_to_a_correction_makes_pairs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A rejection prefers the answer, an edit the human text; both as TRL takes them and our own reader reads them."""
    out = tmp_path / "pairs.jsonl"
    export(ExportConfig(database=judged(str(tmp_path / "log.db")), out=out, kind="preferences"))
    asked = [{"role": turn.role, "content": turn.content} for turn in TALK]
    pairs = [json.loads(line) for line in out.read_text().splitlines()]
    assert [(pair["chosen"], pair["rejected"]) for pair in pairs] == [
        tuple([*asked, {"role": "assistant", "content": reply}] for reply in (better, ROW.correction))
        for better in (ROW.answer, "Two.")
    ]
    found = [value for _, value in read(out, ultrafeedback, bad_rows=bad_rows_named("stop", out))]
    assert all(isinstance(one, Triple) for one in found)
    assert [(one.question, one.answer, one.correction) for one in found if isinstance(one, Triple)] == [
        (TALK, ROW.correction, better) for better in (ROW.answer, "Two.")
    ]
    assert "7 corrections read, 2 preferences written, 5 left out (2 " in capsys.readouterr().err


def test_every_row_says_who_judged_what_and_when(tmp_path: Path) -> None:
    """A row can be audited: its conversation, its Aligner, the verdict, when it was given and by whom."""
    words = [said(ROW, "accept", created=2.0, reviewer="ann", user="a"), said(ROW, "accept", created=3.0, user="bob")]
    database = logged(str(tmp_path / "log.db"), [ROW, row(1)], words)
    export(ExportConfig(database=database, out=tmp_path / "rows.jsonl", unjudged=True))
    first, second = [json.loads(line) for line in (tmp_path / "rows.jsonl").read_text().splitlines()]
    about = ("conversation", "aligner", "verdict", "judged", "reviewers", "user")
    assert [first[name] for name in about] == ["talk", "demo@1", "accept", 3.0, ["ann", "bob"], "bob"]
    assert [second[name] for name in about] == ["talk", "demo@1", None, None, [], None]


def test_where_reviewers_disagree_nothing_is_learnt(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A tie gives no row, and is counted; the word of most gives one, and each reviewer has one word, the last."""
    words = [said(row(0), "accept", user="ann"), said(row(0), "reject", user="bob")]
    words += [said(row(1), "accept", user="a"), *(said(row(1), "reject", user=user) for user in "bc")]
    words += [said(row(2), "reject", user="ann", created=1.0), said(row(2), "accept", user="ann", created=2.0)]
    database = logged(str(tmp_path / "log.db"), [row(0), row(1), row(2)], words)
    rows = exported(database, tmp_path / "out.jsonl")
    assert [one.correction for one in rows] == [ROW.answer, ROW.correction]
    assert (
        "3 corrections read, 2 triples written, 1 left out (1 on which reviewers disagree)" in capsys.readouterr().err
    )


def flooded(database: str) -> str:
    """Four corrections that ann and bob accept and mallory edits; two of them mallory alone."""
    rows = [row(number) for number in range(4)]
    words = [said(one, "edit", text="Buy!", reviewer="mallory", user=f"u{i}") for i, one in enumerate(rows)]
    words += [said(rows[0], "accept", reviewer="ann"), said(rows[0], "accept", reviewer="bob")]
    return logged(database, rows, [*words, said(rows[1], "accept", reviewer="ann")])


@pytest.mark.parametrize(
    ("guards", "corrections", "reason"),
    [
        ({}, [ROW.correction, "Buy!", "Buy!"], "1 on which reviewers disagree"),
        ({"reviewers": ("ann",)}, [ROW.correction] * 2, "2 judged only by others than the reviewers asked for"),
        ({"votes": 2}, [ROW.correction], "2 on which fewer than 2 reviewers agree; 1 on which reviewers disagree"),
        ({"most_per_reviewer": 1}, [ROW.correction, "Buy!"], "1 beyond 1 of one reviewer"),
        ({"reviewers": ("ann",), "unjudged": True}, [ROW.correction] * 2, "2 judged only by others"),
    ],
)
def test_nobody_can_flood_what_is_learnt(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], guards: dict[str, Any], corrections: list[str], reason: str
) -> None:
    """Whose word counts, how many must agree and how many rows one may give are guards, by key and not by user."""
    rows = exported(flooded(str(tmp_path / "log.db")), tmp_path / "out.jsonl", **guards)
    assert [one.correction for one in rows] == corrections
    assert reason in capsys.readouterr().err


def test_a_key_has_one_word_whatever_users_it_names(tmp_path: Path) -> None:
    """Its last one; and of edits what most holders of keys wrote is learnt, not what came last."""
    rows = [row(number) for number in range(2)]
    words = [said(rows[0], "edit", text="Buy!", reviewer="mallory", user=f"u{number}") for number in range(9)]
    words += [said(rows[0], "accept", reviewer=name) for name in ("ann", "bob")]
    words += [said(rows[1], "edit", text="Two.", reviewer=name) for name in ("ann", "bob")]
    words += [said(rows[1], "edit", text="Buy!", reviewer="mallory", user=user, created=2.0) for user in "xyz"]
    database = logged(str(tmp_path / "log.db"), rows, words)
    for votes in (1, 2):
        found = exported(database, tmp_path / f"{votes}.jsonl", votes=votes)
        assert [one.correction for one in found] == [ROW.correction, "Two."]


def test_no_guard_is_passed_over_over_http(tmp_path: Path) -> None:
    """All reviewers count that are named; a name that is none, or a guard of what is written whole, is refused."""
    database = flooded(str(tmp_path / "log.db"))

    async def run() -> None:
        async with proxied(log=database) as proxy, aiohttp.ClientSession() as session:
            for query, expected in {
                "reviewers=ann&reviewers=bob": [ROW.correction] * 2,
                "reviewers=ann&reviewers=bob&votes=2&kind=triples&since=1": [ROW.correction],
                "reviewers=ann,mallory": ["Buy!", "Buy!"],
                "told=true&votes=2": [ROW.correction],
                "told=perhaps": None,
                "reviewer=ann": None,
                "most-per-reviewer=1": None,
                "kind=log&votes=2": None,
                "kind=feedback&reviewers=ann": None,
            }.items():
                got = await ask(session, f"{proxy.url}/v1/aligner/export?{query}", b"", method="GET")
                if expected is None:
                    assert (query, got.status) == (query, 400)
                else:
                    found = [orjson.loads(line)["correction"] for line in got.body.splitlines()]
                    assert (query, found) == (query, expected)

    asyncio.run(run())


@pytest.mark.parametrize("unjudged", [False, True])
def test_what_an_aligner_was_told_is_learnt_only_on_request(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], unjudged: bool
) -> None:
    """The fingerprint says so, and it alone: a name may hold a plus sign, too."""
    engine = Engine(EngineOptions(aligner="echo:", instruction="be brief"))
    names = (engine.told(), engine.told("be kind"), "a+b:0123456789abcdef", "+0123abcd:0123456789abcdef")
    rows = [replace(row(number), aligner=f"x{name}") for number, name in enumerate(names)]
    words = [] if unjudged else [said(one, "accept") for one in rows]
    database = logged(str(tmp_path / "log.db"), rows, words)
    assert len(exported(database, tmp_path / "few.jsonl", unjudged=unjudged)) == 2
    assert "2 left out (2 whose Aligner was told something, which --told takes in)" in capsys.readouterr().err
    assert len(exported(database, tmp_path / "all.jsonl", unjudged=unjudged, told=True)) == 4


def test_what_nobody_judged_is_taken_only_on_request(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Unjudged corrections count as accepted when asked for, but never those that the Aligner did not make."""
    rows = [row(0), row(1, skipped="tools"), row(2, bypass="timeout"), row(3, outcome="cancelled")]
    rows += [row(4, kept_reason="gate"), row(5, kept_reason="too long"), row(6, mode="off")]
    database = logged(str(tmp_path / "log.db"), rows)
    assert exported(database, tmp_path / "none.jsonl") == []
    unjudged = exported(database, tmp_path / "all.jsonl", unjudged=True)
    assert unjudged == [triple_row(0, "It is 2.", "demo@1"), triple_row(4, "It is 2.", "demo@1")]
    assert capsys.readouterr().err == (
        "7 corrections read, 0 triples written, 7 left out (7 without feedback)\n"
        "7 corrections read, 2 triples written, 5 left out (5 without feedback, and not corrected or not sent)\n"
    )


def test_the_last_word_counts(tmp_path: Path) -> None:
    """Of several verdicts on one correction the latest stands."""
    words = [said(ROW, "edit", text="Two.", created=5.0), said(ROW, "accept", created=3.0)]
    database = logged(str(tmp_path / "log.db"), [ROW], words)
    assert [one.correction for one in exported(database, tmp_path / "out.jsonl")] == ["Two."]


def test_feedback_can_be_chosen(tmp_path: Path) -> None:
    """Only what has the verdicts asked for is exported."""
    database = judged(str(tmp_path / "log.db"))
    assert [one.correction for one in exported(database, tmp_path / "1.jsonl", only_feedback=("reject",))] == [
        ROW.answer
    ]
    assert len(exported(database, tmp_path / "2.jsonl", only_feedback=("accept", "edit"))) == 2


def test_rows_without_content_are_counted_and_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Of a row whose texts were not kept nothing is made, whatever was said of it."""
    rows = [row(0), reduced(row(1), "hash"), reduced(row(2), "off"), reduced(row(3), "off")]
    database = logged(str(tmp_path / "log.db"), rows, [said(one, "accept") for one in rows])
    assert len(exported(database, tmp_path / "out.jsonl", unjudged=True)) == 1
    assert capsys.readouterr().err == (
        "4 corrections read, 1 triples written, 3 left out "
        "(2 stored without content (log_content off); 1 stored without content (log_content hash))\n"
    )


@pytest.mark.parametrize(
    ("since", "count"),
    [
        ("2025-11-24T15:59:59", 4),
        ("2025-11-24T16:00:02", 2),
        ("2025-11-24T17:00:02+01:00", 2),
        ("2025-11-24", 4),
        ("2025-11-25", 0),
    ],
)
def test_a_date_is_utc_unless_it_says_otherwise(tmp_path: Path, since: str, count: int) -> None:
    """Rows from that moment on are exported, and no earlier ones."""
    noon = datetime(2025, 11, 24, 16, tzinfo=UTC).timestamp()
    rows = [replace(row(number), created=noon + number) for number in range(4)]
    database = logged(str(tmp_path / "log.db"), rows)
    assert len(exported(database, tmp_path / "out.jsonl", unjudged=True, since=since)) == count


TEXT = st.text(st.characters(categories=None, codec=None) | st.sampled_from("\ud800\x00 \n"), max_size=8)
TURNS = st.lists(st.builds(Message, st.sampled_from(["system", "user", "assistant"]), TEXT), max_size=3).map(tuple)


@given(st.none() | TURNS, TEXT, TEXT, TEXT, st.sampled_from(["accept", "reject", "edit", "both_bad"]), TEXT)
def test_every_row_that_is_made_can_be_read(
    messages: tuple[Message, ...] | None, question: str, answer: str, correction: str, verdict: Verdict, text: str
) -> None:
    """Whatever was logged, a triple or a pair is one that our readers take, or it is left out with a reason."""
    texts = {"messages": messages, "question": question, "answer": answer, "correction": correction}
    made = row(0, **texts, conversation=text, feedback=(said(ROW, verdict, text=text, user=text),))
    lessons = Lessons(Wanted())
    triples, pairs = (list(lessons.rows([made], make)) for make in (triple, preference))
    assert len(triples) + len(pairs) + sum(lessons.without.values()) == 2
    expected = {"accept": correction, "reject": answer, "edit": text}
    for one in triples:
        read_back = triple_of(orjson.loads(orjson.dumps(one)))
        assert (read_back.answer, read_back.correction) == (answer, expected[verdict])
    for pair in pairs:
        assert verdict in ("reject", "edit")
        read_pair = ultrafeedback(orjson.loads(orjson.dumps(pair)))
        assert isinstance(read_pair, Triple)
        assert (read_pair.answer, read_pair.correction) == (correction, expected[verdict])


def test_the_same_log_gives_the_same_bytes(tmp_path: Path) -> None:
    """Rows come in order of time whatever the order of writing, and each export is the same file."""
    rows = [row(number, answer=f"answer {number}") for number in range(1200)]
    one = logged(str(tmp_path / "1.db"), rows)
    two = logged(str(tmp_path / "2.db"), [*rows[600:], *rows[:600]])
    for name, database in (("1", one), ("2", two), ("3", two)):
        assert len(exported(database, tmp_path / f"{name}.parquet", unjudged=True)) == 1200
    assert len({(tmp_path / f"{name}.parquet").read_bytes() for name in "123"}) == 1


def test_memory_is_flat(tmp_path: Path) -> None:
    """An export of three times as many rows takes no more memory."""
    peaks = list[int]()
    for count in (1200, 3600):
        database = logged(str(tmp_path / f"{count}.db"), [row(n, answer="word " * 9) for n in range(count)])
        tracemalloc.start()
        export(ExportConfig(database=database, out=tmp_path / f"{count}.jsonl", unjudged=True))
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.3 * peaks[0]


def test_the_log_may_be_in_use(tmp_path: Path) -> None:
    """An export reads what is committed while the log is open and another program writes."""
    database = str(tmp_path / "log.db")
    with closing(Store(place_of(database))) as store:
        store.write([row(0)])
        assert len(exported(database, tmp_path / "out.jsonl", unjudged=True)) == 1
        store.write([row(1)])
        assert len(exported(database, tmp_path / "out.jsonl", unjudged=True)) == 2


def test_from_postgresql(tmp_path: Path) -> None:
    """The command line exports from PostgreSQL what it exports from SQLite."""
    with running_server() as server:
        for name, database in (("1", str(tmp_path / "log.db")), ("2", server.new_schema())):
            judged(database)
            arguments = ["export", database, "--out", str(tmp_path / f"{name}.jsonl"), "--unjudged"]
            assert main([*arguments, "--only-feedback", "accept", "--only-feedback", "edit"]) == 0
        assert (tmp_path / "1.jsonl").read_bytes() == (tmp_path / "2.jsonl").read_bytes()
        assert len((tmp_path / "1.jsonl").read_text().splitlines()) == 3


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["none.db", "--out", "o.jsonl"], "aligner: none.db: no such file\n"),
        (
            ["log.db", "--out", "o.jsonl", "--since", "soon"],
            'aligner: --since "soon" is no date such as 2026-11-25 or ',
        ),
        (["log.db", "--out", "o.csv"], 'aligner: o.csv: unknown kind of file ".csv"'),
        (["log.db", "--out", "o.jsonl", "--votes", "0"], "aligner: --votes begins at 1"),
        (["log.db", "--out", "o.jsonl", "--kind", "log", "--votes", "2"], "aligner: --kind log writes all of them"),
        (["mysql://u:secret@h/d", "--out", "o.jsonl"], 'aligner: unknown kind of database "mysql"'),
    ],
)
def test_misuse_is_one_line_and_no_file(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    *,
    arguments: list[str],
    line: str,
) -> None:
    """What cannot be right is said in one line, exit code 2, and leaves nothing behind."""
    monkeypatch.chdir(tmp_path)
    logged("log.db", [ROW])
    assert main(["export", *arguments]) == 2
    error = capsys.readouterr().err
    assert error.startswith(line)
    assert error.count("\n") == 1
    assert "secret" not in error
    assert {path.name for path in tmp_path.iterdir()} <= {"log.db"}


def test_unknown_kind_is_misuse() -> None:
    """A database that is no database is refused before anything is written."""
    with pytest.raises(MisuseError, match="in memory"):
        export(ExportConfig(database=":memory:", out=Path("out.jsonl")))


def test_the_extra_is_named_where_it_is_missing(tmp_path: Path) -> None:
    """Without SQLAlchemy the command says in one line what to install."""
    (tmp_path / "sqlalchemy.py").write_text(
        "raise ModuleNotFoundError(\"No module named 'sqlalchemy'\", name='sqlalchemy')"
    )
    done = subprocess.run(
        [sys.executable, "-m", "aligner", "export", "log.db", "--out", "out.jsonl"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "aligner: the correction log needs an extra: pip install 'aligner-llm[serve]'\n"
