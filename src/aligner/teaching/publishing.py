"""The end of a training: the Aligner is measured, its gate calibrated, and its checkpoint put in its place."""

import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from aligner.correct import Aligner
from aligner.models.hf import load_causal_lm
from aligner.records import Triple
from aligner.teaching.school import School, Taught, save
from aligner.teaching.watching import copy_rate, losses_of
from aligner.training.card import Card, installed_packages, weights_hash
from aligner.training.gate import gate_of
from aligner.training.measured import Measured
from aligner.training.measuring import asked, count, standard_named
from aligner.training.model_card import save_model_card
from aligner.training.run import publish


def publish_checkpoint(school: School, model: Taught) -> None:
    """Measure the Aligner on held-out rows, and put the finished checkpoint in its place."""
    run, held_out = school.run, school.held_out
    standard = standard_named(run.config.measure.by)
    # What is measured is what is published, and not its likeness in four bits.
    lm = load_causal_lm(model.folder, run.config.device) if model.folder else model.lm
    aligner = school.aligner(lm)
    written = list(aligner.correct_many(map(asked, held_out)))
    run.save_samples(
        {"question": str(row.question), "answer": row.answer, "correction": row.correction, "written": made.text}
        for row, made in zip(held_out, written, strict=True)
    )
    found = count(held_out, written, standard, losses=losses_of(school, lm)(held_out))
    exact = count(held_out, written, standard_named("exact"))
    good = [standard.is_good(row, row.answer) for row in held_out]
    card = Card(
        template=school.template,
        base=run.config.base,
        weights="",
        data=run.data,
        training=run.settings(),
        stages=list(model.origins),
        measured={
            "by": run.config.measure.by,
            "held_out": len(held_out),
            "copied": _copied(aligner, held_out, exact),
            "corrected_exactly": exact.fix_rate and exact.fix_rate.value,
            **found.figures(),
        },
        gate=gate_of([made.confidence for made in written], good, run.config.gate, run.say),
        packages=installed_packages(),
    )

    def write(folder: Path) -> None:
        if model.folder:
            shutil.copytree(model.folder, folder, dirs_exist_ok=True)
        else:
            save(model.lm, folder)
        made = replace(card, weights=weights_hash(folder))
        made.save(folder)
        save_model_card(folder, made)

    run.plot()
    publish(run.checkpoint, write)
    run.say(f"{run.checkpoint}: {_summary(found)}")


def _copied(aligner: Aligner, held_out: Sequence[Triple], exact: Measured) -> float:
    """The share of good answers that were copied; where none was good, corrections stand for them."""
    if exact.copy_rate:
        return exact.copy_rate.value
    return copy_rate(aligner, [replace(row, answer=row.correction) for row in held_out])


def _summary(found: Measured) -> str:
    parts = [f"{name.replace('_', ' ')} {rate.value:.1%}" for name, rate in found.rates().items() if rate]
    return f"{found.rows:,} held-out rows: {', '.join(parts)}"
