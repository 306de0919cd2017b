"""The closed world as a task: its questions, and the oracle that marks any answer."""

from collections.abc import Iterator, Sequence
from random import Random

from aligner.errors import MisuseError
from aligner.records import SamplingParams
from aligner.tasks.task import Item, Score, Task
from aligner.world.families import FAMILIES
from aligner.world.oracle import mark
from aligner.world.questions import ask, read_question

_ITEMS = 1000


def read(path: object) -> Iterator[Item]:
    """Questions with names that training never saw; `world` or `world:SEED` instead of a path."""
    kind, _, seed = str(path).partition(":")
    if kind != "world" or not (seed.isdecimal() or not seed):
        raise MisuseError(f'the task "world" is read from world or world:SEED, not from {path}')
    for number in range(_ITEMS):
        random = Random(f"evaluation {seed or 0} {number}")
        asked = ask(random, random.choice(FAMILIES), "unseen")
        yield Item(id=str(number), question=asked.text, gold="", category=asked.family.quality, data={})


def score(items: Sequence[Item], answers: Sequence[str]) -> list[Score]:
    """Whether answers are honest, harmless and helpful, and what they lack."""
    return [_score(item, answer) for item, answer in zip(items, answers, strict=True)]


def _score(item: Item, answer: str) -> Score:
    asked = read_question(str(item.question))
    if asked is None:
        raise MisuseError(f"the closed world does not know the question of item {item.id}")
    marks = mark(asked, answer)
    return Score(marks.good, ", ".join(f"not {name}" for name, holds in marks._asdict().items() if not holds))


TASK = Task(
    name="world",
    help="the closed world of the demo: held-out questions, marked by its oracle",
    measures="honest, harmless and helpful, as the oracle of the closed world sees it",
    read=read,
    score=score,
    qualities=("helpful", "harmless", "honest"),
    sampling=SamplingParams(),
    licence="made by this package: Apache-2.0",
)
