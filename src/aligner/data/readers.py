"""Readers of the formats that people have: each makes a triple of a row, or says why there is none in it.

A preference pair becomes a triple as in the paper's ablations: the dispreferred reply is the answer, the preferred one
the correction.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial, reduce
from itertools import groupby
from typing import Literal, NamedTuple, cast

from aligner.data.chats import first_exchange
from aligner.data.fields import (
    as_asked,
    conversation_of,
    instruction_of,
    kind_of,
    messages_of,
    sources_of,
    text_field,
    text_of,
)
from aligner.errors import MisuseError, unknown
from aligner.files import RowError
from aligner.records import Message, Question, Triple, as_question


class NoTriple(NamedTuple):
    """A sound row that holds no triple, and why."""

    reason: str


Reading = Triple | NoTriple
Reader = Callable[[Mapping[str, object]], Reading]
"""Makes of a row a triple or a reason why it holds none; raises RowError for a row that is not of the format."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fields:
    """Which fields hold what; dots reach inside objects and lists, as in `models.0.text`."""

    question: str = "question"
    answer: str = "answer"
    correction: str = "correction"


def triples(row: Mapping[str, object], fields: Fields = Fields()) -> Triple:
    """Question, answer and correction under any names; `messages` stands in for an absent `question`."""
    absent = fields.question == "question" and row.get("question") is None and row.get("messages") is not None
    question = "messages" if absent else fields.question
    named = {fields.question, fields.answer, fields.correction}
    told = {name: value for name, value in row.items() if name not in named}  # many call the question an instruction
    return Triple(
        as_asked(reach(row, question), question),
        text_of(reach(row, fields.answer), fields.answer),
        text_of(reach(row, fields.correction), fields.correction),
        sources_of(row) or (fields.question, fields.answer, fields.correction),
        conversation_of(row),
        instruction_of(told),
    )


def hh_rlhf(row: Mapping[str, object]) -> Reading:
    """HH-RLHF: two transcripts in `chosen` and `rejected` that differ in the last reply.

    Turns that follow one another by the same speaker are one turn, and white space around turns is not part of them.
    """
    chosen, rejected = (_transcript(text_field(row, name), name) for name in ("chosen", "rejected"))
    if _squeezed(chosen) != _squeezed(rejected):
        raise RowError('"chosen" and "rejected" differ before the last reply')
    return _preference(as_question(chosen[:-1]), rejected[-1].content, chosen[-1].content, source="hh-rlhf")


def pku_saferlhf(row: Mapping[str, object]) -> Reading:
    """PKU-SafeRLHF: the better of two responses is preferred.

    Where another one is the safer, it is preferred instead if the better one is unsafe.
    """
    question = text_field(row, "prompt")
    best = _preferred(row)
    names = (f"response_{1 - best}", f"response_{best}")
    answer, correction = (text_field(row, name) for name in names)
    return _preference(question, answer, correction, source="pku-saferlhf", names=names)


def ultrafeedback(row: Mapping[str, object]) -> Reading:
    """UltraFeedback, as it was published (`completions` with scores) or as pairs (`chosen` and `rejected` messages)."""
    return _best_and_worst(row) if "completions" in row else _message_pair(row)


def truthfulqa(row: Mapping[str, object]) -> Reading:
    """TruthfulQA, with the columns of its CSV file or of the hub: the first incorrect answer, and the best one.

    Lin et al., TruthfulQA: measuring how models mimic human falsehoods, 2022.
    """
    question = text_field(row, _column(row, "Question"))
    best = text_field(row, _column(row, "Best Answer"))
    wrong = _first_of(row, _column(row, "Incorrect Answers"))
    return _preference(question, wrong, best, source="truthfulqa", names=("incorrect_answers", "best_answer"))


def sharegpt(row: Mapping[str, object]) -> Reading:
    """ShareGPT: chats with `from` and `value`; nobody corrected them, so that they hold questions and answers alone."""
    first_exchange(row)
    return NoTriple("holds no correction")


FORMATS: Mapping[str, Callable[..., Reading]] = {
    "triples": triples,
    "hh-rlhf": hh_rlhf,
    "pku-saferlhf": pku_saferlhf,
    "ultrafeedback": ultrafeedback,
    "truthfulqa": truthfulqa,
    "sharegpt": sharegpt,
}


def reader_named(name: str, fields: Fields = Fields()) -> Reader:
    """The reader of a format; other names of fields are for `triples` alone, and MisuseError elsewhere."""
    if name not in FORMATS:
        raise unknown("format", name, FORMATS)
    if name == "triples":
        return partial(triples, fields=fields)
    if fields != Fields():
        raise MisuseError(f'names of fields are for the format "triples"; "{name}" has its own')
    return FORMATS[name]


class Given(NamedTuple):
    """What a row gives to those who do not need a whole triple."""

    question: Question
    answer: str | None = None
    correction: str | None = None


Takes = Literal["questions", "answers", "triples"]
Giver = Callable[[Mapping[str, object]], Given | NoTriple]


def giver_named(name: str, takes: Takes, fields: Fields = Fields()) -> Giver:
    """Takes of rows of a format the question alone, also the answer, or the correction, too.

    Fields of what is not taken may be absent from "triples", "truthfulqa" and "sharegpt".
    """
    if takes != "triples" and name in _GIVERS:
        return partial(_GIVERS[name], takes, fields)
    return partial(_given, takes, reader_named(name, fields))


def reach(row: Mapping[str, object], path: str) -> object:
    """What stands at a dotted path, or None; a field whose own name has dots comes first."""
    if path in row:
        return row[path]
    start: object = row
    return reduce(_inside, path.split("."), start)


def _inside(value: object, step: str) -> object:
    if isinstance(value, dict):
        return cast(dict[str, object], value).get(step)
    if isinstance(value, list) and step.isdecimal():
        items = cast(list[object], value)
        return items[int(step)] if int(step) < len(items) else None
    return None


def _preference(
    question: Question,
    rejected: str,
    chosen: str,
    *,
    source: str,
    names: tuple[str, str] = ("rejected", "chosen"),
) -> Reading:
    """The triple of a preference pair; `names` says where the rejected and the chosen reply stood."""
    return (
        NoTriple("both replies are the same")
        if rejected == chosen
        else Triple(question, rejected, chosen, (source, *names))
    )


# ---- HH-RLHF ---------------------------------------------------------------------------------------------------------

_SPEAKER = re.compile(r"\n\n(Human|Assistant):")


def _transcript(text: str, name: str) -> tuple[Message, ...]:
    """The turns of a transcript: a question and the assistant's reply to it."""
    before, *parts = _SPEAKER.split("\n\n" + text.lstrip())
    if before.strip() or not parts:
        raise RowError(f'"{name}" is not a transcript: it does not start with "Human:" or "Assistant:"')
    turns = [(speaker, content.strip()) for speaker, content in zip(parts[::2], parts[1::2], strict=True)]
    messages = tuple(
        _turn(speaker, [said for _, said in group]) for speaker, group in groupby(turns, lambda turn: turn[0])
    )
    if len(messages) < 2 or messages[-1].role != "assistant":
        raise RowError(f'"{name}" does not end with a reply of the assistant to the human')
    if not messages[-1].content:
        raise RowError(f'"{name}" ends with an empty reply')
    if not messages[-2].content:
        raise RowError(f'"{name}" has an empty question')
    return messages


def _turn(speaker: str, contents: list[str]) -> Message:
    return Message("user" if speaker == "Human" else "assistant", "\n\n".join(filter(None, contents)))


def _squeezed(messages: tuple[Message, ...]) -> list[tuple[str, list[str]]]:
    """What comes before the last reply, any white space being as good as any other."""
    return [(message.role, message.content.split()) for message in messages[:-1]]


# ---- PKU-SafeRLHF ----------------------------------------------------------------------------------------------------


def _preferred(row: Mapping[str, object]) -> int:
    better, safer = (_response_id(row, name) for name in ("better_response_id", "safer_response_id"))
    if better is None and safer is None:
        raise RowError('no "better_response_id" and no "safer_response_id"')
    if better is None or safer is None or better == safer:
        return cast(int, safer if better is None else better)
    return better if _is_safe(row, better) else safer


def _response_id(row: Mapping[str, object], name: str) -> int | None:
    value = row.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or value not in (0, 1):
        raise RowError(f'"{name}" is neither 0 nor 1')
    return cast(int, value)


def _is_safe(row: Mapping[str, object], response: int) -> bool:
    name = f"is_response_{response}_safe"
    value = row.get(name)
    if not isinstance(value, bool):
        raise RowError(f'no "{name}"' if value is None else f'"{name}" is {kind_of(value)}, not true or false')
    return value


# ---- UltraFeedback ---------------------------------------------------------------------------------------------------

# The overall scores as published hold known mistakes (1 written as 10); the mean of the fine-grained ones does not.
_SCORES = ("fine-grained_score", "overall_score")


def _best_and_worst(row: Mapping[str, object]) -> Reading:
    question = text_field(row, "instruction")
    completions = _completions(row)
    if len(completions) < 2:
        return NoTriple("fewer than two replies")
    scores = _scores(completions)
    if min(scores) == max(scores):
        return NoTriple("all replies have the same score")
    places = [scores.index(min(scores)), scores.index(max(scores))]
    answer, correction = (text_of(completions[i].get("response"), f"completions.{i}.response") for i in places)
    worst, best = (str(completions[i].get("model") or f"completions.{i}") for i in places)
    return _preference(question, answer, correction, source="ultrafeedback", names=(worst, best))


def _completions(row: Mapping[str, object]) -> list[dict[str, object]]:
    value = row["completions"]
    items = cast(list[object], value) if isinstance(value, list) else [value]
    if not all(isinstance(item, dict) for item in items):
        raise RowError('"completions" is not a list of objects')
    return cast(list[dict[str, object]], items)


def _scores(completions: list[dict[str, object]]) -> list[float]:
    for name in _SCORES:
        scores = [item.get(name) for item in completions]
        if all(isinstance(score, int | float) for score in scores):
            return cast(list[float], scores)
    raise RowError(f"the completions do not all have a number as {' or '.join(_SCORES)}")


def _message_pair(row: Mapping[str, object]) -> Reading:
    chosen, rejected = (messages_of(row.get(name) or [], name) for name in ("chosen", "rejected"))
    for name, messages in (("chosen", chosen), ("rejected", rejected)):
        if not messages or messages[-1].role != "assistant":
            raise RowError(f'"{name}" does not end with a reply of the assistant')
        text_of(messages[-1].content, f"{name}.{len(messages) - 1}.content")
    if chosen[:-1] != rejected[:-1]:
        raise RowError('"chosen" and "rejected" differ before the last reply')
    score = row.get("score_chosen")
    if score is not None and score == row.get("score_rejected"):
        return NoTriple("all replies have the same score")
    question = _asked_before(chosen[:-1]) or text_field(row, "prompt")
    return _preference(question, rejected[-1].content, chosen[-1].content, source="ultrafeedback")


def _asked_before(messages: tuple[Message, ...]) -> Question | None:
    if not messages:
        return None
    if messages[-1].role != "user" or not messages[-1].content.strip():
        raise RowError("there is no question of the user before the reply")
    return as_question(messages)


# ---- TruthfulQA ------------------------------------------------------------------------------------------------------


def _column(row: Mapping[str, object], name: str) -> str:
    return name if name in row else name.lower().replace(" ", "_")


def _first_of(row: Mapping[str, object], name: str) -> str:
    """The first text of a list, or of those that ";" parts."""
    value = row.get(name)
    items = cast(list[object], value) if isinstance(value, list) else [*text_field(row, name).split(";")]
    return text_of(items[0] if items else "", name).strip()


# ---- questions and answers without corrections -----------------------------------------------------------------------


def _given(takes: Takes, reader: Reader, row: Mapping[str, object]) -> Given | NoTriple:
    found = reader(row)
    if isinstance(found, NoTriple):
        return found
    return Given(
        found.question,
        found.answer if takes != "questions" else None,
        found.correction if takes == "triples" else None,
    )


def _given_fields(takes: Takes, fields: Fields, row: Mapping[str, object]) -> Given:
    absent = fields.question == "question" and row.get("question") is None and row.get("messages") is not None
    name = "messages" if absent else fields.question
    question = as_asked(reach(row, name), name)
    return Given(question, None if takes == "questions" else text_of(reach(row, fields.answer), fields.answer))


def _given_truthfulqa(takes: Takes, _: Fields, row: Mapping[str, object]) -> Given:
    question = text_field(row, _column(row, "Question"))
    return Given(question, None if takes == "questions" else _first_of(row, _column(row, "Incorrect Answers")))


def _given_sharegpt(takes: Takes, _: Fields, row: Mapping[str, object]) -> Given | NoTriple:
    found = first_exchange(row)
    if found is None:
        return NoTriple("does not begin with a question of the user")
    question, reply = found
    if takes == "answers" and reply is None:
        return NoTriple("no reply follows the question")
    return Given(question, reply if takes == "answers" else None)


_GIVERS: Mapping[str, Callable[[Takes, Fields, Mapping[str, object]], Given | NoTriple]] = {
    "triples": _given_fields,
    "truthfulqa": _given_truthfulqa,
    "sharegpt": _given_sharegpt,
}
