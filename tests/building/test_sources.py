"""Laws of the rows of sources."""

from pathlib import Path

import orjson
import pytest
from built import written
from hypothesis import given
from hypothesis import strategies as st

from aligner.building.sources import Found, Unusable, name_of, named, rows
from aligner.config import BuildSource
from aligner.data.readers import Given
from aligner.errors import AlignerError, InputFileError, MisuseError

TRIPLES = [{"question": f"Is {i} odd?", "answer": f"No, {i}.", "correction": f"Yes, {i}."} for i in range(40)]


def read(source: BuildSource, *, skip: bool = False) -> list[Found]:
    """All rows."""
    return list(rows(source, seed=3, skip=skip))


@pytest.mark.parametrize("takes", ["questions", "answers", "triples"])
def test_a_source_gives_what_is_taken_from_it(tmp_path: Path, takes: str) -> None:
    """Questions alone, with answers, or whole triples, each with file and line."""
    path = written(tmp_path / "in.jsonl", TRIPLES)
    found = read(BuildSource(path=str(path), takes=takes))  # type: ignore[arg-type]
    assert [row.place for row in found] == [f"{path}:{line}" for line in range(1, 41)]
    answer = TRIPLES[0]["answer"] if takes != "questions" else None
    correction = TRIPLES[0]["correction"] if takes == "triples" else None
    assert isinstance(found[0].given, Given)
    assert found[0].given[:3] == (TRIPLES[0]["question"], answer, correction)


def test_questions_need_no_other_field(tmp_path: Path) -> None:
    """A file of bare questions, under any name, or of conversations."""
    turns = [
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Yes?"},
        {"role": "user", "content": "Why?"},
    ]
    path = written(tmp_path / "in.jsonl", [{"a": {"b": "What?"}}, {"a": {"b": turns}}])
    first, second = (row.given for row in read(BuildSource(path=str(path), question="a.b")))
    assert isinstance(first, Given)
    assert isinstance(second, Given)
    assert first.question == "What?"
    assert len(second.question) == 3


@given(texts=st.lists(st.text(min_size=1).filter(str.strip), min_size=1, max_size=8))
def test_any_text_comes_through(tmp_path_factory: pytest.TempPathFactory, texts: list[str]) -> None:
    """What JSON can hold is the question, character by character."""
    folder = tmp_path_factory.mktemp("any")
    sound = [text for text in texts if text.isprintable() or text.encode("utf-8", "ignore").decode() == text]
    path = written(folder / "in.jsonl", ({"question": text} for text in sound))
    found = read(BuildSource(path=str(path))) if sound else []
    assert [row.given.question for row in found if isinstance(row.given, Given)] == sound


def test_a_sample_is_drawn_by_the_seed_and_grows(tmp_path: Path) -> None:
    """The same seed gives the same rows in their order, and a larger sample holds the smaller one."""
    path = str(written(tmp_path / "in.jsonl", TRIPLES))

    def sample(count: int) -> list[str]:
        return [row.place for row in read(BuildSource(path=path, sample=count))]

    small, large = sample(5), sample(12)
    assert len(small) == 5
    assert [place for place in large if place in small] == small
    assert small == sample(5)
    assert len(sample(400)) == 40


def test_bad_rows_stop_or_are_given_as_such(tmp_path: Path) -> None:
    """With file and line; skipped ones stand among the others, in their order."""
    path = tmp_path / "in.jsonl"
    lines = [orjson.dumps(row) for row in TRIPLES[:4]]
    path.write_bytes(b"\n".join([lines[0], b"{", lines[1], b'{"question": 7}', lines[2], b"[]"]) + b"\n")
    with pytest.raises(InputFileError, match=r"in\.jsonl:2: "):
        read(BuildSource(path=str(path)))
    found = read(BuildSource(path=str(path)), skip=True)
    assert [row.place.rpartition(":")[2] for row in found] == ["1", "2", "3", "4", "5", "6"]
    assert [isinstance(row.given, Unusable) for row in found] == [False, True, False, True, False, True]


def test_a_folder_is_all_of_its_files(tmp_path: Path) -> None:
    """In the order of their names, with CSV among them."""
    written(tmp_path / "b.jsonl", TRIPLES[:1])
    (tmp_path / "a.csv").write_text("question,answer\nWhat?,That.\n", encoding="utf-8")
    (tmp_path / "notes.md").write_text("nothing")
    found = read(BuildSource(path=str(tmp_path), takes="answers"))
    assert [row.given.answer for row in found if isinstance(row.given, Given)] == ["That.", "No, 0."]


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("https://example.org/in.jsonl", "download it first"),
        ("nowhere.jsonl", "no such file or folder"),
        ("hub:only", "hub:ORG/NAME/FILE"),
        ("world:many", "world:2000"),
    ],
)
def test_what_is_not_there_is_said_in_one_line(path: str, said: str) -> None:
    """A file, a name on the hub, a number of questions."""
    with pytest.raises(AlignerError, match=said) as error:
        read(BuildSource(path=path))
    assert "\n" not in str(error.value)


def test_an_empty_folder_holds_nothing(tmp_path: Path) -> None:
    """And says what could be read."""
    with pytest.raises(MisuseError, match=r"\.jsonl"):
        read(BuildSource(path=str(tmp_path)))


def test_names_are_those_of_files_and_stand_there_once() -> None:
    """Unless they are given."""
    one, other = BuildSource(path="a/x.jsonl.gz"), BuildSource(path="b/x.parquet")
    assert name_of(one) == "x"
    with pytest.raises(MisuseError, match='"x" stands there twice'):
        named((one, other))
    assert list(named((one, BuildSource(path="b/x.parquet", name="y")))) == ["x", "y"]


def test_an_unknown_format_is_told_the_nearest() -> None:
    """As all names are."""
    with pytest.raises(MisuseError, match='did you mean "sharegpt"'):
        named((BuildSource(path="x.jsonl", format="share-gpt"),))


def test_the_closed_world_gives_questions_that_it_knows() -> None:
    """As many as wanted, the same for the same seed."""
    found = read(BuildSource(path="world:30"))
    assert len(found) == 30
    assert found == read(BuildSource(path="world:30"))
    assert [row.place for row in found[:2]] == ["world:1", "world:2"]


def test_an_exported_log_gives_questions_and_answers(tmp_path: Path) -> None:
    """What aligner export wrote with --kind log; feedback alone holds none."""
    logged = {
        "id": "1",
        "created": 1.0,
        "conversation": "c",
        "key_hash": "",
        "route": "chat",
        "mode": "correct",
        "upstream": "u",
        "model": "m",
        "aligner": "a",
        "messages": [{"role": "user", "content": "What?"}],
        "question": "What?",
        "answer": "This.",
        "correction": "That.",
        "changed": True,
        "edit_share": 0.5,
        "confidence": None,
        "skipped": None,
        "bypass": None,
        "kept_reason": None,
        "outcome": "sent",
        "seconds": {},
        "usage": {},
        "content": "full",
        "lengths": {"question": 5, "answer": 5, "correction": 5},
        "feedback": [],
    }
    hidden = {**logged, "id": "2", "content": "off", "messages": None, "question": "", "answer": "", "correction": ""}
    path = written(tmp_path / "log.jsonl", [logged, hidden])
    whole, without = (row.given for row in read(BuildSource(path=str(path), format="log", takes="answers")))
    assert isinstance(whole, Given)
    assert whole[:2] == ("What?", "This.")
    assert isinstance(without, Unusable)
    assert "without content" in without.detail
