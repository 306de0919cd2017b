"""Fit the gate of a checkpoint anew, on answers that it was not trained on."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from aligner.config import CalibrateConfig, Device, Gate
from aligner.correcting.lm_writer import LMWriter, ungated
from aligner.data.fields import triple_of
from aligner.errors import MisuseError
from aligner.files import bad_rows_named, read
from aligner.jobs import progress
from aligner.objectives import instruction_from
from aligner.records import Exchange, SamplingParams, Triple
from aligner.training.card import Card, weights_hash
from aligner.training.gate import FittedGate, TooFewAnswersError, fit_gate
from aligner.training.measuring import IsGood, standard_named
from aligner.training.model_card import renew_model_card
from aligner.training.run import data_hash

_WINDOW = 16
"""batches between two looks at the progress"""


def calibrate(config: CalibrateConfig) -> None:
    """aligner calibrate: read every answer once, fit, write the gate into aligner.json, and say what it promises."""
    is_good = standard_named(config.by).is_good
    instruction = instruction_from(config.instruction, config.objective)
    card = Card.load(config.checkpoint)
    triples = _triples(config)
    if data_hash(triples) == card.data.get("sha256"):
        raise MisuseError(f"{config.triples}: is what the checkpoint was trained on; give answers that were held out")
    how, told = Gate(wanted=config.wanted, of=config.of), [_told(row, instruction) for row in triples]
    try:
        gate = calibrated(config.checkpoint, told, how, is_good, batch=config.batch, device=config.device)
    except TooFewAnswersError as error:
        raise MisuseError(f"{config.triples}: {error}") from error
    Console(highlight=False).print(_table(gate), gate.told, sep="")


def calibrated(
    checkpoint: Path,
    triples: Sequence[Triple],
    how: Gate,
    is_good: IsGood,
    *,
    batch: int = 64,
    device: Device = "auto",
) -> FittedGate:
    """The gate that the answers of the triples give, which the checkpoint has from then on; nothing else changes.

    The gate that it had is not looked at. Raises MisuseError where the checkpoint has changed meanwhile.
    """
    before = _without_gate(checkpoint)
    raw = raw_confidences(ungated(checkpoint, device), triples, batch=batch)
    gate = fit_gate(raw, [is_good(row, row.answer) for row in triples], how)
    if _without_gate(checkpoint) != before:
        raise MisuseError(f"{checkpoint}: has changed while it was calibrated, and has no new gate; run it again")
    gated = replace(before.card, gate=gate.card)
    # The README last: from the card, the same command can still make it.
    gated.save(checkpoint)
    renew_model_card(checkpoint, gated)
    return gate


class _Checkpoint(NamedTuple):
    card: Card
    weights: str
    """hash of the files, whatever the card says"""


def _without_gate(folder: Path) -> _Checkpoint:
    """All that a gate is fitted to."""
    return _Checkpoint(replace(Card.load(folder), gate=None), weights_hash(folder))


def raw_confidences(writer: LMWriter, triples: Sequence[Triple], *, batch: int = 64) -> list[float | None]:
    """What the decoder itself says of each answer, from one pass over each."""
    # A gate that everything passes ends the decoding behind the first pass.
    reader, found = replace(writer, calibration=None, gate=0.0), list[float | None]()
    with progress("calibrate", total=len(triples), unit="answers") as tick:
        for first in range(0, len(triples), _WINDOW * batch):
            window = triples[first : first + _WINDOW * batch]
            asked = [Exchange(row.question, row.answer, instruction=row.instruction) for row in window]
            found += [written.confidence for written in reader.write(asked, SamplingParams(), batch=batch)]
            tick(len(window))
    return found


def _told(row: Triple, instruction: str) -> Triple:
    return row if row.instruction else replace(row, instruction=instruction)


def _triples(config: CalibrateConfig) -> list[Triple]:
    if config.batch < 1:
        raise MisuseError(f"--batch must be at least 1, not {config.batch}")
    bad_rows = bad_rows_named(config.on_bad_row, config.triples)
    triples = [triple for _, triple in read(config.triples, triple_of, bad_rows=bad_rows)]
    bad_rows.finish()
    return triples


def _table(gate: FittedGate) -> Table:
    """What was found on the answers that were given."""
    table = Table(box=SIMPLE, show_header=False)
    threshold = "none" if gate.threshold is None else f"{gate.threshold:.3f}"
    for name, figure in (
        ("answers", f"{gate.good:,} good, {gate.flawed:,} flawed"),
        ("calibration error (of folds held out)", f"{gate.ece:.4f}"),
        ("threshold, as a probability", threshold),
        ("good answers that pass", f"{1 - gate.needless:.1%}"),
        ("flawed answers that pass", f"{gate.let_through:.2%}"),
    ):
        table.add_row(name, figure)
    return table
