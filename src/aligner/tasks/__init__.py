"""Benchmarks by name: their items, how they are asked, and how answers are marked."""

from collections.abc import Mapping

from aligner.errors import unknown
from aligner.tasks import choices, closed_world, gsm8k, maths, open_ended, programs
from aligner.tasks.recorded import answers_of
from aligner.tasks.refusals import refuses
from aligner.tasks.task import Item, Score, Task, items_of

TASKS: Mapping[str, Task] = {
    task.name: task
    for task in (
        closed_world.TASK,
        gsm8k.TASK,
        *maths.TASKS,
        *programs.TASKS,
        *choices.TASKS,
        *open_ended.TASKS,
    )
}


def task_named(name: str) -> Task:
    """The task of that name; raises MisuseError with the nearest for any other."""
    if name not in TASKS:
        raise unknown("task", name, TASKS)
    return TASKS[name]


__all__ = ["TASKS", "Item", "Score", "Task", "answers_of", "items_of", "refuses", "task_named"]
