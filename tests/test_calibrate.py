"""Laws of `aligner calibrate`: it changes the gate and nothing else, at once or not at all."""

import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tiny import tiny_aligner

from aligner.calibrate import calibrate, calibrated, raw_confidences
from aligner.cli import main
from aligner.config import CalibrateConfig, Gate
from aligner.correct import Aligner
from aligner.correcting.lm_writer import load_checkpoint
from aligner.correcting.writers import shipped
from aligner.data.fields import row_of
from aligner.demo import gate_rows, held_out
from aligner.errors import CheckpointError, MisuseError
from aligner.files import write_rows
from aligner.records import Triple
from aligner.training.card import Card, weights_hash
from aligner.training.gate import FittedGate, rows_needed
from aligner.training.model_card import model_card, save_model_card
from aligner.training.run import data_hash
from aligner.world.oracle import mark
from aligner.world.profiles import PROFILES

TRIPLES = [Triple(f"What is {i}?", f"It is {i}.", f"It is {i + i % 2}.") for i in range(120)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tiny_aligner(tmp_path / "aligner", context=72)


@pytest.fixture
def triples(tmp_path: Path) -> Path:
    write_rows(tmp_path / "held-out.jsonl", map(row_of, TRIPLES))
    return tmp_path / "held-out.jsonl"


def config(folder: Path, triples: Path, **fields: Any) -> CalibrateConfig:
    """A calibration on the CPU."""
    return CalibrateConfig(checkpoint=folder, triples=triples, device="cpu", **fields)


def test_the_command_writes_a_gate_and_says_what_it_promises(
    folder: Path, triples: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The rest of the card and the weights are as before, confidences are probabilities from then on; twice is once."""
    before, weights = Card.load(folder), weights_hash(folder)
    arguments = ["calibrate", str(folder), "--triples", str(triples), "--device", "cpu", "--wanted", "0.4"]
    assert main(arguments) == 0
    told = capsys.readouterr().out
    assert "60 good, 60 flawed" in told
    after = Card.load(folder)
    assert after.gate is not None
    assert replace(after, gate=None) == before
    assert weights_hash(folder) == weights
    gate = FittedGate.read(after.gate)
    assert (gate.wanted, gate.good, gate.flawed) == (0.4, 60, 60)
    (raw,) = raw_confidences(load_checkpoint(str(folder), "cpu"), TRIPLES[:1])
    assert raw is not None
    correction = Aligner.from_pretrained(str(folder), device="cpu").correct(TRIPLES[0].question, TRIPLES[0].answer)
    assert correction.confidence == gate.curve.probability(raw)
    assert main(arguments) == 0
    assert Card.load(folder) == after


def test_raw_confidences_are_those_of_whole_corrections(folder: Path) -> None:
    """One pass is enough to know them."""
    writer = load_checkpoint(str(folder), "cpu")
    aligner = Aligner(writer)
    whole = [aligner.correct(row.question, row.answer).confidence for row in TRIPLES[:8]]
    assert raw_confidences(writer, TRIPLES[:8], batch=3) == pytest.approx(whole, rel=1e-4)


def test_what_cannot_be_calibrated_leaves_the_card(folder: Path, triples: Path, tmp_path: Path) -> None:
    """Training rows, too few rows, a wrong rate, questions from elsewhere, and a folder that is no Aligner."""
    before = (folder / "aligner.json").read_bytes()
    few = tmp_path / "few.jsonl"
    write_rows(few, map(row_of, TRIPLES[:30]))
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"triples": few}, "20 answers of either kind"),
        ({"wanted": 0.0}, "between 0 and 1"),
        ({"by": "world"}, "closed world"),
        ({"by": "words"}, "standard"),
        ({"batch": 0}, "--batch"),
    ]
    for fields, problem in wrong:
        with pytest.raises(MisuseError, match=problem):
            calibrate(config(folder, **{"triples": triples, **fields}))
    assert (folder / "aligner.json").read_bytes() == before
    replace(Card.load(folder), data={"sha256": data_hash(TRIPLES)}).save(folder)
    with pytest.raises(MisuseError, match="trained on"):
        calibrate(config(folder, triples))
    with pytest.raises(CheckpointError, match="not an Aligner"):
        calibrate(config(tmp_path / "nowhere", triples))


KILLED = """
import os, signal, sys
from pathlib import Path
from aligner.calibrate import calibrate
from aligner.config import CalibrateConfig

name, folder, triples = sys.argv[1:]
renamed = os.replace

def killing(source, target, **given):
    if Path(target).name == name:
        os.kill(os.getpid(), signal.SIGKILL)
    renamed(source, target, **given)

Path.replace = killing
calibrate(CalibrateConfig(checkpoint=Path(folder), triples=Path(triples), device="cpu", wanted=0.4))
"""
"""a calibration that ends at the moment when that file would take its place"""


@pytest.mark.slow  # two starts of Python with a language model
def test_killed_it_leaves_a_whole_card(folder: Path, triples: Path) -> None:
    """The one before, or the one behind; the same command again ends as if nothing had been, README and all."""
    before = Card.load(folder)
    save_model_card(folder, before)
    old = (folder / "README.md").read_bytes()
    found = list[Card]()
    for name in ("aligner.json", "README.md"):
        command = [sys.executable, "-c", KILLED, name, str(folder), str(triples)]
        assert subprocess.run(command, capture_output=True).returncode == -signal.SIGKILL
        found.append(Card.load(folder))
        assert (folder / "README.md").read_bytes() == old
    calibrate(config(folder, triples, wanted=0.4))
    last = Card.load(folder)
    assert last.gate is not None
    assert found == [before, last]
    assert (folder / "README.md").read_text(encoding="utf-8") == model_card(last) != old.decode()


def test_a_damaged_gate_is_made_anew(folder: Path, triples: Path) -> None:
    """The cure that its error names works, for whatever stands in its place."""
    whole = Card.load(folder)
    save_model_card(folder, whole)
    cards = list[Card]()
    damaged: list[Any] = [{"slope": 1.0}, {"curve": "of another version"}, ["no", "gate"]]
    for gate in damaged:
        replace(whole, gate=gate).save(folder)
        calibrate(config(folder, triples))
        cards.append(Card.load(folder))
        assert load_checkpoint(str(folder), "cpu").calibration is not None
    assert cards[0] == cards[1] == cards[2]
    assert (folder / "README.md").read_text(encoding="utf-8") == model_card(cards[0])


@pytest.mark.parametrize("changed", ["weights", "card"])
def test_a_checkpoint_that_changes_meanwhile_gets_no_gate(folder: Path, changed: str) -> None:
    """Confidences of other weights would say nothing of those that are there now."""

    def is_good(row: Triple, text: str) -> bool:
        if changed == "card":
            replace(Card.load(folder), weights="others").save(folder)
        else:
            (folder / "more.safetensors").write_bytes(b"others")
        return row.correction == text

    before = Card.load(folder)
    with pytest.raises(MisuseError, match="has changed while it was calibrated"):
        calibrated(folder, TRIPLES, Gate(), is_good, device="cpu")
    assert Card.load(folder).gate == before.gate


def test_a_gate_is_fitted_to_what_the_aligner_is_told(folder: Path, triples: Path) -> None:
    """The command's instruction is for rows that have none; one that cannot be taken is an error."""
    found = list[FittedGate]()
    for instruction in ("", "be brief"):
        calibrate(config(folder, triples, instruction=instruction))
        found.append(FittedGate.read(Card.load(folder).gate or {}))
    assert found[0].slope != found[1].slope
    with pytest.raises(MisuseError, match="objective"):
        calibrate(config(folder, triples, objective="cod"))


def test_the_shipped_gate_is_fitted_to_answers_that_nobody_else_uses() -> None:
    """Not to the demo's questions and not to unseen upstreams; it has a threshold, and rows enough for its promise."""
    rows, demo = gate_rows(20), {row.asked.text for row in held_out(200)}
    assert rows
    assert not any(row.asked.text in demo for row in rows)
    assert all(PROFILES[row.profile].seen for row in rows)
    gate = FittedGate.read(Card.load(shipped("aligner")).gate or {})
    assert gate.threshold is not None
    assert gate.flawed >= rows_needed(gate.wanted)
    good = [mark(row.asked, row.answer).good for row in gate_rows()]
    assert (gate.good, gate.flawed) == (sum(good), len(good) - sum(good))
    assert gate.ece <= 0.05
    assert gate.at_most <= gate.wanted <= 0.01
    assert gate.needless <= 0.2
