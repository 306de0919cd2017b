"""Answers that real models once gave, by the ids of the items: upstreams that cost nothing and never change."""

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import cast

from aligner.data.fields import text_field
from aligner.errors import MisuseError, unknown
from aligner.files import RowError
from aligner.tasks.open_ended import number_in_id
from aligner.tasks.rows import Place, read_items
from aligner.tasks.task import Item


def answers_of(name: str, path: Path | str, *, model: str = "") -> Mapping[str, str]:
    """The answers that a file holds to the items of a task, by their ids; empty ones, too.

    Where it holds those of several models (GSM8K's `recorded_answers.jsonl`), `model` says whose.
    """
    if name not in _READERS:
        raise unknown("task with recorded answers", name, _READERS)
    parse, file = _READERS[name]
    items = read_items(Path(path), partial(parse, model=model) if name == "gsm8k" else parse, files=(file,))
    return {item.id: item.gold for item in items}


def _gsm8k(row: Mapping[str, object], place: Place, *, model: str) -> Item:
    solved = {name: cast(Mapping[str, object], value) for name, value in row.items() if isinstance(value, dict)}
    if model not in solved:
        raise MisuseError(f'{place.file}: holds no answers of "{model}" (known: {", ".join(sorted(solved))})')
    return Item(id=str(place.number), question="", gold=_text(solved[model].get("solution"), "solution"))


def _xstest(row: Mapping[str, object], _: Place) -> Item:
    return Item(id=number_in_id(row.get("id")), question="", gold=_text(row.get("completion"), "completion"))


def _alpaca(row: Mapping[str, object], place: Place) -> Item:
    text_field(row, "instruction")
    return Item(id=str(place.number), question="", gold=_text(row.get("output"), "output"))


def _text(value: object, name: str) -> str:
    if not isinstance(value, str):
        raise RowError(f'no "{name}"')
    return value


_READERS: Mapping[str, tuple[Callable[..., Item], str]] = {
    "gsm8k": (_gsm8k, "recorded_answers.jsonl"),
    "xstest": (_xstest, "xstest_v2_completions_*.csv"),
    "xstest-safe": (_xstest, "xstest_v2_completions_*.csv"),
    "alpaca-eval": (_alpaca, "*.json"),
}
