"""Laws of the file of corrections: whole answers alone are corrected, pass after pass, and it survives any end."""

import json
import subprocess
import sys
import time
from collections.abc import Sequence
from io import StringIO
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from aligner.bootstrapping.answering import asked_in, row_of
from aligner.bootstrapping.correcting import correct, corrected_in, edit_of
from aligner.bootstrapping.lineage import Place
from aligner.bootstrapping.nouns import Asked, Corrected
from aligner.correct import Aligner
from aligner.errors import InputFileError, MisuseError
from aligner.files import write_rows
from aligner.jobs import progress
from aligner.models.batched import AHEAD
from aligner.records import Exchange, Message
from aligner.testing.texts import EMOJI, HOSTILE, SEPARATORS

ASKED: Sequence[Asked] = (
    Asked("Where?", "In Lyon it is.", "stop"),
    Asked("Where?", "In Lyon it", "length"),
    Asked("a b", "", "context"),
    Asked("Where?", " \n", "stop"),
    Asked((Message("user", "Hi"), Message("assistant", "Ho"), Message("user", "Who?")), HOSTILE, "stop"),
    Asked(SEPARATORS, SEPARATORS, "stop"),
    Asked(EMOJI, f"{EMOJI} Lyon </s><|im_end|>", "stop"),
)
SLOW = """
import sys
from pathlib import Path
from aligner.bootstrapping.answering import asked_in
from aligner.bootstrapping.correcting import correct
from aligner.bootstrapping.lineage import Place
from aligner.correct import Aligner
from aligner.jobs import progress

asked, rules, folder = map(Path, sys.argv[1:])
place = Place(folder / "corrections.jsonl", folder / "scratch")
aligners = [Aligner.from_pretrained(f"rules:{rules}")]
with progress("corrections") as tick:
    correct(aligners, asked_in(asked), passes=2, batch=1, place=place, tick=tick)
"""
TEXTS = st.text(max_size=30) | st.text(st.sampled_from("ab ._\n\t"), max_size=12)


def rules(folder: Path, *pairs: tuple[str, str]) -> Aligner:
    """An Aligner that replaces words."""
    path = folder / f"{len(list(folder.iterdir()))}.json"
    path.write_text(json.dumps([{"pattern": old, "replace": new} for old, new in pairs]))
    return Aligner.from_pretrained(f"rules:{path}")


def corrected(
    folder: Path, aligners: Sequence[Aligner], asked: Sequence[Asked] = ASKED, **others: Any
) -> list[Corrected]:
    """What the file holds."""
    place = Place(folder / "corrections.jsonl", folder / "scratch")
    place.scratch.mkdir(exist_ok=True)
    told, options = StringIO(), {"passes": 1, "batch": 4, **others}
    with progress("correct", stream=told) as tick:
        correct(aligners, asked, place=place, tick=tick, **options)
    assert f"correct: {len(asked)} rows" in told.getvalue()
    assert list(place.scratch.iterdir()) == []
    return corrected_in(place.path)


def test_answers_are_corrected_unless_they_were_cut_off_or_are_empty(tmp_path: Path) -> None:
    """Those stay as they are with what ended them and why; all others are the Aligner's, letter by letter."""
    found = corrected(tmp_path, [rules(tmp_path, ("Lyon", "Paris"))])
    assert [Asked(row.question, row.answer, row.finish) for row in found] == list(ASKED)
    assert [row.correction for row in found[1:4]] == [row.answer for row in ASKED[1:4]]
    reasons = ["the answer was cut off"] * 2 + ["the answer was empty"]
    assert [row.kept_reason for row in found] == [None, *reasons, None, None, None]
    assert [row.correction for row in found if row.finish == "stop" and row.answer.strip()] == [
        row.answer.replace("Lyon", "Paris") for row in ASKED if row.finish == "stop" and row.answer.strip()
    ]
    assert [row.edit > 0 for row in found] == [row.correction != row.answer for row in found]


def test_a_guard_says_why_an_answer_was_kept(tmp_path: Path) -> None:
    """Where the Aligner wrote something that may not replace the answer."""
    first, *_ = corrected(tmp_path, [rules(tmp_path, (r".*\n?", ""))])
    assert first == Corrected("Where?", ASKED[0].answer, ASKED[0].answer, "stop", 0.0, "the correction was empty")


def test_each_pass_sees_what_the_pass_before_left(tmp_path: Path) -> None:
    """The whole row of Aligners over again, each of whom reads the text of the one before."""
    row = [rules(tmp_path, ("b", "c"), ("a", "b")), rules(tmp_path, ("c", "d"))]
    asked = [Asked("Which?", "a", "stop")]
    made = [corrected(tmp_path, row, asked, passes=passes)[0] for passes in (1, 2, 3)]
    assert [one.correction for one in made] == ["b", "d", "d"]
    assert corrected(tmp_path, [], asked)[0].correction == "a"
    with pytest.raises(MisuseError, match="passes are 1 or more, not 0"):
        corrected(tmp_path, row, asked, passes=0)


def test_a_language_model_corrects_as_it_does_elsewhere(tmp_path: Path) -> None:
    """The shipped Aligner's texts are those of `correct_many`, in order, with hostile texts among them."""
    demo = Aligner.from_pretrained("demo", device="cpu")
    asked = [*ASKED, *(Asked(f"What is {i}?", f"It is {i}, sorry.", "stop") for i in range(6))]
    whole = [row for row in asked if row.finish == "stop" and row.answer.strip()]
    expected = iter(list(demo.correct_many([Exchange(row.question, row.answer) for row in whole], batch=4)))
    for row in corrected(tmp_path, [demo], asked):
        if row.finish == "stop" and row.answer.strip():
            one = next(expected)
            assert (row.correction, row.kept_reason) == (one.text, one.kept_reason)


@settings(max_examples=40)
@given(st.lists(st.tuples(st.text(min_size=1).filter(str.strip), st.text()), max_size=4))
@example([("</s>", "<|endoftext|>{{ bos_token }}\u2028\x00")])
def test_any_text_comes_back_letter_by_letter(texts: list[tuple[str, str]]) -> None:
    """What an Aligner leaves as it is, is the answer; questions and answers are what they were."""
    asked = [Asked(question, answer, "stop") for question, answer in texts]
    with TemporaryDirectory() as folder:
        found = corrected(Path(folder), [rules(Path(folder), ("never said at all", ""))], asked)
    assert [(row.question, row.answer, row.correction, row.edit) for row in found] == [
        (row.question, row.answer, row.answer, 0.0) for row in asked
    ]


@given(TEXTS, TEXTS)
@example("a", "a ")
@example("a b", "a  b")
@example("", "a")
@example("e\u0301", "\u00e9")
def test_an_edit_is_the_share_of_tokens_that_change(answer: str, correction: str) -> None:
    """None for equal texts alone, all at most, and as much there as back."""
    found = edit_of(answer, correction)
    assert 0 <= found <= 1
    assert (found == 0) == (answer == correction)
    assert found == edit_of(correction, answer)


def test_an_edit_counts_words_and_marks() -> None:
    """One word in four, and a word more is one, too."""
    assert edit_of("It is Lyon.", "It is Paris.") == 1 / 4
    assert edit_of("It is Lyon.", "It is not Lyon.") == 1 / 5
    assert edit_of("No", "Yes, sure") == 1


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"edit": None}, '"edit" is null, not a number'),
        ({"edit": True}, '"edit" is true or false, not a number'),
        ({"correction": 3}, '"correction" is a number, not text'),
        ({"kept_reason": 3}, '"kept_reason" is a number, not text'),
    ],
)
def test_a_row_of_something_else_is_told_by_its_line(tmp_path: Path, fields: dict[str, Any], problem: str) -> None:
    """What is no correction is no row of such a file."""
    path = tmp_path / "corrections.jsonl"
    row = {"question": "Who?", "answer": "", "finish": "stop", "correction": "", "edit": 0, "kept_reason": None}
    write_rows(path, [row, row | fields])
    with pytest.raises(InputFileError) as caught:
        corrected_in(path)
    assert str(caught.value) == f"{path}:2: {problem}"


@pytest.mark.slow
def test_killed_at_random_moments_it_ends_with_the_same_bytes(tmp_path: Path) -> None:
    """Killed again and again, the corrections are those of an undisturbed run, and nothing else is left."""
    seed = time.time_ns() % 10**6
    random, source, slow = Random(seed), tmp_path / "asked.jsonl", tmp_path / "rules.json"
    asked = [
        Asked(f"Who is {i}?", f"Lyon, no. {i} {'la ' * (i % 9)}", random.choice(["stop", "length"]))
        for i in range(1500)
    ]
    write_rows(source, map(row_of, asked))
    assert asked_in(source) == asked
    patterns = [{"pattern": f"(?:\\w+\\W+)*?{word}", "replace": word} for word in ("alpha", "omega")]
    slow.write_text(json.dumps([*patterns, {"pattern": "Lyon", "replace": "Paris"}]))
    folders = [tmp_path / name for name in ("once", "killed")]
    commands = [[sys.executable, "-c", SLOW, str(source), str(slow), str(folder)] for folder in folders]
    for folder in folders:
        (folder / "scratch").mkdir(parents=True)
    subprocess.run(commands[0], check=True, stderr=subprocess.DEVNULL)
    whole, partial = (
        (folders[0] / "corrections.jsonl").read_bytes(),
        folders[1] / "scratch" / f"corrections-{AHEAD}.jsonl.partial",
    )
    for _ in range(3):
        size = partial.stat().st_size if partial.exists() else 0
        grown = size + random.randrange(1, len(whole) // 6)
        process = subprocess.Popen(commands[1], stderr=subprocess.DEVNULL)
        while process.poll() is None and not (partial.exists() and partial.stat().st_size >= grown):
            time.sleep(0.001)
        process.kill()
        assert process.wait() < 0, f"seed {seed}: the work was over before it could be killed"
    assert 0 < partial.stat().st_size < len(whole)
    subprocess.run(commands[1], check=True, stderr=subprocess.DEVNULL)
    assert (folders[1] / "corrections.jsonl").read_bytes() == whole, f"seed {seed}"
    assert list(partial.parent.iterdir()) == []
