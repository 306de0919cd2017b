"""Laws of training on feedback: what people said is learnt, split by conversation, as it stood when the run began."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from logged_rows import row

from aligner.cli import main
from aligner.config import CopyingStage, CorrectionStage, IdentityStage, NewModel, TrainConfig
from aligner.data.fields import row_of, triple_of
from aligner.data.splits import hold_out
from aligner.errors import AlignerError, MisuseError
from aligner.files import write_rows
from aligner.records import Message, Triple, as_messages
from aligner.serving.database import place_of
from aligner.serving.logged import Feedback, Verdict
from aligner.serving.store import Store
from aligner.train import begin, train
from aligner.training.card import Card

VERDICTS: tuple[Verdict, ...] = ("accept", "reject", "edit")


def logged(database: str, numbers: Iterable[int]) -> str:
    """A log of judged answers, three to a conversation; gives the database."""
    with closing(Store(place_of(database))) as store:
        for number in numbers:
            question = f"What is {number} and 1?"
            texts: Any = {"question": question, "answer": f"It is {number}.", "correction": f"It is {number + 1}."}
            made = row(number, messages=(Message("user", question),), conversation=f"talk {number // 3}", **texts)
            assert store.write([made]) == 0
            verdict = VERDICTS[number % 3]
            text = f"{number + 1}, I think." if verdict == "edit" else None
            assert store.add_feedback(Feedback(id=made.id, verdict=verdict, text=text, reviewer="ann", created=1.0))
    return database


def config(out: Path, *databases: str, **changes: Any) -> TrainConfig:
    """A short training of a small model."""
    stage: Any = {"batch": 4, "accumulate": 1, "max_steps": 2, "learning_rate": 1e-3}
    base = TrainConfig(
        out=out,
        feedback=databases,
        new=NewModel(layers=1, width=16, heads=2, inner=32, vocabulary=300, context=128),
        held_out=6,
        copying=CopyingStage(**stage, rows=8),
        identity=IdentityStage(**stage),
        correction=CorrectionStage(**stage),
        device="cpu",
        save_every=1,
    )
    return replace(base, **changes)


ASKED = st.sampled_from("abcdefgh")
TRIPLES = st.lists(
    st.builds(
        Triple, ASKED, st.just("answer"), st.sampled_from(["answer", "better"]), conversation=ASKED | st.just("")
    ),
    min_size=2,
    max_size=30,
)


@given(TRIPLES, st.integers(0, 8), st.integers(0, 3))
def test_no_question_and_no_conversation_is_on_both_sides(triples: list[Triple], count: int, seed: int) -> None:
    """Rows that share a question or a conversation stay together, every row is on one side, and their order stays."""
    try:
        split = hold_out(triples, count, seed=seed)
    except MisuseError:
        return
    assert len(split.training) + len(split.held_out) == len(triples)
    assert [one for one in triples if one in split.training] == split.training
    for name in ("question", "conversation"):
        one, other = ({getattr(each, name) for each in side} - {""} for side in split)
        assert not one & other
    assert len(split.held_out) >= count


def test_one_busy_conversation_is_not_all_that_is_held_out() -> None:
    """A conversation larger than what is wanted is held out only where nothing else would do."""
    rows = [Triple(f"q{i}", "a", "b", conversation="busy") for i in range(50)]
    rows += [Triple(f"p{i}", "a", "b", conversation=f"talk {i}") for i in range(50)]
    for seed in range(20):
        assert len(hold_out(rows, 10, seed=seed).held_out) == 10


def test_a_split_of_plain_questions_is_what_it_was() -> None:
    """Where no conversation is known, rows are held out by a hash of their question alone."""
    rows = [Triple(f"What is {i}?", "a", "b") for i in range(40)]
    numbers = [rows.index(one) for one in hold_out(rows, 5, seed=1).held_out]
    assert numbers == [4, 17, 24, 27, 31]


def test_feedback_is_learnt_with_triples(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Triples of a file come first, then what each verdict teaches; the card names how many were judged, and a hash."""
    database = logged(str(tmp_path / "log.db"), range(24))
    write_rows(tmp_path / "t.jsonl", [row_of(Triple("Who?", "I.", "You."))])
    checkpoint = train(config(tmp_path / "run", database, triples=tmp_path / "t.jsonl"))
    card = Card.load(checkpoint)
    assert (card.data["rows"], card.data["judged"]) == (25, 24)
    assert card.training["votes"] == 1
    assert str(tmp_path) not in (checkpoint / "aligner.json").read_text()
    kept = [triple_of(orjson.loads(line)) for line in (tmp_path / "run" / "feedback.jsonl").read_bytes().splitlines()]
    assert [one.correction for one in kept[:3]] == ["It is 1.", "It is 1.", "3, I think."]
    assert [one.is_identity for one in kept[:3]] == [False, True, False]
    samples = [json.loads(line) for line in (tmp_path / "run" / "samples.jsonl").read_text().splitlines()]
    talks = {one.conversation for one in kept if one.question in {sample["question"] for sample in samples}}
    held = {sample["question"] for sample in samples}
    assert {str(one.question) for one in kept if one.conversation in talks} <= held
    assert "24 corrections read, 24 triples written, 0 left out" in capsys.readouterr().err


def test_a_run_keeps_what_the_log_held_when_it_began(tmp_path: Path) -> None:
    """A log that grows, or that is gone, changes nothing in a run that has begun, finished or not."""
    database = logged(str(tmp_path / "log.db"), range(12))
    first = begin(config(tmp_path / "run", database)).read_triples()
    logged(database, range(12, 18))
    assert begin(config(tmp_path / "run", database)).read_triples() == first
    Path(database).unlink()
    assert begin(config(tmp_path / "run", database)).read_triples() == first
    with pytest.raises(MisuseError, match="holds another run"):
        begin(config(tmp_path / "run", database, votes=2))


def test_a_run_begun_before_anybody_judged_is_not_stuck(tmp_path: Path) -> None:
    """The same command learns what was said since."""
    database = str(tmp_path / "log.db")
    with closing(Store(place_of(database))) as store:
        store.write([row(0)])
    for _ in range(2):
        with pytest.raises(MisuseError, match="no triples to learn from"):
            begin(config(tmp_path / "run", database)).read_triples()
    logged(database, range(1, 6))
    assert len(begin(config(tmp_path / "run", database)).read_triples()) == 5


def test_logs_and_guards_add_up(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Several logs are read one after the other, and a reviewer's limit is that of all of them together."""
    one, other = logged(str(tmp_path / "1.db"), range(6)), logged(str(tmp_path / "2.db"), range(6, 12))
    assert len(begin(config(tmp_path / "a", one, other)).read_triples()) == 12
    assert len(begin(config(tmp_path / "b", one, other, most_per_reviewer=8)).read_triples()) == 8
    assert "12 corrections read, 8 triples written, 4 left out (4 beyond 8 of one reviewer)" in capsys.readouterr().err
    with pytest.raises(MisuseError, match="no triples to learn from"):
        begin(config(tmp_path / "c", one, votes=2)).read_triples()
    with pytest.raises(MisuseError, match="no triples to learn from"):
        begin(config(tmp_path / "d", one, reviewers=("bob",))).read_triples()


def test_a_file_of_exported_triples_is_split_the_same(tmp_path: Path) -> None:
    """What `aligner export` wrote, trained on as a file, holds out the same conversations as the log itself."""
    database = logged(str(tmp_path / "log.db"), range(24))
    assert main(["export", database, "--out", str(tmp_path / "t.jsonl")]) == 0
    sides = [
        hold_out(begin(one).read_triples(), 6, seed=1).held_out
        for one in (config(tmp_path / "1", database), config(tmp_path / "2", triples=tmp_path / "t.jsonl"))
    ]
    assert sides[0] == sides[1]
    assert len({as_messages(one.question) for one in sides[0]}) == len(sides[0])


def test_a_password_is_not_written_down(tmp_path: Path) -> None:
    """The run folder names the database without its password."""
    with pytest.raises(AlignerError) as caught:
        begin(config(tmp_path / "run", "postgresql://ann:secret@localhost:1/log"))
    assert "secret" not in str(caught.value)
    assert "secret" not in (tmp_path / "run" / "config.toml").read_text()


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ([], "nothing to learn from: give --triples, --feedback or both"),
        (["t.jsonl", "--votes", "2"], "choose among feedback: give --feedback"),
        (["--feedback", "none.db"], "none.db: no such file"),
        (["--feedback", "log.db", "--votes", "0"], "--votes is 0; it must be at least 1"),
    ],
)
def test_misuse_is_one_line(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    *,
    arguments: list[str],
    line: str,
) -> None:
    """What cannot be right is said in one line, with exit code 2."""
    monkeypatch.chdir(tmp_path)
    assert main(["train", *arguments, "--out", "run"]) == 2
    told = capsys.readouterr().err
    assert line in told
    assert told.count("\n") == 1


_FLAGS = """--held-out 20 --save-every 2 --device cpu --max-length 128
--new.layers 1 --new.width 32 --new.heads 2 --new.inner 64 --new.vocabulary 400 --new.context 128
--identity.batch 8 --identity.accumulate 1 --copying.rows 64 --copying.batch 8
--copying.accumulate 1 --identity.epochs 1
--correction.batch 8 --correction.accumulate 1 --correction.epochs 1""".split()


@pytest.mark.slow
def test_a_kill_and_a_growing_log_change_nothing(tmp_path: Path) -> None:
    """Killed in the middle while the log grows, the same command makes the checkpoint of an undisturbed run."""
    database = logged(str(tmp_path / "log.db"), range(120))

    def command(out: Path) -> list[str]:
        return [sys.executable, "-m", "aligner", "train", "--feedback", database, "--out", str(out), *_FLAGS]

    subprocess.run(command(tmp_path / "undisturbed"), check=True, capture_output=True)
    killed = subprocess.Popen(command(tmp_path / "killed"), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while killed.poll() is None and not list((tmp_path / "killed").glob("*/checkpoint-*/trainer_state.json")):
        time.sleep(0.05)
    killed.send_signal(signal.SIGKILL)
    assert killed.wait() == -signal.SIGKILL
    logged(database, range(120, 150))
    subprocess.run(command(tmp_path / "killed"), check=True, capture_output=True)
    one, other = (
        {path.name: path.read_bytes() for path in (tmp_path / name / "checkpoint").iterdir()}
        for name in ("undisturbed", "killed")
    )
    assert one == other
