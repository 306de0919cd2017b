"""Evaluation sets that nothing of a build may overlap with: their texts, and what was found of them."""

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from aligner.building.nouns import Dropped
from aligner.building.sources import files_of
from aligner.config import BuildAgainst, BuildSource
from aligner.data.languages import words
from aligner.data.readers import reach
from aligner.data.tabular import read_rows
from aligner.errors import MisuseError
from aligner.files import bad_rows_named
from aligner.prompts import text_of
from aligner.records import Question, as_messages
from aligner.tasks import items_of, task_named

OVERLAP = "overlap"
"""the reason why such rows are dropped; their detail begins with the set's name and a colon"""
_LONG = 12
"""words from which on a right answer is looked for; "42" or "Yes, they are." may stand anywhere"""


class EvaluationSet(NamedTuple):
    """What is looked for of one set."""

    name: str
    texts: Sequence[str]

    @property
    def sha256(self) -> str:
        """Of all its texts, whatever their order."""
        return hashlib.sha256("\0".join(sorted(self.texts)).encode()).hexdigest()


def sets_of(against: Sequence[BuildAgainst]) -> list[EvaluationSet]:
    """The sets of a configuration; raises MisuseError for one that is not there, is empty, or has another's name."""
    found: dict[str, EvaluationSet] = {}
    for given in against:
        name = given.name or given.task or Path(given.path).name.partition(".")[0]
        if name in found:
            raise MisuseError(f'against: the name "{name}" stands there twice; give each [[against]] a name of its own')
        texts = list(dict.fromkeys(_of_task(given) if given.task else _of_fields(given)))
        if not texts:
            raise MisuseError(f"{given.path}: holds no text in {' or '.join(given.fields)}")
        found[name] = EvaluationSet(name, texts)
    return list(found.values())


def labelled(sets: Iterable[EvaluationSet]) -> Iterator[tuple[str, str]]:
    """Each text with the name of its set."""
    return ((found.name, text) for found in sets for text in found.texts)


def texts_to_look_at(question: Question) -> Iterator[str]:
    """What is said in a question, turn by turn, by whomever: a row of training holds it all."""
    return (message.content for message in as_messages(question))


def hits_by_set(dropped: Iterable[Dropped], names: Iterable[str]) -> Mapping[str, int]:
    """How many rows were dropped for each set of these names, which may hold colons themselves."""
    longest_first = sorted(names, key=len, reverse=True)
    hits = (row.detail for row in dropped if row.reason == OVERLAP)
    return Counter(name for detail in hits for name in _owner(detail, longest_first))


def _owner(detail: str, names: Iterable[str]) -> Iterator[str]:
    found = next((name for name in names if detail.startswith(f"{name}: ")), None)
    return iter(() if found is None else (found,))


def _of_task(given: BuildAgainst) -> Iterator[str]:
    """The questions of the items, and their right answers where these are long enough to be nobody else's words."""
    for item in items_of(task_named(given.task), given.path):
        yield text_of(item.question)
        reference = item.data.get("reference")
        answers = item.gold, reference if isinstance(reference, str) else ""
        yield from (answer for answer in answers if len(words(answer)) >= _LONG)


def _of_fields(given: BuildAgainst) -> Iterator[str]:
    for path in files_of(BuildSource(path=given.path, name=given.name)):
        for row in read_rows(path, bad_rows=bad_rows_named("stop", path)):
            values = (reach(row.data, field) for field in given.fields)
            yield from (value for value in values if isinstance(value, str) and value.strip())
