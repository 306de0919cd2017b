"""Train an Aligner: learn to copy, then learn to correct. This file is the training."""

import shutil
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

from aligner.config import Optimisation, TrainConfig
from aligner.correct import Aligner
from aligner.correcting.lm_writer import writer_of
from aligner.data.identity import identity_rows
from aligner.data.splits import hold_out
from aligner.errors import MissingExtraError, MisuseError, visible
from aligner.jobs import progress
from aligner.models.generating import context_of
from aligner.models.hf import CausalLM, load_causal_lm, torch_device
from aligner.records import Exchange, Triple, as_messages
from aligner.templates import PromptEncoder, Template, template_named
from aligner.training.adapter import Fit, Progress, fit
from aligner.training.card import Card, installed_packages, weights_hash
from aligner.training.encode import EncodedRow, encode_rows, grouped_by_length, preview, shuffled
from aligner.training.new_model import new_model
from aligner.training.random_copies import LONGEST, plain_vocabulary, random_copies
from aligner.training.run import Run, publish

_CHECKED = 64
"""held-out answers that are copied to see whether copying is learnt"""


class Stage(NamedTuple):
    """One stage of training: what is read and how, and when it is enough."""

    name: str
    how: Optimisation
    triples: Sequence[Triple]
    random: int = 0
    """rows of random tokens to copy before all else"""
    random_share: float = 0.0
    """such rows among the others, as a share of them"""
    until: float | None = None
    """share of held-out answers that are copied exactly"""
    check_every: int = 0


def train(config: TrainConfig) -> Path:
    """Triples in, checkpoint out; interrupted and called again, it makes the same checkpoint."""
    template = template_named(config.template)
    run = begin(config)
    triples = run.read_triples()
    if run.checkpoint.exists():
        run.say(f"{run.checkpoint}: finished already")
        return run.checkpoint
    training, held_out = hold_out(triples, config.held_out, seed=config.seed)
    lm = base_model(config, template, training)
    for stage in (identity_stage(config, training), correction_stage(config, training)):
        lm = learn(run, stage, lm, template=template, held_out=held_out)
    publish_checkpoint(run, lm, template, held_out=held_out)
    return run.checkpoint


def begin(config: TrainConfig) -> Run:
    """The run folder, which holds from the first start on what people said of corrections."""
    if config.triples is None and not config.feedback:
        raise MisuseError("nothing to learn from: give --triples, --feedback or both")
    if not config.feedback and (config.reviewers or config.votes != 1 or config.most_per_reviewer):
        raise MisuseError("--reviewers, --votes and --most-per-reviewer choose among feedback: give --feedback")
    if not config.feedback:
        return Run(config)
    try:
        from aligner.serving.database import place_of
        from aligner.serving.exporting.lessons import Wanted, triples_in
    except ModuleNotFoundError as error:
        raise MissingExtraError("the correction log needs an extra: pip install 'aligner-llm[serve]'") from error
    wanted = Wanted(reviewers=config.reviewers, votes=config.votes, most_per_reviewer=config.most_per_reviewer)
    places = [place_of(database) for database in config.feedback]
    run = Run(replace(config, feedback=tuple(place.label for place in places)))  # a URL may hold a password
    run.keep_feedback(lambda: triples_in(places, wanted, run.say))
    return run


def identity_stage(config: TrainConfig, triples: Sequence[Triple]) -> Stage:
    """Learn to copy: random tokens if asked for, then a share of the answers (paper, section 3.1)."""
    how = config.identity
    copies = identity_rows(triples, share=how.share, seed=config.seed)
    return Stage("identity", how, copies, random=how.random, until=how.until, check_every=how.check_every)


def correction_stage(config: TrainConfig, triples: Sequence[Triple]) -> Stage:
    """Learn to correct: all of the triples, among them those whose answer was good (paper, eq. 4)."""
    return Stage("correction", config.correction, triples, random_share=config.correction.random_share)


def learn(run: Run, stage: Stage, lm: CausalLM, *, template: Template, held_out: Sequence[Triple]) -> CausalLM:
    """The model after one stage; a stage that was finished before is loaded."""
    folder = run.folder / stage.name
    finished = folder / "model"
    if finished.exists():
        return _trainable(finished, run.config)
    rows = _rows(run, stage, lm, template)
    with progress(stage.name, total=len(rows)) as tick:
        seen = 0

        def report(now: Progress) -> None:
            nonlocal seen
            run.log(stage.name, now)
            tick(now.rows - seen, f"loss {now.loss:.3f}, {now.tokens_per_second:,.0f} tokens/s")
            seen = now.rows

        def is_enough(model: object) -> bool:
            copied = copy_rate(_aligner(lm._replace(model=model), template), held_out[:_CHECKED])
            tick(0, f"{copied:.0%} of held-out answers copied")
            return copied >= (stage.until or 0)

        plan = Fit(
            stage=stage.how,
            folder=folder,
            seed=run.config.seed,
            save_every=run.config.save_every,
            lora=run.config.lora,
            on_progress=report,
            check_every=stage.check_every if stage.until is not None else 0,
            check_after=stage.random // (stage.how.batch * stage.how.accumulate),
            is_enough=is_enough,
        )
        lm = lm._replace(model=fit(lm.model, lm.tokenizer, rows, plan))
    publish(finished, lambda partial: _save(lm, partial))
    for checkpoint in folder.glob("checkpoint-*"):
        shutil.rmtree(checkpoint)
    return lm


def base_model(config: TrainConfig, template: Template, triples: Sequence[Triple]) -> CausalLM:
    """The model to start from: one that exists, or a new one."""
    if config.base != "new":
        return _trainable(config.base, config)
    lm = CausalLM(*new_model(config.new, template, triples, seed=config.seed))
    return lm._replace(model=lm.model.to(torch_device(config.device)))


def copy_rate(aligner: Aligner, triples: Sequence[Triple]) -> float:
    """The share of answers that come back as they were."""
    corrections = aligner.correct_many(Exchange(row.question, row.answer) for row in triples)
    # An answer that a guard kept was not copied by the model.
    copied = [not correction.changed and not correction.kept_reason for correction in corrections]
    return sum(copied) / max(len(copied), 1)


def publish_checkpoint(run: Run, lm: CausalLM, template: Template, *, held_out: Sequence[Triple]) -> None:
    """Measure the Aligner on held-out rows, and put the finished checkpoint in its place."""
    aligner = _aligner(lm, template)
    written = list(aligner.correct_many(Exchange(row.question, row.answer) for row in held_out))
    run.save_samples(
        {"question": str(row.question), "answer": row.answer, "correction": row.correction, "written": made.text}
        for row, made in zip(held_out, written, strict=True)
    )
    exact = [
        (row.is_identity, made.text == row.correction and not made.kept_reason)
        for row, made in zip(held_out, written, strict=True)
    ]
    copied = _share([right for is_identity, right in exact if is_identity])
    card = Card(
        template=template,
        base=run.config.base,
        weights="",
        data=run.data,
        training=run.settings(),
        measured={
            "held_out": len(held_out),
            "copied": _corrections_copied(aligner, held_out) if copied is None else copied,
            "corrected_exactly": _share([right for is_identity, right in exact if not is_identity]),
        },
        packages=installed_packages(),
    )

    def write(folder: Path) -> None:
        _save(lm, folder)
        replace(card, weights=weights_hash(folder)).save(folder)

    publish(run.checkpoint, write)
    run.say(f"{run.checkpoint}: {card.measured}")


def _rows(run: Run, stage: Stage, lm: CausalLM, template: Template) -> list[EncodedRow]:
    """The stage's rows in the order of reading, encoded; those that are too long are named."""
    encoder, eos_id = PromptEncoder(template, lm.tokenizer), lm.tokenizer.eos_token_id
    limit = min(run.config.max_length, context_of(lm.model, lm.tokenizer) or run.config.max_length)
    encoded = encode_rows(encoder, eos_id, stage.triples, max_length=limit)
    if encoded.too_long:
        asked = [as_messages(stage.triples[i].question)[-1].content for i in encoded.too_long[:3]]
        named = visible(", ".join(f'"{question:.40}"' for question in asked))
        run.say(f"{stage.name}: {len(encoded.too_long):,} rows of more than {limit:,} tokens left out: {named}, …")
    if not encoded.rows:
        raise MisuseError(f"{stage.name}: no tokens to learn from; raise --max-length or give more triples")
    run.show(stage.name, preview(lm.tokenizer, encoded.rows[0]))
    batch, seed = stage.how.batch * stage.how.accumulate, run.config.seed
    random = partial(random_copies, encoder, eos_id, plain_vocabulary(encoder, len(lm.tokenizer)))
    first = random(count=stage.random - stage.random % batch, seed=seed)
    mixed = random(count=round(stage.random_share * len(encoded.rows)), seed=seed + 1, shortest=LONGEST)
    then = shuffled([*encoded.rows, *mixed], epochs=stage.how.epochs, seed=seed)
    return [*first, *grouped_by_length(then, batch=batch, seed=seed)]


def _aligner(lm: CausalLM, template: Template) -> Aligner:
    return Aligner(writer_of(lm, template, fingerprint="in training"))


def _trainable(name: Path | str, config: TrainConfig) -> CausalLM:
    """A model in float32: on a GPU, training computes in bfloat16 but keeps exact weights."""
    lm = load_causal_lm(name, config.device)
    return lm._replace(model=lm.model.float())


def _save(lm: CausalLM, folder: Path) -> None:
    lm.model.save_pretrained(folder)
    lm.tokenizer.save_pretrained(folder)


def _corrections_copied(aligner: Aligner, triples: Sequence[Triple]) -> float:
    """Where no held-out answer was good, the corrections stand for good answers."""
    return copy_rate(aligner, [Triple(row.question, row.correction, row.correction) for row in triples])


def _share(hits: Sequence[bool]) -> float | None:
    return sum(hits) / len(hits) if hits else None
