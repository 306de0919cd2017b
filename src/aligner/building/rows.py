"""Rows of the store as the nouns of a build, and the other way round."""

from collections.abc import Sequence
from math import isfinite
from typing import Any

import orjson

from aligner.building.nouns import Annotated, Answered, Asked, Checked, Failure, Reply, Request
from aligner.records import Message, Question, SamplingParams

ASKED = "id, question, source, place, licence, cluster, split, also"
ANSWERED = "id, question, upstream, sample, key, text, finish_reason, place"
ANNOTATED = "id, answer, annotator, key, choice, text, reasons, second"
DROPPED = "stage, id, reason, detail, source, place"
CHECKED = "id, asked, question, answer, correction, kind, cluster, split, facts"
REQUEST = "key, stage, model, messages, sampling, about, place"

Row = tuple[Any, ...]

_MOST = 10**9
"""tokens of one call"""


def asked_row(asked: Asked) -> Row:
    """A question's columns, in the order of ASKED."""
    question = question_json(asked.question)
    return (
        asked.id,
        question,
        asked.source,
        asked.place,
        asked.licence,
        asked.cluster,
        asked.split,
        orjson.dumps(asked.also),
    )


def asked_of(row: Row) -> Asked:
    """The question of a row."""
    id_, question, source, place, licence, cluster, split, also = row
    return Asked(
        id=id_,
        question=question_of(question),
        source=source,
        also=tuple(orjson.loads(also)),
        place=place,
        licence=licence,
        cluster=cluster,
        split=split,
    )


def answered_row(answer: Answered) -> Row:
    """An answer's columns, in the order of ANSWERED."""
    said = answer.key, answer.text, answer.finish_reason, answer.place
    return answer.id, answer.question, answer.upstream, answer.sample, *said


def answered_of(row: Row) -> Answered:
    """The answer of a row."""
    id_, question, upstream, sample, key, text, finish_reason, place = row
    return Answered(
        id=id_,
        question=question,
        upstream=upstream,
        sample=sample,
        key=key,
        text=text,
        finish_reason=finish_reason,
        place=place,
    )


def annotated_row(row: Annotated) -> Row:
    """A correction's columns, in the order of ANNOTATED."""
    reasons = orjson.dumps(row.reasons)
    return row.id, row.answer, row.annotator, row.key, row.choice, row.text, reasons, row.second


def annotated_of(row: Row) -> Annotated:
    """The correction of a row."""
    id_, answer, annotator, key, choice, text, reasons, second = row
    return Annotated(
        id=id_,
        answer=answer,
        annotator=annotator,
        key=key,
        choice=choice,
        text=text,
        reasons=tuple(orjson.loads(reasons)),
        second=bool(second),
    )


def checked_row(checked: Checked) -> Row:
    """A triple's columns, in the order of CHECKED but for `asked`, which the store knows."""
    question, facts = question_json(checked.question), orjson.dumps(checked.facts)
    words = checked.answer, checked.correction
    return checked.id, question, *words, checked.kind, checked.cluster, checked.split, facts


def checked_of(row: Row) -> Checked:
    """The triple of a row."""
    id_, _, question, answer, correction, kind, cluster, split, facts = row
    return Checked(
        id=id_,
        question=question_of(question),
        answer=answer,
        correction=correction,
        kind=kind,
        cluster=cluster,
        split=split,
        facts=orjson.loads(facts),
    )


def request_row(request: Request) -> Row:
    """A request's columns, in the order of REQUEST."""
    messages = orjson.dumps([[message.role, message.content] for message in request.messages])
    sampling = orjson.dumps(request.sampling)
    return request.key, request.stage, request.model, messages, sampling, request.about, request.order


def request_of(row: Row) -> Request:
    """The request of a row."""
    key, stage, model, messages, sampling, about, order = row
    given: dict[str, Any] = orjson.loads(sampling)
    return Request(
        key=key,
        stage=stage,
        model=model,
        messages=_turns(orjson.loads(messages)),
        sampling=SamplingParams(stop=tuple(given.pop("stop")), **given),
        about=about,
        order=order,
    )


def sound(text: str) -> str:
    """A text without halves of surrogates, which no file could hold: each becomes U+FFFD."""
    return text if text.isascii() else text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def sound_outcome(outcome: Reply | Failure) -> Reply | Failure:
    """An outcome that can be stored: sound texts, numbers of tokens that are believed, a cost that is a number."""
    cost = outcome.cost if isfinite(outcome.cost) else 0.0
    if isinstance(outcome, Failure):
        return outcome._replace(said=sound(outcome.said), cost=cost)
    return outcome._replace(
        text=sound(outcome.text),
        finish_reason=sound(outcome.finish_reason),
        prompt_tokens=believed(outcome.prompt_tokens),
        completion_tokens=believed(outcome.completion_tokens),
        cost=cost,
    )


def believed(tokens: int) -> int:
    """A number of tokens of one call within what can be: a server may tell anything."""
    return min(max(tokens, 0), _MOST)


def question_json(question: Question) -> bytes:
    """A question as JSON: a string, or pairs of role and content."""
    if isinstance(question, str):
        return orjson.dumps(question)
    return orjson.dumps([[message.role, message.content] for message in question])


def question_of(data: bytes) -> Question:
    """The question of that JSON."""
    question = orjson.loads(data)
    return question if isinstance(question, str) else _turns(question)


def _turns(pairs: Sequence[Sequence[Any]]) -> tuple[Message, ...]:
    return tuple(Message(role, content) for role, content in pairs)
