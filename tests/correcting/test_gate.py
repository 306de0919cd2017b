"""Laws of a gate in use: what passes is read once and left alone, and all else is corrected as without one."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pytest
from tiny import EXCHANGES, tiny_aligner, written

from aligner.config import CorrectConfig
from aligner.correct import Aligner, correct_file
from aligner.correcting.guards import GUARDS, sure_from
from aligner.correcting.lm_writer import LMWriter, load_checkpoint
from aligner.errors import CheckpointError, MisuseError
from aligner.files import write_rows
from aligner.records import Correction, SamplingParams
from aligner.training.card import Card

GREEDY = SamplingParams()
FOUND: dict[str, Any] = {"wanted": 0.01, "of": "let_through", "at_most": 0.01, "let_through": 0.0, "needless": 0.0}
GATE: dict[str, Any] = {**FOUND, "slope": 1.3, "offset": 4.0, "ece": 0.0, "good": 400, "flawed": 400}


def raw_confidences(folder: Path) -> list[float]:
    """What the decoder says of the exchanges."""
    writer = replace(load_checkpoint(str(folder), "cpu"), calibration=None)
    return [found.confidence or 0.0 for found in writer.write(EXCHANGES, GREEDY)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An Aligner whose gate lets a third of the exchanges through."""
    folder = tiny_aligner(tmp_path_factory.mktemp("aligner"))
    gate_with_threshold(folder, None)
    curve = load_checkpoint(str(folder), "cpu").calibration
    assert curve is not None
    gate_with_threshold(folder, curve.curve.probability(sorted(raw_confidences(folder))[6]))
    return folder


def gate_with_threshold(folder: Path, threshold: float | None) -> None:
    """Write the gate into the card."""
    replace(Card.load(folder), gate={**GATE, "threshold": threshold}).save(folder)


@pytest.fixture(scope="module")
def writer(folder: Path) -> LMWriter:
    return load_checkpoint(str(folder), "cpu")


def test_confidences_are_calibrated(folder: Path, writer: LMWriter) -> None:
    """They are what the curve of the card makes of the decoder's, and the text is the same without it."""
    assert writer.calibration is not None
    found, plain = writer.write(EXCHANGES, GREEDY), replace(writer, calibration=None).write(EXCHANGES, GREEDY)
    assert list(map(written, found)) == list(map(written, plain))
    for one, raw in zip(found, plain, strict=True):
        assert raw.confidence is not None
        assert one.confidence == writer.calibration.curve.probability(raw.confidence)
    assert [one.confidence for one in plain] == raw_confidences(folder)


def test_what_passes_takes_one_pass_and_stays(folder: Path, writer: LMWriter) -> None:
    """The checkpoint's own threshold and the same as a number keep the same answers; the others are as without."""
    ungated = Aligner(writer)
    threshold = writer.threshold
    assert threshold is not None
    for aligner in (Aligner.from_pretrained(str(folder), device="cpu", gate=gate) for gate in ("auto", threshold)):
        found, plain = list(aligner.correct_many(EXCHANGES)), list(ungated.correct_many(EXCHANGES))
        passed = [one.kept_reason == "gate" for one in found]
        assert passed == [(one.confidence or 0) >= threshold for one in plain]
        assert 0 < sum(passed) < len(passed)
        for one, before, is_passed in zip(found, plain, passed, strict=True):
            assert one.confidence == before.confidence
            if is_passed:
                assert (one.text, one.changed, one.usage.passes) == (one.exchange.answer, False, 1)
            else:
                assert (one.text, one.kept_reason) == (before.text, before.kept_reason)


def test_a_stream_gives_what_passes_in_one_piece(folder: Path) -> None:
    """And nothing else of it, so that the pieces add up to the text."""
    aligner = Aligner.from_pretrained(str(folder), device="cpu", gate="auto")
    for exchange in EXCHANGES:
        pieces, stream = list[str](), aligner.stream(exchange.question, exchange.answer)
        correction: Correction | None = None
        while correction is None:
            try:
                pieces.append(next(stream))
            except StopIteration as end:
                correction = end.value
        assert correction == aligner.correct(exchange.question, exchange.answer)
        assert (pieces == [exchange.answer]) or correction.kept_reason != "gate"


def test_a_guard_alone_keeps_but_decodes(writer: LMWriter) -> None:
    """Given by hand it changes no text that it lets through, and keeps what the gate would."""
    threshold = writer.threshold or 0.0
    guarded = Aligner(writer, (sure_from(threshold), *GUARDS)).correct_many(EXCHANGES)
    gated = Aligner(writer.gated(threshold), (sure_from(threshold), *GUARDS)).correct_many(EXCHANGES)
    for one, other in zip(guarded, gated, strict=True):
        assert (one.text, one.kept_reason) == (other.text, other.kept_reason)


def test_the_gate_is_part_of_the_fingerprint(writer: LMWriter) -> None:
    """Each raw threshold writes something else, whatever probability names it."""
    names = {writer.fingerprint, writer.gated(0.2).fingerprint, writer.gated(0.3).fingerprint}
    names.add(replace(writer, calibration=None).gated(0.2).fingerprint)
    assert len(names) == 4
    assert writer.gated(0.2).fingerprint == writer.gated(0.2).fingerprint


def test_a_card_without_a_gate_is_as_before(tmp_path: Path) -> None:
    """Also one of an older version: confidences are the decoder's, `auto` is refused, and a number is taken."""
    folder = tiny_aligner(tmp_path)
    card = orjson.loads((folder / "aligner.json").read_bytes())
    del card["gate"]
    (folder / "aligner.json").write_bytes(orjson.dumps(card))
    assert Card.load(folder).gate is None
    with pytest.raises(MisuseError, match=r"no gate of its own.*aligner calibrate"):
        Aligner.from_pretrained(str(folder), device="cpu", gate="auto")
    least = min(raw_confidences(folder))
    aligner = Aligner.from_pretrained(str(folder), device="cpu", gate=least)
    assert {one.kept_reason for one in aligner.correct_many(EXCHANGES)} == {"gate"}


@pytest.mark.parametrize(("name", "gate"), [("echo:", "auto"), ("echo:", 1.5), ("demo", -0.1)])
def test_what_is_no_gate_is_misuse(name: str, gate: Any) -> None:
    """No model has one there, or it is no probability."""
    with pytest.raises(MisuseError, match="gate"):
        Aligner.from_pretrained(name, device="cpu", gate=gate)


@pytest.mark.parametrize("gate", [{"slope": 1.0}, {**GATE, "threshold": 0.5, "slope": -1.0}])
def test_a_damaged_gate_is_said_with_its_folder(
    tmp_path: Path, gate: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    """And what makes another one; who asks for no gate goes on, with the confidences of the decoder."""
    folder = tiny_aligner(tmp_path)
    replace(Card.load(folder), gate=gate).save(folder)
    for asked in ("auto", 0.5):
        with pytest.raises(CheckpointError, match=r"no gate.*aligner calibrate"):
            Aligner.from_pretrained(str(folder), device="cpu", gate=asked)
    caplog.clear()
    found = Aligner.from_pretrained(str(folder), device="cpu").correct_many(EXCHANGES)
    assert [one.confidence for one in found] == raw_confidences(folder)
    assert str(folder) in caplog.messages[0]
    assert "aligner calibrate" in caplog.messages[0]


def test_a_file_is_corrected_behind_the_gate(folder: Path, tmp_path: Path) -> None:
    """Rows say what passed, and what passed is as it was."""
    source, out = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    write_rows(source, ({"question": str(one.question), "answer": one.answer} for one in EXCHANGES))
    config = CorrectConfig(answers=source, out=out, aligner=str(folder), device="cpu", gate="auto")
    correct_file(config)
    rows = [orjson.loads(line) for line in out.read_bytes().splitlines()]
    passed = [row for row in rows if row["kept_reason"] == "gate"]
    assert 0 < len(passed) < len(rows)
    assert all(row["correction"] == row["answer"] for row in passed)
