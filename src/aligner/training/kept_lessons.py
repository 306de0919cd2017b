"""A lesson that was sampled and judged, written down: it would cost again, and might come out otherwise."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import orjson

from aligner.files import write_text_atomic
from aligner.training.encode import EncodedRow
from aligner.training.pairs import EncodedPair

_NAME = "lesson.jsonl"
Item = EncodedRow | EncodedPair


def kept_lesson(folder: Path, make: Callable[[], Sequence[Item]]) -> Sequence[Item]:
    """What a stage reads: what stands in its folder, or else what is made now, which then stands there."""
    path = folder / _NAME
    if not path.exists():
        lines = (orjson.dumps(_as_json(item), option=orjson.OPT_APPEND_NEWLINE) for item in make())
        write_text_atomic(path, b"".join(lines).decode())
    return [_from_json(orjson.loads(line)) for line in path.read_bytes().splitlines()]


def _as_json(item: Item) -> dict[str, Any]:
    if isinstance(item, EncodedPair):
        return {"prompt": item.prompt, "chosen": item.chosen, "rejected": item.rejected}
    answer = [item.answer.start, item.answer.stop]
    return {"ids": item.ids, "prompt_length": item.prompt_length, "weights": item.weights, "answer": answer}


def _from_json(fields: Mapping[str, Any]) -> Item:
    if "chosen" in fields:
        return EncodedPair(tuple(fields["prompt"]), tuple(fields["chosen"]), tuple(fields["rejected"]))
    ids, weights = tuple(fields["ids"]), tuple(fields["weights"])
    return EncodedRow(ids, fields["prompt_length"], weights, range(*fields["answer"]))
