"""One question to a judge that is a language model, and what its reply says."""

import re
from collections.abc import Mapping, Sequence
from math import exp
from typing import Protocol, runtime_checkable

from aligner.judging.verdicts import Reading
from aligner.models.openai import Told
from aligner.models.server import RefusedError
from aligner.prompts import Rubric
from aligner.records import ChatModel, Message, Question, SamplingParams

_UNKNOWN_FIELD = frozenset({400, 404, 422})
"""statuses of servers that do not know the field `logprobs`, or do not give them for this model"""


@runtime_checkable
class TellsLogprobs(Protocol):
    """A model that also tells how likely the first tokens were that it might have written."""

    async def complete_with_logprobs(self, messages: Sequence[Message], sampling: SamplingParams = ...) -> Told:
        """The answer, and log-probabilities of its first visible token; raises RefusedError where there are none."""
        ...


class Asker:
    """Asks a model, and for the probabilities of the verdict where the rubric and the server have them.

    A server that refuses to give them is not asked for them again.
    """

    def __init__(self, model: ChatModel) -> None:
        self._model = model
        self._teller = model if isinstance(model, TellsLogprobs) else None

    async def ask(self, rubric: Rubric, question: Question, first: str, second: str) -> Reading:
        """The verdict on two answers in that order; raises ModelError where the model gives no reply."""
        messages = rubric.messages(question, first, second)
        sampling = SamplingParams(max_tokens=rubric.max_tokens)
        if self._teller and rubric.verdict_first:
            try:
                completion, first_token = await self._teller.complete_with_logprobs(messages, sampling)
                return reading_of(rubric, completion.text, first_token)
            except RefusedError as error:
                if error.status not in _UNKNOWN_FIELD:
                    raise
            completion = await self._model.complete(messages, sampling)
            self._teller = None  # it was that field, and nothing else
        else:
            completion = await self._model.complete(messages, sampling)
        return reading_of(rubric, completion.text)


def reading_of(rubric: Rubric, said: str, first_token: Mapping[str, float] | None = None) -> Reading:
    """The verdict in a reply; with log-probabilities of its first token, the preference says how sure it is.

    One that has no verdict, or more than one, is not read, whatever its first token may have been.
    """
    found = re.findall(rubric.verdict, said)
    vote = rubric.words.get(found[0].strip().lower()) if len(found) == 1 else None
    if vote is None:
        return Reading(0.5, None, said)
    return Reading(_preference(rubric.words, first_token or {}, vote), vote, said)


def _preference(words: Mapping[str, float], first_token: Mapping[str, float], vote: float) -> float:
    """The mean of what the verdict might have been; the vote alone where the probabilities contradict it."""
    weights = dict.fromkeys(words, 0.0)
    for token, logprob in first_token.items():
        if (word := token.strip().lower()) in weights:
            weights[word] += exp(min(logprob, 0.0))
    total = sum(weights.values())
    if not total:
        return vote
    mean = sum(words[word] * weight for word, weight in weights.items()) / total
    return mean if (mean > 0.5) == (vote > 0.5) and (mean < 0.5) == (vote < 0.5) else vote
