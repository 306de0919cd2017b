"""Teach an upstream with the corrections of its answers, round after round. This file is the loop."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from aligner.bootstrapping.checking import check
from aligner.bootstrapping.standing import Beside, First, Standing
from aligner.bootstrapping.status import show_tree
from aligner.config import BootstrapConfig

if TYPE_CHECKING:
    from aligner.bootstrapping.schooling import Steps


def bootstrap(config: BootstrapConfig) -> None:
    """aligner bootstrap: every round of every arm with every seed that is not done yet, and after each the report."""
    if config.stage == "status":
        show_tree(config.out)
        return
    check(config)
    # Settings are known to be right, and how far a study is is told, before anything heavy is loaded.
    from aligner.bootstrapping.crew import Crew
    from aligner.bootstrapping.report import write_report
    from aligner.bootstrapping.schooling import Steps
    from aligner.bootstrapping.shown import shown_in
    from aligner.bootstrapping.study import Study

    with Study(config) as study:
        crew = Crew(config)
        crew.check(map(study.upstream, config.seeds))
        for seed in config.seeds:
            for arm in config.arms:
                for told in rounds(Steps(study, crew, arm, seed)):
                    study.say(told)
                    write_report(study.folder, study.known, shown_in(study))


def rounds(steps: "Steps") -> Iterator[str]:
    """The rounds of one arm with one seed, told as they end; each goes on from the last that was accepted."""
    first = begin(steps)
    now, rolled_back, patience = first.standing, 0, steps.config.guards.patience
    for number in range(1, steps.config.rounds + 1):
        made = go_round(steps.of(number), now, first)
        yield steps.of(number).told()
        now, rolled_back = (made, 0) if made else (now, rolled_back + 1)
        if patience and rolled_back == patience:
            return


def begin(steps: "Steps") -> First:
    """Round 0: what the first upstream says to the held-out prompts, and what the Aligners make of that."""
    do, upstream = steps.lineage.step, steps.first_upstream
    held_out = do("held_out", *steps.held_out(upstream))
    greedy = do("greedy", *steps.greedy(upstream)) if steps.config.oracle else None
    corrections = do("corrections", *steps.corrections(held_out))
    first = First(Standing(upstream, held_out), corrections)
    beside = Beside(first.standing, first.standing, first, greedy)
    return first._replace(found=do("evaluation", *steps.evaluation(beside)))


def go_round(steps: "Steps", now: Standing, first: First) -> Standing | None:
    """One round: the upstream answers, is corrected, learns, and is measured; nothing where it is rolled back."""
    do = steps.lineage.step
    prompts = do("prompts", *steps.prompts())
    answers = do("answers", *steps.answers(now.upstream, prompts))
    corrections = do("corrections", *steps.corrections(answers))
    gate = do("gate", *steps.gate(corrections))
    lesson = do("lessons", *steps.lesson(gate, now.gates))
    if not steps.teaches(lesson):
        steps.give_up(gate)
        return None
    reward = do("reward", *steps.reward(now.upstream, lesson)) if steps.learns_rewards else None
    model = do("model", *steps.model(now.upstream, lesson, prompts, reward))
    held_out = do("held_out", *steps.held_out(model))
    greedy = do("greedy", *steps.greedy(model)) if steps.config.oracle else None
    made = Standing(model, held_out, (*now.gates, gate))
    evaluation = do("evaluation", *steps.evaluation(Beside(made, now, first, greedy, lesson)))
    return made if steps.decide(evaluation) else None
