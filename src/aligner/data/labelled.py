"""Answers with a label that says whether they are true: read, freed of contradictions, and split by question."""

import hashlib
import re
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from aligner.data.fields import text_field
from aligner.files import RowError

_PROMPT = re.compile(r"Q: (?P<question>.*?)\nA: (?P<answer>.*)\nTrue:\s*", re.DOTALL)
_LABELS: Mapping[object, bool] = {
    True: True,  # and with it the number 1
    False: False,
    **dict.fromkeys(("yes", "true", "1"), True),
    **dict.fromkeys(("no", "false", "0"), False),
}


class Labelled(NamedTuple):
    """One answer, and whether it is true."""

    question: str
    answer: str
    """perhaps empty"""
    is_true: bool


class Consistent(NamedTuple):
    """Answers without doublets and contradictions, in the order in which each came first."""

    rows: list[Labelled]
    doublets: int
    """rows that said again what another one had said"""
    contradictions: int
    """answers with both labels, all of whose rows are left out"""


def labelled_of(row: Mapping[str, object]) -> Labelled:
    """A row with `question`, `answer` and `label`, or with the `prompt` and `completion` that TruthfulQA's judge reads.

    Raises RowError for a row of another form.
    """
    if "prompt" not in row:
        answer = row.get("answer")
        if not isinstance(answer, str):
            raise RowError('"answer" is not text')
        return Labelled(text_field(row, "question"), answer, _label(row.get("label"), "label"))
    match = _PROMPT.fullmatch(text_field(row, "prompt"))
    if not match:
        raise RowError('"prompt" is not like "Q: …\\nA: …\\nTrue:"')
    return Labelled(match["question"], match["answer"], _label(row.get("completion"), "completion"))


def consistent(rows: Iterable[Labelled]) -> Consistent:
    """Each answer to a question once, and only where all of its rows agree."""
    labels: dict[tuple[str, str], list[bool]] = {}
    for question, answer, is_true in rows:
        labels.setdefault((question, answer), []).append(is_true)
    agreed = {pair: found for pair, found in labels.items() if len(set(found)) == 1}
    return Consistent(
        [Labelled(*pair, found[0]) for pair, found in agreed.items()],
        sum(len(found) - 1 for found in agreed.values()),
        len(labels) - len(agreed),
    )


def part_of(question: str, parts: int, *, seed: int | str) -> int:
    """The part, from 0, that a question belongs to, with all of its answers."""
    digest = hashlib.sha256(f"{seed}\0{question}".encode()).digest()
    return int.from_bytes(digest[:8], "big") * parts >> 64


def _label(value: object, name: str) -> bool:
    key = value.strip().lower() if isinstance(value, str) else value
    if not isinstance(key, str | bool | int) or key not in _LABELS:
        raise RowError(f'"{name}" is neither yes nor no, true nor false, 1 nor 0')
    return _LABELS[key]
