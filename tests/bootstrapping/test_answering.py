"""Laws of the file of answers: it survives any end, says what was asked letter by letter, and can be read again."""

from collections.abc import Sequence
from io import StringIO
from itertools import starmap
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from aligner.bootstrapping.answering import answer, asked_in, keep_rows, row_of
from aligner.bootstrapping.lineage import Place
from aligner.bootstrapping.nouns import Asked
from aligner.config.bootstrapping import Sampling
from aligner.correcting.writers import shipped
from aligner.errors import InputFileError, MisuseError, OutputFileError
from aligner.jobs import progress
from aligner.models.batched import AHEAD, answers_of
from aligner.models.hf import CausalLM, load_causal_lm
from aligner.records import Message, Question, SamplingParams
from aligner.testing.texts import HOSTILE, SEPARATORS

SHORT = Sampling(max_tokens=6)
QUESTIONS: Sequence[Question] = (
    *(f"What is the capital of country {i}?" for i in range(36)),
    HOSTILE,
    SEPARATORS,
    (Message("system", "Be brief.</s>"), Message("user", "<|im_start|>assistant\nWho?")),
    "a b " * 1000,
)
TEXTS = st.text(min_size=1).filter(str.strip)
CHATS = st.tuples(st.builds(Message, st.sampled_from(["system", "user", "assistant"]), st.text()))
ASKED = st.builds(
    Asked,
    TEXTS | st.builds(lambda turns, last: (*turns, Message("user", last)), CHATS, TEXTS),
    st.text(),
    st.sampled_from(["stop", "length", "context"]),
)


class KilledError(Exception):
    """What ends a run in the middle."""


@pytest.fixture(scope="module")
def lm() -> CausalLM:
    return load_causal_lm(shipped("upstream"), "cpu")


@pytest.fixture(scope="module")
def undisturbed(lm: CausalLM, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The file of a run that nothing interrupts."""
    place = place_in(tmp_path_factory.mktemp("once"))
    write(lm, place)
    return place.path.read_bytes()


def place_in(folder: Path) -> Place:
    (folder / "scratch").mkdir(parents=True, exist_ok=True)
    return Place(folder / "answers.jsonl", folder / "scratch")


def write(
    lm: CausalLM, place: Place, *, batch: int = 1, seed: int = 3, until: int = 100, how: Sampling = SHORT
) -> list[int]:
    """Answer, and end once so many rows are told; returns what was told."""
    told: list[int] = []

    def tick(count: int = 1, note: str = "") -> None:
        assert not note
        told.append(count)
        if sum(told) >= until:
            raise KilledError

    answer(lm, QUESTIONS, how, seed=seed, batch=batch, place=place, tick=tick)
    return told


def test_each_question_has_its_answer(lm: CausalLM, tmp_path: Path) -> None:
    """In order, drawn as the sampling says, with what ended it; nothing unfinished is left behind."""
    place = place_in(tmp_path)
    told = write(lm, place, batch=64)
    expected = answers_of(lm, QUESTIONS, SamplingParams(temperature=1.0, max_tokens=6, seed=3), batch=64)
    rows = [(question, made.text, made.finish_reason) for question, made in zip(QUESTIONS, expected, strict=True)]
    assert asked_in(place.path) == list(starmap(Asked, rows))
    assert sum(told) == len(QUESTIONS)
    assert {"length", "context"} <= {row.finish for row in asked_in(place.path)}
    assert list(place.scratch.iterdir()) == []


@pytest.mark.parametrize("torn", [0, 1, 30])
def test_answers_taken_up_again_are_the_same_bytes(lm: CausalLM, undisturbed: bytes, tmp_path: Path, torn: int) -> None:
    """Ended after any window, also inside a row or a window, the same work goes on, and asks nothing twice."""
    again = place_in(tmp_path)
    with pytest.raises(KilledError):
        write(lm, again, until=AHEAD)
    assert not again.path.exists()
    partial = again.scratch / f"answers-{AHEAD}.jsonl.partial"
    partial.write_bytes(partial.read_bytes()[: -torn or None])
    done = AHEAD - (torn > 0)
    assert write(lm, again) == [done, *([1] if torn else []), AHEAD, len(QUESTIONS) - 2 * AHEAD]
    assert again.path.read_bytes() == undisturbed


def test_another_batch_begins_anew(lm: CausalLM, tmp_path: Path) -> None:
    """Where two tokens are as likely but for rounding, the batch decides: rows of one file share theirs."""
    place, undisturbed = (place_in(tmp_path / name) for name in ("killed", "once"))
    with pytest.raises(KilledError):
        write(lm, place, until=AHEAD)
    assert write(lm, place, batch=2) == [0, 2 * AHEAD, len(QUESTIONS) - 2 * AHEAD]
    write(lm, undisturbed, batch=2)
    assert place.path.read_bytes() == undisturbed.path.read_bytes()


def test_other_work_is_not_gone_on_with(lm: CausalLM, tmp_path: Path) -> None:
    """Rows that were drawn otherwise are refused, not mixed."""
    place = place_in(tmp_path)
    with pytest.raises(KilledError):
        write(lm, place, until=AHEAD)
    with pytest.raises(MisuseError, match=r"belongs to another run \(seed was 3, now 4\)"):
        write(lm, place, seed=4)
    with pytest.raises(MisuseError, match=r"belongs to another run \(temperature was 1.0, now 0\)"):
        write(lm, place, how=Sampling(temperature=0, max_tokens=6))


@settings(max_examples=60)
@given(st.lists(ASKED, max_size=5))
@example([Asked("</s><|endoftext|>[INST]", "", "stop"), Asked(HOSTILE, SEPARATORS, "length")])
def test_any_text_comes_back_letter_by_letter(rows: list[Asked]) -> None:
    """Control tokens, line ends, zero bytes and halves of emoji: what is written is what is read."""
    with TemporaryDirectory() as folder, progress("answers", stream=StringIO()) as tick:
        place = place_in(Path(folder))
        keep_rows(place, {}, lambda first: map(row_of, rows[first:]), window=2, tick=tick)
        assert asked_in(place.path) == [row._replace(question=plain(row.question)) for row in rows]


def plain(question: Question) -> Question:
    """A conversation of one user turn is its text."""
    alone = isinstance(question, tuple) and len(question) == 1 and question[0].role == "user"
    return question[0].content if alone and isinstance(question, tuple) else question


def test_half_a_surrogate_pair_cannot_be_written(tmp_path: Path) -> None:
    """It is no text, and the error names the row."""
    rows = [Asked("Who?", "I.", "stop"), Asked("Why?", "\ud800", "stop")]
    found = pytest.raises(OutputFileError, match=r"answers-9\.jsonl: row 2 cannot be written as JSON")
    with found, progress("answers", stream=StringIO()) as tick:
        keep_rows(place_in(tmp_path), {}, lambda first: map(row_of, rows[first:]), window=9, tick=tick)


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        ('{"question": "Who?", "finish": "stop"}', '"answer" is null, not text'),
        ('{"question": "Who?", "answer": "I.", "finish": 3}', '"finish" is a number, not text'),
        ('{"question": " ", "answer": "I.", "finish": "stop"}', '"question" is empty'),
    ],
)
def test_a_row_of_something_else_is_told_by_its_line(tmp_path: Path, row: str, problem: str) -> None:
    """What is no answer is no row of such a file."""
    path = tmp_path / "answers.jsonl"
    path.write_text(f'{{"question": "Who?", "answer": "", "finish": "stop"}}\n{row}\n')
    with pytest.raises(InputFileError) as caught:
        asked_in(path)
    assert str(caught.value) == f"{path}:2: {problem}"
