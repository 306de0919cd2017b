"""A model that reviews its own answer and revises it, some rounds long."""

import re
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field, replace

from aligner.baselines.calls import sampling_of, usage_of
from aligner.errors import ModelError
from aligner.prompts import Revising
from aligner.records import ChatModel, Completion, Message, SamplingParams, as_question

_GREEDY = SamplingParams()
_LONGEST_REVIEW = 1024
"""tokens"""
_TOO_LONG = re.compile(r"context[ _](holds|length|size|window)", re.IGNORECASE)
"""what models in this process and servers say of a request that does not fit their context"""


@dataclass(frozen=True, slots=True)
class Reviser:
    """Answers, and in each round asks the same model for a review of the answer, and for a new one that follows it.

    A review that finds nothing to improve ends the rounds. What is blank or cut off, a review or a new answer, changes
    nothing, and neither does a request for one that does not fit the model's context. The first call has the request's
    seed, and each other call one made of it. The usage is that of all calls.
    """

    model: ChatModel
    wording: Revising = field(repr=False)
    rounds: tuple[str, ...]
    """the principles by which each of them reviews, "" for none"""

    async def complete(
        self, messages: Sequence[Message], sampling: SamplingParams = _GREEDY, *, prediction: str | None = None
    ) -> Completion:
        """The answer of the last round; what the model did not finish, or is blank, is passed on as it is."""
        answer = await self.model.complete(messages, sampling, prediction=prediction)
        if not is_whole(answer):
            return answer
        question, text, calls = as_question(messages), answer.text, [answer]
        for principles in self.rounds:
            asked = self.wording.to_review(question, text, principles)
            review = await self._call(asked, _free(sampling_of(sampling, len(calls))))
            calls.append(review)
            if not is_whole(review):
                continue
            if self.wording.is_enough(review.text):
                break
            asked = self.wording.to_revise(question, text, review.text, principles)
            calls.append(await self._call(asked, sampling_of(sampling, len(calls)), prediction=text))
            text = self.wording.unsealed(calls[-1].text) if is_whole(calls[-1]) else text
        return replace(answer, text=text, usage=usage_of(calls))

    async def stream(
        self, messages: Sequence[Message], sampling: SamplingParams = _GREEDY, *, prediction: str | None = None
    ) -> AsyncIterator[str]:
        """The last answer in one piece, since none before it is one."""
        yield (await self.complete(messages, sampling, prediction=prediction)).text

    async def _call(
        self, asked: Sequence[Message], sampling: SamplingParams, prediction: str | None = None
    ) -> Completion:
        """What the model says, and nothing where its context does not hold what it is asked."""
        try:
            return await self.model.complete(asked, sampling, prediction=prediction)
        except ModelError as error:
            if _TOO_LONG.search(str(error)):
                return Completion("", "context")
            raise


def is_whole(answer: Completion) -> bool:
    """Whether an answer came to its end, and says something."""
    return answer.finish_reason == "stop" and bool(answer.text.strip())


def _free(sampling: SamplingParams) -> SamplingParams:
    """The same for a review, whose end and length are not those of an answer."""
    return replace(sampling, stop=(), max_tokens=_LONGEST_REVIEW)
