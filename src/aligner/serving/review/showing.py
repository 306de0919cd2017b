"""Corrections as the pages read them: with their edits, and in lists with the beginnings of long texts alone."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from os.path import commonprefix
from typing import Any

from aligner.records import Edit
from aligner.scoring.edits import edits_between
from aligner.serving.logged import Feedback, Logged
from aligner.serving.review.reading import Reviewed

PREVIEW = 2_000
"""characters of a text in a list"""
_COMPARED = 20_000
"""characters between what two texts begin and end with, to be compared word by word"""
Json = Mapping[str, Any]


def whole(row: Reviewed) -> Json:
    """Everything that is known of a correction."""
    return _shown(row, row.logged.answer, row.logged.correction, edits_of(row.logged))


def preview(row: Reviewed) -> Json:
    """The same with the beginnings of long texts; applied to that of the answer, the edits give the correction's."""
    logged = row.logged
    answer, edits = logged.answer[:PREVIEW], _within(edits_of(logged), PREVIEW)
    return {
        **_shown(row, answer, _applied(answer, edits), edits),
        "question": logged.question[:PREVIEW],
        "feedback": [asdict(_beginning(said)) for said in logged.feedback],
    }


def edits_of(logged: Logged) -> Sequence[Edit]:
    """What was changed, word by word; of long texts what lies between the first and the last change, as one edit."""
    answer, correction = logged.answer, logged.correction
    if logged.content != "full" or answer == correction:
        return ()
    if max(len(answer), len(correction)) <= _COMPARED:
        return edits_between(answer, correction)
    start = len(commonprefix([answer, correction]))  # noqa: RUF071  # characters are what is wanted
    most = min(len(answer), len(correction)) - start
    end = len(commonprefix([answer[::-1][:most], correction[::-1][:most]]))  # noqa: RUF071
    return (Edit(start, len(answer) - end, correction[start : len(correction) - end]),)


def _shown(row: Reviewed, answer: str, correction: str, edits: Sequence[Edit]) -> Json:
    told = {"lengths": row.logged.lengths._asdict(), "edits": [list(edit) for edit in edits], "state": row.state}
    return {**asdict(row.logged), "answer": answer, "correction": correction, **told}


def _beginning(said: Feedback) -> Feedback:
    return replace(said, text=said.text and said.text[:PREVIEW], comment=said.comment and said.comment[:PREVIEW])


def _within(edits: Sequence[Edit], length: int) -> list[Edit]:
    """The edits of the first characters."""
    return [Edit(e.start, min(e.end, length), e.text[:length]) for e in edits if e.start <= length]


def _applied(answer: str, edits: Sequence[Edit]) -> str:
    parts, place = list[str](), 0
    for start, end, text in edits:
        parts += [answer[place:start], text]
        place = end
    return "".join([*parts, answer[place:]])
