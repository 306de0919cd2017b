"""Laws of the store: what was added comes back, once, in order, whatever else is written meanwhile."""

import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aligner.building.ledger import Ledger
from aligner.building.nouns import Annotated, Answered, Asked, Checked, Dropped, Failure, Reply, Request
from aligner.building.schema import VERSION
from aligner.building.store import Store
from aligner.building.workers import Worker
from aligner.errors import InputFileError, OutputFileError
from aligner.records import Message, SamplingParams

TEXTS = st.text(max_size=30)
IDS = st.text("abcdef0123456789", min_size=1, max_size=4)
TURNS = st.builds(Message, st.sampled_from(("system", "user", "assistant")), TEXTS)
QUESTIONS = st.one_of(TEXTS, st.lists(TURNS, max_size=3).map(tuple))
SPLITS = st.sampled_from(("train", "validation", "test"))
ASKED = st.builds(Asked, id=IDS, question=QUESTIONS, source=TEXTS, place=TEXTS, cluster=TEXTS, split=SPLITS)
ANSWERED = st.builds(Answered, id=IDS, question=IDS, upstream=TEXTS, sample=st.integers(0, 9), key=IDS, text=TEXTS)
ANNOTATED = st.builds(
    Annotated,
    id=IDS,
    answer=IDS,
    annotator=TEXTS,
    key=IDS,
    choice=st.sampled_from(("keep", "edit")),
    text=TEXTS,
    reasons=st.lists(TEXTS, max_size=2).map(tuple),
    second=st.booleans(),
)
FACTS = st.dictionaries(TEXTS, st.one_of(TEXTS, st.integers(-(2**50), 2**50), st.booleans(), st.none()), max_size=3)
CHECKED = st.builds(
    Checked,
    id=IDS,
    question=QUESTIONS,
    answer=TEXTS,
    correction=TEXTS,
    kind=st.sampled_from(("identity", "edit")),
    cluster=TEXTS,
    split=SPLITS,
    facts=FACTS,
)


def rows(of: st.SearchStrategy[Any]) -> st.SearchStrategy[list[Any]]:
    """Rows of different ids."""
    return st.lists(of, max_size=12, unique_by=lambda row: row.id)


@settings(max_examples=60)
@given(rows(ASKED), rows(ANSWERED), rows(ANNOTATED), rows(CHECKED), st.data())
def test_what_is_added_comes_back_once_in_order_without_what_was_dropped(
    tmp_path_factory: pytest.TempPathFactory,
    asked: list[Asked],
    answers: list[Answered],
    annotated: list[Annotated],
    checked: list[Checked],
    data: st.DataObject,
) -> None:
    """Any row comes back as it was, once; one that was dropped at its own stage is found by its id alone."""
    with Store(tmp_path_factory.mktemp("store") / "build.sqlite") as store:
        for _ in range(2):
            store.add_questions(asked)
            store.add_answers(answers)
            store.add_annotated(annotated)
            store.add_checked(checked)
        assert list(store.questions()) == sorted(asked, key=lambda row: row.id)
        assert list(store.answers()) == sorted(answers, key=lambda row: (row.question, row.id))
        assert list(store.annotated()) == sorted(annotated, key=lambda row: (row.answer, row.id))
        of = {row.id: next((a.question for a in answers if a.id == row.answer), "") for row in annotated}
        assert list(store.checked()) == sorted(checked, key=lambda row: (of.get(row.id, ""), row.id))
        gone = data.draw(st.lists(st.sampled_from([row.id for row in asked]), unique=True)) if asked else []
        store.drop(Dropped("questions", id_, "first") for id_ in gone)
        store.drop(Dropped("questions", id_, "second") for id_ in gone)
        store.drop(Dropped("verdicts", row.id, "elsewhere") for row in asked)
        assert [row.id for row in store.questions()] == sorted({row.id for row in asked} - set(gone))
        assert store.drop_reasons("questions") == ({"first": len(gone)} if gone else {})
        assert [row.id for row in store.dropped("questions")] == sorted(gone)
        assert store.counts("dropped") == len(gone) + len(asked) == len(list(store.dropped()))
        assert store.counts("questions") == len(asked) == store.kept("questions") + len(gone)
        assert store.kept("annotated") == sum(not row.second for row in annotated)
        assert all(store.question(row.id) == row for row in asked)
        assert store.restore("questions", ["first", "other"]) == len(gone)
        assert store.kept("questions") == len(asked)


def test_a_row_that_is_not_there_is_a_key_error(tmp_path: Path) -> None:
    """A question or an answer is found by its id, or not at all; a table has one of five names."""
    with Store(tmp_path / "build.sqlite") as store:
        for find in (store.question, store.answer):
            with pytest.raises(KeyError):
                find("none")
        with pytest.raises(ValueError, match="no such table"):
            store.counts("sqlite_master")


def test_rows_may_be_written_while_they_are_read(tmp_path: Path) -> None:
    """A reader of more rows than one look takes is not disturbed by writers, and disturbs none."""
    asked = [Asked(id=f"{i:05}", question="q", source="s", place="p") for i in range(1750)]
    with Store(tmp_path / "build.sqlite") as store, Store(tmp_path / "build.sqlite") as other:
        store.add_questions(asked)
        seen = list[str]()
        for row in store.questions():
            seen.append(row.id)
            if len(seen) % 100 == 0:
                other.drop([Dropped("answers", row.id, "other")])
                store.drop([Dropped("corrections", row.id, "own")])
        store.add_answers(
            Answered(id=f"a{row.id}", question=row.id, upstream="u", sample=0, key="k", text="t")
            for row in store.questions()
        )
        assert seen == [row.id for row in asked]
        assert store.counts("answers") == 1750


def test_the_first_value_of_a_name_stays(tmp_path: Path) -> None:
    """Whoever says it later is told what was said first."""
    with Store(tmp_path / "build.sqlite") as store, Store(tmp_path / "build.sqlite") as other:
        assert store.value("seed") is None
        assert store.once("seed", "1") == "1"
        assert other.once("seed", "2") == "1" == other.value("seed")


def test_a_transaction_is_whole_or_not_at_all(tmp_path: Path) -> None:
    """An error in the middle takes back what was written before it."""
    with Store(tmp_path / "build.sqlite") as store:
        with pytest.raises(ZeroDivisionError), store.writing() as db:
            db.execute("INSERT INTO meta VALUES ('a', 'b')")
            raise ZeroDivisionError
        assert store.value("a") is None


def text_file(path: Path) -> None:
    path.write_text("This is a letter, and no database; it is long enough. " * 20)


def other_database(path: Path) -> None:
    with sqlite3.connect(path) as db:
        db.execute("CREATE TABLE mine (a)")
    db.close()


def other_application(path: Path) -> None:
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA application_id = 7")
    db.close()


def later_version(path: Path) -> None:
    Store(path).close()
    with sqlite3.connect(path) as db:
        db.execute(f"PRAGMA user_version = {VERSION + 1}")
    db.close()


@pytest.mark.parametrize(
    ("make", "problem"),
    [
        (text_file, "is no store of a build"),
        (other_database, "is a database of something else"),
        (other_application, "is a database of something else"),
        (later_version, f"is a store of version {VERSION + 1}"),
    ],
)
def test_a_file_of_another_kind_is_one_clear_line(tmp_path: Path, make: Callable[[Path], None], problem: str) -> None:
    """It is named with a cure, and not a byte of it changes."""
    path = tmp_path / "build.sqlite"
    make(path)
    before = path.read_bytes() if make is text_file else None
    with pytest.raises(InputFileError, match=problem) as caught:
        Store(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "--out" in str(caught.value)
    assert before is None or path.read_bytes() == before


def test_a_place_that_cannot_be_written_is_one_clear_line(tmp_path: Path) -> None:
    """A file in the place of a folder, or a folder in the place of the file."""
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file" / "build.sqlite", tmp_path):
        with pytest.raises(OutputFileError, match="cannot be opened or made"):
            Store(path)


def test_many_processes_may_open_a_new_file_at_once(tmp_path: Path) -> None:
    """It is made once, and all of them write to it."""
    program = (
        "import sys; from pathlib import Path; from aligner.building.store import Store\n"
        "with Store(Path(sys.argv[1])) as store: store.once(sys.argv[2], 'here')"
    )
    path = tmp_path / "new" / "build.sqlite"
    processes = [subprocess.Popen([sys.executable, "-c", program, str(path), str(i)]) for i in range(6)]
    assert [process.wait(60) for process in processes] == [0] * 6
    with Store(path) as store:
        assert [store.value(str(i)) for i in range(6)] == ["here"] * 6


def request(name: str) -> Request:
    """A request of that key."""
    turns = (Message("user", name),)
    return Request(key=name, stage="answers", model="m", messages=turns, sampling=SamplingParams(), about=name)


def test_parts_are_merged_once_however_often(tmp_path: Path) -> None:
    """A reply wins over a failure, what was spent adds up, and neither order nor repetition changes anything."""
    folders = [tmp_path / name for name in ("main", "one", "two")]
    asked = [Asked(id=name, question="q", source="s", place="p") for name in "ab"]
    with Store(folders[0] / "b") as main, Worker(folders[0]) as worker:
        ledger = Ledger(main, worker)
        ledger.add(map(request, ["paid", "x", "y", "z"]))
        ledger.put("paid", Reply("main", cost=1.0))
        main.add_questions(asked)
        for folder, outcomes in (
            (folders[1], {"x": Reply("one", cost=0.25), "y": Failure("transient", "one", 0.5)}),
            (folders[2], {"y": Reply("two", cost=0.125)}),
        ):
            with Store(folder / "b") as part, Worker(folder) as own:
                part.merge(main.path)
                Ledger(part, own).add(map(request, "xyz"))
                for key, outcome in outcomes.items():
                    Ledger(part, own).put(key, outcome)
                Ledger(part, own).lease("answers", ["m"], 1)
                part.drop([Dropped("answers", folder.name, "why")])
        for folder in (*folders[1:], *reversed(folders[1:])):
            main.merge(folder / "b")
        state = ledger.state("answers")
        assert (state.todo, state.leased, state.done, state.failed) == (1, 0, 3, {})
        assert state.cost == ledger.spent() == 1.875
        assert [ledger.reply(key) for key in ("x", "y", "z")] == [
            Reply("one", cost=0.25),
            Reply("two", cost=0.125),
            None,
        ]
        assert ledger.failure("y") is None
        assert list(main.questions()) == asked
        assert [row.id for row in main.dropped()] == ["one", "two"]
