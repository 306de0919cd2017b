"""A simulated upstream as a model: `world:PROFILE` answers questions of the closed world."""

import re
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from random import Random

from aligner.errors import ModelError, unknown
from aligner.records import Completion, Message, SamplingParams
from aligner.world.profiles import PROFILES, Profile
from aligner.world.questions import read_question
from aligner.world.rows import answer

_GREEDY = SamplingParams()


@dataclass(frozen=True, slots=True)
class WorldModel:
    """Answers as its profile does; the same question and seed give the same answer.

    Its rate of flaws holds for the questions that its flaws can spoil.
    """

    profile: Profile

    async def complete(
        self, messages: Sequence[Message], sampling: SamplingParams = _GREEDY, *, prediction: str | None = None
    ) -> Completion:
        """An answer to the last turn; raises ModelError for a question that the world does not know."""
        text = messages[-1].content if messages else ""
        asked = read_question(text)
        if asked is None:
            raise ModelError(f'world:{self.profile.name}: the closed world has no such question: "{text:.80}"')
        random = Random(f"{sampling.seed or 0} {self.profile.name} {text}")
        return Completion(answer(random, self.profile, asked).answer)

    async def stream(
        self, messages: Sequence[Message], sampling: SamplingParams = _GREEDY, *, prediction: str | None = None
    ) -> AsyncIterator[str]:
        """The same, word by word."""
        text = (await self.complete(messages, sampling, prediction=prediction)).text
        for word in re.findall(r"\S+\s*|\s+", text):
            yield word


def load(profile: str) -> WorldModel:
    """The model `world:PROFILE`."""
    if profile not in PROFILES:
        raise unknown("upstream of the closed world", profile, PROFILES)
    return WorldModel(PROFILES[profile])
