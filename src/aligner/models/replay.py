"""Recorded answers as a model: real answers of real models, again and again the same."""

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import NamedTuple
from urllib.parse import parse_qsl

from aligner.data.readers import Fields, triples
from aligner.errors import InputFileError, MisuseError, ModelError, unknown
from aligner.files import bad_rows_named, read
from aligner.models.pieces import words
from aligner.records import Completion, Message, Question, SamplingParams, as_question


class Recorded(NamedTuple):
    """One row of a recording."""

    question: Question
    answer: str


@dataclass(frozen=True, slots=True)
class ReplayModel:
    """Answers what was recorded for the very same question; system messages need not be recorded.

    Of several answers to one question, the seed chooses: 0 is the first, and past the last they start again.
    """

    source: str
    answers: Mapping[Question, Sequence[str]] = field(repr=False)

    async def complete(
        self,
        messages: Sequence[Message],
        sampling: SamplingParams = SamplingParams(),
        *,
        prediction: str | None = None,
    ) -> Completion:
        """The recorded answer; ModelError when none is recorded."""
        return Completion(self._answer(messages, sampling))

    async def stream(
        self,
        messages: Sequence[Message],
        sampling: SamplingParams = SamplingParams(),
        *,
        prediction: str | None = None,
    ) -> AsyncIterator[str]:
        """The same, word by word."""
        for word in words(self._answer(messages, sampling)):
            yield word

    def _answer(self, messages: Sequence[Message], sampling: SamplingParams) -> str:
        turns = [message for message in messages if message.role != "system"]
        for question in (as_question(messages), as_question(turns)):
            if question in self.answers:
                recorded = self.answers[question]
                return recorded[(sampling.seed or 0) % len(recorded)]
        asked = turns[-1].content if turns else ""
        raise ModelError(f'{self.source}: no answer is recorded for "{_start_of(asked)}"')


def load(name: str) -> ReplayModel:
    """The model `replay:FILE`, or `replay:FILE?question=FIELD&answer=FIELD` for fields of other names.

    Raises MisuseError for a file that is not there, and InputFileError for one without usable answers.
    """
    path, fields = _parse_name(name)
    return ReplayModel(path, read_answers(path, fields))


def read_answers(path: str, fields: Fields) -> dict[Question, list[str]]:
    """All answers of a JSONL, JSON or Parquet file by their question, in the order of the file."""
    answers: dict[Question, list[str]] = {}
    for _, recorded in read(path, partial(_recorded, fields=fields), bad_rows=bad_rows_named("stop", path)):
        answers.setdefault(recorded.question, []).append(recorded.answer)
    if not answers:
        raise InputFileError(f"{path}: holds no answers")
    return answers


def _recorded(row: Mapping[str, object], fields: Fields) -> Recorded:
    triple = triples(row, fields)
    return Recorded(triple.question, triple.answer)


def _parse_name(name: str) -> tuple[str, Fields]:
    path, _, options = name.partition("?")
    if not Path(path).name:
        raise MisuseError('"replay:" needs a file: replay:FILE')
    chosen = dict(parse_qsl(options, keep_blank_values=True))
    for option in chosen.keys() - {"question", "answer"}:
        raise unknown("field of a recording", option, ("question", "answer"))
    question, answer = chosen.get("question", "question"), chosen.get("answer", "answer")
    # A recording has no corrections: the answer stands in for them.
    return path, Fields(question=question, answer=answer, correction=answer)


def _start_of(text: str, size: int = 60) -> str:
    line = " ".join(text.split())
    return line if len(line) <= size else f"{line[:size]}…"
