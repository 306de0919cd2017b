"""The messages of an engine: what comes in is checked here, and trusted behind."""

from collections.abc import Mapping
from typing import cast, get_args

from aligner.correcting.work import Order
from aligner.records import Correction, Exchange, Message, Question, Role, SamplingParams
from aligner.serving.wire import object_of


def text_of(fields: Mapping[str, object], name: str) -> str:
    """A field that is a text; raises ValueError for anything else."""
    value = fields.get(name)
    if not isinstance(value, str):
        raise ValueError(f'"{name}" is no text')  # noqa: TRY004  # of a message, not of a call
    return value


def question_of(value: object) -> Question:
    """A text, or the messages of a conversation; raises ValueError for anything else."""
    if isinstance(value, str):
        return value
    turns = [object_of(turn) for turn in cast("list[object]", value)] if isinstance(value, list) else []
    if not turns or not all(turn.get("role") in get_args(Role) for turn in turns):
        raise ValueError('"question" is neither a text nor a list of messages')
    return tuple(Message(cast("Role", turn["role"]), text_of(turn, "content")) for turn in turns)


def instruction_of(fields: Mapping[str, object]) -> str:
    """What the Aligner is told, "" where nothing is said; raises ValueError for what is no text."""
    return "" if fields.get("instruction") is None else text_of(fields, "instruction")


def order_of(question: Question, fields: Mapping[str, object], instruction: str = "") -> Order:
    """What a finish asks for; raises ValueError where that makes no sense."""
    stop, most, gate = (fields.get(name) for name in ("stop", "max_tokens", "gate"))
    stops = cast("list[object]", stop) if isinstance(stop, list) else [stop or ""]
    if not all(isinstance(text, str) for text in stops):
        raise ValueError('"stop" is no list of texts')
    if most is not None and (not isinstance(most, int) or most < 1):
        raise ValueError('"max_tokens" is no number from 1')
    if gate is not None and not isinstance(gate, int | float):
        raise ValueError('"gate" is no number')
    return Order(
        exchange=Exchange(question, text_of(fields, "answer"), instruction=instruction),
        sampling=SamplingParams(max_tokens=most, stop=tuple(text for text in map(str, stops) if text)),
        gate=gate,
        doubt=fields.get("doubt") is True,
    )


def fields_of(correction: Correction) -> dict[str, object]:
    """What a done tells of a correction."""
    return {
        "text": correction.text,
        "changed": correction.changed,
        "kept_reason": correction.kept_reason,
        "edits": [list(edit) for edit in correction.edits],
        "confidence": correction.confidence,
        "doubt": correction.doubt,
        "spans": correction.spans,
        "usage": correction.usage,
    }
