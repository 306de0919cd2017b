"""GSM8K: grade-school arithmetic, marked by the number that an answer ends with."""

from collections.abc import Mapping, Sequence
from functools import partial

from aligner.data.fields import text_field
from aligner.files import RowError
from aligner.tasks.last_number import is_right, number_in, plain, value
from aligner.tasks.rows import Place, read_items
from aligner.tasks.task import Item, Score, Task

_ASK = '{question}\n\nThink step by step, and end with a line of "#### " and the number.'


def score(items: Sequence[Item], answers: Sequence[str]) -> list[Score]:
    """Right is the number of the reference solution."""
    read = map(number_in, answers)
    return [Score(is_right(item.gold, number), number) for item, number in zip(items, read, strict=True)]


def _parse(row: Mapping[str, object], place: Place) -> Item:
    question, solution = text_field(row, "question"), text_field(row, "answer")
    gold = solution.rpartition("####")[2]
    if "####" not in solution or value(gold) is None:
        raise RowError('"answer" does not end with "#### " and a number')
    asked = _ASK.format(question=question)
    return Item(id=str(place.number), question=asked, gold=plain(gold), data={"reference": solution})


TASK = Task(
    name="gsm8k",
    help="grade-school arithmetic in words, 1,319 questions",
    measures="the number at the end is right",
    read=partial(read_items, parse=_parse, files=("test.jsonl", "main/test-*.parquet", "data/test-*.parquet")),
    score=score,
    licence="MIT",
    hub="openai/gsm8k",
)
