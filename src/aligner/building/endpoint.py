"""Somebody who is asked at once: the model, what it costs, and how fast it may be asked."""

from dataclasses import dataclass, field

from aligner.building.nouns import Request
from aligner.building.pacing import MINUTE
from aligner.building.rows import believed
from aligner.building.spending import Prices
from aligner.records import ChatModel, Usage

_LETTERS = 4
"""characters of a token, where nobody counts them"""


@dataclass(frozen=True, slots=True)
class Limits:
    """How much a server takes in a minute; 0 sets no limit."""

    requests_per_minute: float = 0.0
    tokens_per_minute: float = 0.0
    minute: float = MINUTE
    """seconds"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """An upstream or annotator that is asked live."""

    name: str
    """of the model, as requests have it"""
    model: ChatModel
    prices: Prices = field(default_factory=Prices)
    limits: Limits = Limits()
    at_a_time: int = 8
    """calls of one worker"""
    attempts: int = 6
    """of one call in one run, where what went wrong may pass"""


def letters_of(request: Request) -> int:
    """Characters of a request."""
    return sum(len(message.content) for message in request.messages)


def usage_of(request: Request, text: str, told: Usage) -> Usage:
    """The tokens of a call as the server told them, or else as many as the characters make."""
    if told.prompt_tokens > 0:
        return Usage(believed(told.prompt_tokens), believed(told.completion_tokens))
    return Usage(-(-letters_of(request) // _LETTERS), -(-len(text) // _LETTERS))


class Forecast:
    """How many tokens calls of an endpoint will take, by what they took up to now."""

    def __init__(self, done: int, usage: Usage) -> None:
        self._letters = self._read = 0
        self._written, self._count = usage.completion_tokens, done

    def of(self, request: Request) -> Usage:
        """The tokens of a call to be made; without any experience half of what it may write."""
        letters = letters_of(request)
        read = letters * self._read / self._letters if self._letters else letters / _LETTERS
        most = request.sampling.max_tokens or 1024
        written = self._written / self._count if self._count else most / 2
        return Usage(round(read), round(min(written, most)))

    def learn(self, request: Request, usage: Usage) -> None:
        """Take in what a call took."""
        self._letters += letters_of(request)
        self._read += usage.prompt_tokens
        self._written += usage.completion_tokens
        self._count += 1
