"""A model that says again what the user said: the identity, for tests and for a first look."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

from aligner.errors import MisuseError, ModelError
from aligner.models.pieces import words
from aligner.records import Completion, Message, SamplingParams


@dataclass(frozen=True, slots=True)
class EchoModel:
    """Answers with the last user message, whatever the sampling."""

    async def complete(
        self,
        messages: Sequence[Message],
        sampling: SamplingParams = SamplingParams(),
        *,
        prediction: str | None = None,
    ) -> Completion:
        """The last user message; ModelError when there is none."""
        return Completion(last_user_text(messages))

    async def stream(
        self,
        messages: Sequence[Message],
        sampling: SamplingParams = SamplingParams(),
        *,
        prediction: str | None = None,
    ) -> AsyncIterator[str]:
        """The same, word by word."""
        for word in words(last_user_text(messages)):
            yield word


def load(name: str) -> EchoModel:
    """The model `echo:`."""
    if name:
        raise MisuseError(f'"echo:" takes no name, but has "{name}"')
    return EchoModel()


def last_user_text(messages: Sequence[Message]) -> str:
    """The content of the last user message; ModelError when there is none."""
    for message in reversed(messages):
        if message.role == "user":
            return message.content
    raise ModelError("the conversation has no user message to answer")
