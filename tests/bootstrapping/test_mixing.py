"""Laws of lessons: what is learnt, what is only watched, and what is mixed in."""

from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aligner.bootstrapping.mixing import left_out, lesson_in, lesson_of, save_lesson
from aligner.bootstrapping.nouns import Gated, Lesson, Pair
from aligner.config.bootstrapping import BootstrapMix, PairGate, Way
from aligner.errors import InputFileError
from aligner.records import Message

MIX, GATE = BootstrapMix(earlier=0.5, original_share=0.25), PairGate()
WAYS: tuple[Way, ...] = ("sft", "dpo", "kto", "rloo", "grpo")
TEXTS = st.text(st.characters(exclude_categories=["Cs"]))
ASKED = TEXTS.filter(str.strip)
CONVERSATIONS = st.builds(
    lambda before, last: (*before, Message("user", last)),
    st.lists(st.builds(Message, st.sampled_from(["system", "user", "assistant"]), TEXTS), min_size=1, max_size=3),
    ASKED,
)
PAIRS = st.builds(Pair, ASKED | CONVERSATIONS, TEXTS, TEXTS | st.none())
FATES = ("learnt", "unchanged", "cut off", "small edit", "not preferred")


def gated(count: int, fate: Any = "learnt", prefix: str = "Q") -> list[Gated]:
    """Rows of that fate, each with a question of its own."""
    return [Gated(f"{prefix}{i}", f"a{i}", f"b{i}", fate, {}) for i in range(count)]


def lesson(rows: list[Gated], earlier: Any = (), original: Any = (), way: Way = "sft", **others: Any) -> Lesson:
    """The lesson of these rows."""
    given: dict[str, Any] = {"mix": MIX, "gate": GATE, "seed": 0} | others
    return lesson_of(rows, earlier, original, way=way, **given)


@settings(max_examples=40)
@given(st.lists(PAIRS, max_size=5), st.lists(PAIRS, max_size=5))
def test_a_saved_lesson_is_the_lesson(pairs: list[Pair], watched: list[Pair]) -> None:
    """Whatever the texts, a lesson comes back as it went in."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "lessons.jsonl"
        save_lesson(Lesson(pairs, watched), path)
        assert lesson_in(path) == Lesson(pairs, watched)


@pytest.mark.parametrize(
    "line", ['{"question": "Q", "chosen": "c", "rejected": null}', '{"question": "Q", "watched": true}']
)
def test_another_file_is_no_lesson(tmp_path: Path, line: str) -> None:
    """Rows that are no lesson's are told by their line."""
    (tmp_path / "other.jsonl").write_text(f"{line}\n")
    with pytest.raises(InputFileError, match=r"other\.jsonl:1: is no row of a lesson"):
        lesson_in(tmp_path / "other.jsonl")


@given(
    st.lists(
        st.builds(Gated, st.sampled_from("ABCDEFGH"), TEXTS, TEXTS, st.sampled_from(FATES), st.just({})), max_size=90
    ),
    st.lists(
        st.builds(Gated, st.sampled_from("ABCDEFGH"), TEXTS, TEXTS, st.sampled_from(FATES), st.just({})), max_size=9
    ),
    st.lists(st.tuples(st.sampled_from("ABCDEFGH"), TEXTS), max_size=9),
    st.sampled_from(WAYS),
)
def test_what_is_watched_is_never_learnt_from(
    rows: list[Gated], earlier: list[Gated], original: list[tuple[str, str]], way: Way
) -> None:
    """No question of a watched correction is learnt from, in whatever row it stands, and ways with pairs have both."""
    found = lesson(rows, earlier, original, way, mix=BootstrapMix(earlier=1, original_share=1))
    assert {pair.question for pair in found.pairs}.isdisjoint(pair.question for pair in found.watched)
    assert way in ("sft", "kto") or all(pair.rejected is not None for pair in [*found.pairs, *found.watched])


@pytest.mark.parametrize(
    ("learnt", "watched"), [(0, 0), (19, 0), (20, 1), (29, 1), (100, 5), (1000, 50), (4000, 200), (9000, 200)]
)
def test_a_twentieth_is_watched_of_enough(learnt: int, watched: int) -> None:
    """About 5 % of the corrections are watched, at least one and at most 200, and none of fewer than 20."""
    found = lesson(gated(learnt))
    assert (len(found.watched), len(found.pairs)) == (watched, learnt - watched)


def test_who_is_watched_depends_on_the_questions_alone() -> None:
    """Another seed, way or order of the rows watches the same corrections, and another seed changes the order."""
    rows = gated(200)
    first, other = lesson(rows), lesson(rows[::-1], seed=1, way="dpo")
    assert first.watched == other.watched
    assert first == lesson(rows)
    assert first.pairs != other.pairs
    assert Counter(first.pairs) == Counter(other.pairs)


def test_sft_learns_unchanged_and_original_answers_too() -> None:
    """By the shares that are asked for, of what is there; they have no rejected side."""
    rows = [*gated(10), *gated(30, "unchanged", "U"), *gated(9, "not preferred", "N"), *gated(9, "cut off", "C")]
    earlier = [*gated(50, prefix="E"), *gated(50, "unchanged", "EU")]
    original = [(f"O{i}", "text") for i in range(50)]
    kinds = Counter((str(pair.question)[0], pair.rejected is None) for pair in lesson(rows, earlier, original).pairs)
    assert kinds == {("Q", False): 10, ("U", True): 30, ("E", False): 5, ("O", True): 10}
    left = lesson(rows, earlier, original, gate=PairGate(unchanged="leave"))
    assert Counter(str(pair.question)[0] for pair in left.pairs) == {"Q": 10, "E": 5, "O": 2}
    assert len(lesson(rows, earlier[:3], original[:4]).pairs) == 10 + 30 + 3 + 4


def test_kto_learns_from_single_verdicts() -> None:
    """Unchanged answers are desirable, and a correction that is worse by something and better by nothing is not."""
    said = [{"helpful": "a", "honest": "tie"}, {"helpful": "a", "honest": "b"}, {"helpful": "tie"}]
    worse = [Gated(f"W{i}", "answer", "correction", "not preferred", one) for i, one in enumerate(said)]
    found = lesson([*gated(3), *gated(2, "unchanged", "U"), *gated(2, "kept", "K"), *worse], way="kto").pairs
    assert {pair for pair in found if str(pair.question)[0] in "WK"} == {Pair("W0", "answer", "correction")}
    assert Counter(str(pair.question)[0] for pair in found) == {"Q": 3, "U": 2, "W": 1}


@pytest.mark.parametrize("way", ["dpo", "rloo", "grpo"])
def test_preferences_leave_out_what_has_no_rejected_side(way: Way) -> None:
    """Only corrections are learnt, of this round and of earlier ones, and what is left out is counted."""
    rows, original = [*gated(12), *gated(30, "unchanged", "U")], [(f"O{i}", "text") for i in range(50)]
    found = lesson(rows, gated(50, prefix="E"), original, way)
    assert Counter(str(pair.question)[0] for pair in found.pairs) == {"Q": 12, "E": 6}
    assert left_out(rows, original, mix=MIX, gate=GATE, way=way) == {"unchanged": 30, "original": 3}
    assert left_out(rows, original, mix=MIX, gate=GATE, way="sft") == {}


def test_there_may_be_nothing_to_learn() -> None:
    """A round in which no correction passed teaches nothing, not even what earlier ones taught."""
    assert lesson(gated(9, "not preferred"), gated(9), [("Q", "A")]) == Lesson([], [])
