"""Laws of the questions of a build: every row is accounted for, and what belongs together stays together."""

import pickle
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from built import Opened, asking, world_config, written
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aligner.building import questions
from aligner.building.against import sets_of
from aligner.building.funnel import steps
from aligner.building.nouns import Answered, Asked, Dropped
from aligner.building.questions import OverlapError, split_of
from aligner.building.store import Store
from aligner.config import BuildAgainst, BuildConfig, BuildFilters, BuildSource, BuildSplits
from aligner.errors import InputFileError

LONG = "Please tell me in a few words how the old clock in the tower of the town hall of Lyon is wound up."
PLAIN = BuildFilters(near_duplicate=0.0)
NEAR = BuildFilters(near_duplicate=0.7)


def gathered(config: BuildConfig) -> Store:
    """A store with the questions of a build."""
    store = Store(config.out / "build.sqlite")
    questions.gather(config, store)
    return store


def accounted(store: Store, rows: int) -> None:
    """Every row is kept, or dropped once."""
    dropped = sum(store.drop_reasons("questions").values())
    assert store.kept("questions") + dropped == rows
    assert sum(source["rows"] for source in questions.facts(store)["sources"].values()) == rows


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(texts=st.lists(st.sampled_from(["What is this?", "Who?", "?!", "ab", LONG, f"{LONG} Thanks.", "Why not?"])))
def test_every_row_is_kept_or_dropped_once(tmp_path_factory: pytest.TempPathFactory, texts: list[str]) -> None:
    """Whatever repeats, is too short, or is nearly the same: rows in are rows out."""
    folder = tmp_path_factory.mktemp("rows")
    source = asking(folder / "in.jsonl", texts)
    store = gathered(world_config(folder, 0, sources=(source,), filters=NEAR))
    accounted(store, len(texts))
    kept = [asked.question for asked in store.questions()]
    assert set(kept) <= set(texts)
    assert len(kept) == len(set(kept))
    assert ("Who?" in kept) == ("Who?" in texts)


def test_bad_rows_are_dropped_rows_where_they_are_skipped(tmp_path: Path) -> None:
    """And stop the build where they are not."""
    path = written(tmp_path / "in.jsonl", [{"question": "Who is it?"}, {"question": 7}, {"other": 1}])
    config = world_config(tmp_path, sources=(BuildSource(path=str(path)),))
    with pytest.raises(InputFileError, match=r"in\.jsonl:2: "):
        gathered(config)
    store = gathered(world_config(tmp_path, sources=config.sources, on_bad_row="skip"))
    accounted(store, 3)
    assert store.drop_reasons("questions") == {"unreadable": 2}


def test_a_repeated_question_still_gives_its_answer(tmp_path: Path) -> None:
    """Two answers to one question are two answers, of the source as their upstream."""
    rows = [{"question": "Who is it?", "answer": answer} for answer in ("Ada.", "Bob.", "Ada.")]
    source = BuildSource(path=str(written(tmp_path / "said.jsonl", rows)), takes="answers")
    store = gathered(world_config(tmp_path, sources=(source,), filters=PLAIN))
    accounted(store, 3)
    assert store.drop_reasons("questions") == {"same_question": 2}
    found = sorted((answer.sample, answer.text, answer.upstream) for answer in store.answers())
    assert found == [(0, "Ada.", "said"), (1, "Bob.", "said"), (2, "Ada.", "said")]


def test_given_corrections_are_annotations_of_their_source(tmp_path: Path) -> None:
    """Those that equal their answer keep it."""
    rows = [
        {"question": "Who is it?", "answer": "Ada", "correction": "Ada."},
        {"question": "What is it?", "answer": "A cat.", "correction": "A cat."},
    ]
    source = BuildSource(path=str(written(tmp_path / "given.jsonl", rows)), takes="triples")
    store = gathered(world_config(tmp_path, sources=(source,), upstreams=(), annotators=(), filters=PLAIN))
    assert sorted((row.choice, row.text, row.annotator) for row in store.annotated()) == [
        ("edit", "Ada.", "given"),
        ("keep", "A cat.", "given"),
    ]


def test_answers_to_dropped_questions_are_not_kept(tmp_path: Path) -> None:
    """They went with their question."""
    rows = [{"question": "?!", "answer": "What?", "correction": "What?"}] * 2
    source = BuildSource(path=str(written(tmp_path / "given.jsonl", rows)), takes="triples")
    store = gathered(world_config(tmp_path, sources=(source,), upstreams=(), annotators=()))
    accounted(store, 2)
    assert store.counts("answers") == store.counts("annotated") == 0


def test_near_duplicates_share_a_cluster_and_only_the_first_is_kept(tmp_path: Path) -> None:
    """A later one is dropped, and names the first."""
    texts = [LONG, "Who wrote the book about the sea?", LONG.upper()]
    store = gathered(world_config(tmp_path, sources=(asking(tmp_path / "in.jsonl", texts),), filters=NEAR))
    accounted(store, 3)
    assert {asked.question for asked in store.questions()} == set(texts[:2])
    (dropped,) = store.dropped("questions")
    first = next(asked for asked in store.questions() if asked.question == LONG)
    assert (dropped.reason, dropped.detail) == ("near_duplicate", f"of {first.id}")


def test_no_question_is_dropped_for_one_that_is_dropped_itself(tmp_path: Path) -> None:
    """Filters come before near-duplicates."""
    bad = f"{LONG} {LONG}"
    filters = BuildFilters(near_duplicate=0.3, longest_question=len(LONG) + 10)
    source = asking(tmp_path / "in.jsonl", [bad, LONG])
    store = gathered(world_config(tmp_path, sources=(source,), filters=filters))
    assert [asked.question for asked in store.questions()] == [LONG]
    assert store.drop_reasons("questions") == {"too_long": 1}


def test_overlaps_with_evaluation_sets_fail_the_build_and_are_dropped(tmp_path: Path) -> None:
    """All of them; a build that may overlap goes on without them."""
    items = written(tmp_path / "items.jsonl", [{"question": LONG}, {"question": "Is water wet?"}])
    texts = ["Who wrote the book about the sea?", f"Dear friend! {LONG} Thank you.", "Is water wet"]
    sources = (asking(tmp_path / "in.jsonl", texts),)
    against = (BuildAgainst(path=str(items), name="held-out"),)
    config = world_config(tmp_path, sources=sources, against=against, filters=PLAIN)
    with pytest.raises(OverlapError, match=r"2 of 3 rows of the sources .*held-out 2"):
        gathered(config)
    allowed = BuildFilters(near_duplicate=0.0, max_overlap=0.7)
    store = gathered(world_config(tmp_path, sources=sources, against=against, filters=allowed))
    accounted(store, 3)
    assert Counter(row.detail.partition(":")[0] for row in store.dropped()) == {"held-out": 2}
    assert [asked.question for asked in store.questions()] == texts[:1]


def test_gathering_again_does_nothing(tmp_path: Path) -> None:
    """Even where it was cut off in the middle, the store ends the same."""
    texts = [f"{LONG} {i}" for i in range(20)] + [f"Who is number {i}?" for i in range(20)]
    config = world_config(tmp_path, sources=(asking(tmp_path / "in.jsonl", texts),), filters=NEAR)
    with Opened(tmp_path / "other") as half:
        half.store.add_questions(list(gathered(config).questions())[:7])
        questions.gather(config, half.store)
        questions.gather(config, half.store)
        whole = gathered(config)
        assert list(half.store.questions()) == list(whole.questions())
        assert list(half.store.dropped()) == list(whole.dropped())


def test_splits_are_of_clusters_and_near_their_shares() -> None:
    """A cluster is in one split, drawn by the seed alone."""
    splits = BuildSplits(validation=0.1, test=0.2)
    found = Counter(split_of(str(i), splits, seed=1) for i in range(4000))
    assert found == Counter(split_of(str(i), splits, seed=1) for i in range(4000))
    assert abs(found["validation"] - 400) < 80
    assert abs(found["test"] - 800) < 110
    assert split_of("x", BuildSplits(validation=0.0), seed=1) == "train"


def test_what_an_interrupted_run_left_is_deleted(tmp_path: Path) -> None:
    """Its sources may have been others: their questions, drops and given rows are none of this build."""
    rows = [{"question": "Who was it?", "answer": "Ada", "correction": "Bob"}] * 2
    old = BuildSource(path=str(written(tmp_path / "old.jsonl", [*rows, {"question": 7}])), takes="triples")
    with pytest.raises(InputFileError):
        gathered(world_config(tmp_path, sources=(old,)))
    with Store(tmp_path / "out" / "build.sqlite") as store:
        store.add_questions([Asked(id="q", question="Old?", source="old", place="old.jsonl:1")])
        store.add_answers([Answered(id="a", question="q", upstream="old", sample=0, key="a", text="Ada")])
        store.drop([Dropped("questions", "d", "same_question")])
    store = gathered(world_config(tmp_path, sources=(asking(tmp_path / "in.jsonl", ["What is this?"]),)))
    accounted(store, 1)
    assert store.counts("answers") == store.counts("dropped") == 0
    (step, *_) = steps(world_config(tmp_path, sources=(asking(tmp_path / "in.jsonl", ["What is this?"]),)), store)
    assert step == ("questions", 1, 1, {})


def test_rows_that_are_missing_do_not_add_up(tmp_path: Path) -> None:
    """What came is what was counted while it was read, whatever is in the store."""
    config = world_config(tmp_path, sources=(asking(tmp_path / "in.jsonl", ["What is this?", "Who is it?"]),))
    store = gathered(config)
    with store.writing() as db:
        db.execute("DELETE FROM questions WHERE id IN (SELECT id FROM questions LIMIT 1)")
    with pytest.raises(InputFileError, match="does not add up at the stage questions"):
        steps(config, store)


def test_dropped_rows_name_their_source_and_place(tmp_path: Path) -> None:
    """As their ids say nothing to a reader."""
    store = gathered(
        world_config(tmp_path, sources=(asking(tmp_path / "in.jsonl", ["Who is it?", "?!", "Who is it?"]),))
    )
    found = {(row.reason, row.source, row.place.rpartition("/")[2]) for row in store.dropped("questions")}
    assert found == {("no_words", "in", "in.jsonl:2"), ("same_question", "in", "in.jsonl:3")}


def test_what_an_assistant_said_before_is_looked_at_too(tmp_path: Path) -> None:
    """It is trained on as the rest of a question is."""
    items = written(tmp_path / "items.jsonl", [{"question": LONG}])
    turns = [
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": LONG},
        {"role": "user", "content": "Go on."},
    ]
    source = BuildSource(path=str(written(tmp_path / "in.jsonl", [{"messages": turns}])), question="messages")
    filters = BuildFilters(near_duplicate=0.0, max_overlap=1.0)
    against = (BuildAgainst(path=str(items)),)
    store = gathered(world_config(tmp_path, sources=(source,), against=against, filters=filters))
    assert store.drop_reasons("questions") == {"overlap": 1}


def test_right_answers_of_a_benchmark_are_looked_for_where_they_are_long(tmp_path: Path) -> None:
    """A short one may stand anywhere."""
    solution = "She sold half of the forty-eight clips in April, so twenty-four, and seventy-two in all. #### 72"
    path = written(tmp_path / "gsm8k.jsonl", [{"question": "How many clips did she sell?", "answer": solution}])
    (found,) = sets_of((BuildAgainst(path=str(path), task="gsm8k"),))
    assert any("forty-eight clips" in text for text in found.texts)
    assert "72" not in found.texts


def test_a_source_without_rows_is_told(tmp_path: Path) -> None:
    """In one line, by its name."""
    sources = (asking(tmp_path / "in.jsonl", ["Who is it?"]), asking(tmp_path / "none.jsonl", []))
    (line,) = questions.empty_lines(gathered(world_config(tmp_path, sources=sources)))
    assert '"none" gave no row' in line


def test_two_processes_that_gather_at_once_read_the_sources_once(tmp_path: Path) -> None:
    """The second waits, and finds them read."""
    config = world_config(
        tmp_path, sources=(asking(tmp_path / "in.jsonl", [f"Who is number {i}?" for i in range(3000)]),)
    )
    program = "import pickle, sys; from aligner.building import questions; from aligner.building.store import Store;"
    program += " config = pickle.load(sys.stdin.buffer); questions.gather(config, Store(config.out / 'build.sqlite'))"
    others = [subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE) for _ in range(2)]
    for other in others:
        assert other.stdin
        other.stdin.write(pickle.dumps(config))
        other.stdin.close()
    assert [other.wait() for other in others] == [0, 0]
    with Store(config.out / "build.sqlite") as store:
        accounted(store, 3000)
