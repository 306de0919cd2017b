"""Chats as users share them: ShareGPT's `from` and `value`, or `role` and `content`."""

from collections.abc import Mapping
from typing import cast

from aligner.data.fields import kind_of, messages_of
from aligner.files import RowError
from aligner.records import Message, Question, as_question

_SPEAKERS: Mapping[object, str] = {
    **dict.fromkeys(("human", "user"), "user"),
    **dict.fromkeys(("gpt", "chatgpt", "assistant", "bard", "bing", "model"), "assistant"),
    "system": "system",
}


def first_exchange(row: Mapping[str, object]) -> tuple[Question, str | None] | None:
    """What the user asked first, behind a system's turn if there is one, and the reply; None for other openings.

    Later questions depend on the replies of a model that is none of ours.
    """
    turns = _chat(row)
    start = 1 if turns and turns[0].role == "system" else 0
    if len(turns) <= start or turns[start].role != "user" or not turns[start].content.strip():
        return None
    reply = next((turn.content for turn in turns[start + 1 : start + 2] if turn.role == "assistant"), "")
    return as_question(turns[: start + 1]), reply if reply.strip() else None


def _chat(row: Mapping[str, object]) -> tuple[Message, ...]:
    name = next((name for name in ("conversations", "items", "conversation") if row.get(name) is not None), None)
    if name is None:
        return messages_of(row.get("messages"), "messages")
    value = row[name]
    if not isinstance(value, list):
        raise RowError(f'"{name}" is {kind_of(value)}, not a list of turns')
    return messages_of([_said(turn, f"{name}.{i}") for i, turn in enumerate(cast(list[object], value))], name)


def _said(turn: object, name: str) -> dict[str, object]:
    if not isinstance(turn, dict):
        raise RowError(f'"{name}" is {kind_of(turn)}, not a turn')
    fields = cast(dict[str, object], turn)
    speaker = fields.get("from")
    if not isinstance(speaker, str) or speaker not in _SPEAKERS:
        raise RowError(f'"{name}.from" is none of {", ".join(map(str, _SPEAKERS))}')
    return {"role": _SPEAKERS[speaker], "content": fields.get("value")}
