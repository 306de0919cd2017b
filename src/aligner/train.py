"""Train an Aligner: learn to copy, then learn to correct. This file is the training."""

from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from aligner.config import TrainConfig
from aligner.data.splits import hold_out
from aligner.errors import MissingExtraError, MisuseError
from aligner.jobs import progress
from aligner.models.hf import CausalLM, local_folder, torch_device
from aligner.models.quantised import check_bits
from aligner.objectives import instruction_from
from aligner.planning.checking import check
from aligner.planning.fitting import check_fit
from aligner.teaching.benches import bench_of
from aligner.teaching.publishing import publish_checkpoint
from aligner.teaching.school import School, Taught, save, trainable
from aligner.teaching.watching import copy_rate, measure_model
from aligner.templates import template_named
from aligner.training import launched
from aligner.training.adapter import Fit, Progress
from aligner.training.best import Best, Kept, Watch
from aligner.training.card import model_hash
from aligner.training.encode import preview
from aligner.training.measured import Measured
from aligner.training.new_model import new_model
from aligner.training.processes import told_by_main, wait
from aligner.training.run import Run
from aligner.training.stages import Origin, Stage, key_of, stages_of

_CHECKED = 64
"""held-out answers that are copied to see whether copying is learnt"""


def train(config: TrainConfig) -> Path:
    """Triples in, checkpoint out; interrupted and called again, it makes the same checkpoint."""
    template = template_named(config.template)
    instruction = instruction_from(config.instruction, config.objective)
    check(config, processes=launched.processes(), sharded=launched.is_sharded())
    check_bits(config.lora)
    told_by_main(lambda: check_fit(config))
    with closing(begin(config)) as run:
        triples = run.read_triples()
        if run.checkpoint.exists():
            run.say(f"{run.checkpoint}: finished already")
            return run.checkpoint
        training, held_out = hold_out(triples, config.held_out, seed=config.seed)
        template = template.told(instruction, learns=any(row.instruction for row in training))
        if not template.instructed and any(row.instruction for row in held_out):
            raise MisuseError("all rows with an instruction are held out: give more of them, or lower --held-out")
        school = School(run, template, training, held_out)
        model = base_model(school)
        for stage in stages_of(config):
            model = learn(school, stage, model)
        told_by_main(lambda: publish_checkpoint(school, model))
        return run.checkpoint


def begin(config: TrainConfig) -> Run:
    """The run folder, which holds from the first start on what people said of corrections."""
    if not config.feedback:
        return Run(config)
    try:
        from aligner.serving.database import place_of
        from aligner.serving.exporting.lessons import Wanted, triples_in
    except ModuleNotFoundError as error:
        raise MissingExtraError("the correction log needs an extra: pip install 'aligner-llm[serve]'") from error
    wanted = Wanted(
        reviewers=config.reviewers,
        votes=config.votes,
        most_per_reviewer=config.most_per_reviewer,
        told=config.told,
    )
    places = [place_of(database) for database in config.feedback]
    run = Run(replace(config, feedback=tuple(place.label for place in places)))  # a URL may hold a password
    run.keep_feedback(lambda: triples_in(places, wanted, run.say))
    return run


def learn(school: School, stage: Stage, before: Taught) -> Taught:
    """The model after one stage; one that is finished, by this run or by one that began alike, is loaded."""
    run, key = school.run, key_of(stage, before.key, school.run.shared)
    folder = run.stage_folder(stage.name, key)
    with run.claimed(folder):
        if not told_by_main((folder / "model").exists):
            lesson = told_by_main(lambda: stage.read(bench_of(school, before.lm), folder))
            if not lesson and not stage.may_be_empty:
                raise MisuseError(f"{stage.name}: no rows to learn from; give more triples, or leave the stage out")
            learnt, steps = _taught(school, stage, before.lm, lesson, folder) if lesson else (before.lm, 0)
            run.finish_stage(folder, Origin(stage.name, key, before.key, steps)._asdict(), partial(save, learnt))
    made = folder / "model"
    return Taught(trainable(made, run.config), key, (*before.origins, run.origin_of(folder)), made)


def _taught(school: School, stage: Stage, lm: CausalLM, lesson: Sequence[Any], folder: Path) -> tuple[CausalLM, int]:
    """The model that has learnt the lesson, and in how many steps; it goes on from the newest whole checkpoint."""
    run, config = school.run, school.run.config
    run.show(stage.name, preview(lm.tokenizer, stage.shown(lesson[0])))
    best = Best(folder / "best", lambda model, place: save(lm._replace(model=model), place))
    steps = stage.how.steps_for(len(lesson))
    with progress(stage.name, total=len(lesson)) as tick:
        seen = 0

        def report(now: Progress) -> None:
            nonlocal seen
            run.log(stage.name, now)
            tick(now.rows - seen, f"loss {now.loss:.3f}, {now.tokens_per_second:,.0f} tokens/s")
            seen = now.rows

        def is_enough(model: object, step: int) -> bool:
            nonlocal steps
            copied = copy_rate(school.aligner(lm._replace(model=model)), school.held_out[:_CHECKED])
            tick(0, f"{copied:.0%} of held-out answers copied")
            enough = copied >= stage.until
            steps = step if enough else steps
            return enough

        def measured(model: object) -> Measured:
            found = measure_model(school, lm._replace(model=model), school.held_out[: config.measure.rows])
            tick(0, f"fixed less broken {found.score:.1%}")
            return found

        keeps = stage.may_keep_best and config.measure.keep == "best"
        watch = Watch(measured, partial(run.log_measured, stage.name), best if keeps else None)
        plan = Fit(
            stage=stage.how,
            folder=folder,
            seed=config.seed,
            save_every=config.save_every,
            lora=config.lora,
            packing=config.packing,
            gradient_checkpointing=config.gradient_checkpointing,
            on_progress=report,
            check_every=stage.check_every,
            is_enough=is_enough,
            measure_every=config.measure.every,
            measure=watch,
        )
        learnt = stage.teach(lm.model, lm.tokenizer, lesson, plan)

        def best_of_all() -> Kept | None:
            if config.measure.every and steps % config.measure.every:
                watch(learnt, steps)
            return best.found()

        kept = told_by_main(best_of_all)
    made = trainable(kept.folder, config) if kept else lm._replace(model=learnt)
    wait()  # nobody still reads what is kept when the stage is finished
    return made, steps


def base_model(school: School) -> Taught:
    """The model to start from: one that exists, or a new one."""
    run, config = school.run, school.run.config
    if config.base != "new":
        folder = local_folder(config.base)
        return Taught(trainable(folder, config), run.key_of_base(model_hash(folder)), folder=folder)
    lm = CausalLM(*new_model(config.new, school.template, school.training, seed=config.seed))
    return Taught(lm._replace(model=lm.model.to(torch_device(config.device))), run.key_of_base(None))
