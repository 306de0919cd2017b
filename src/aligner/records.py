"""The nouns of the system, as frozen values; imports nothing of ours."""

import hashlib
import json
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol

Role = Literal["system", "user", "assistant"]


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation, in OpenAI's words."""

    role: Role
    content: str


Question = str | tuple[Message, ...]
"""What was asked: one string, or a whole conversation that ends with the user's turn."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplingParams:
    """How to decode, in vLLM's words; the defaults are greedy."""

    temperature: float = 0.0
    """0 is greedy"""
    top_p: float = 1.0
    """keep the smallest set of tokens whose probabilities add up to this"""
    top_k: int = 0
    """keep this many most likely tokens; 0 keeps all"""
    max_tokens: int | None = None
    """at most so many new tokens; none leaves it to the model's context"""
    stop: tuple[str, ...] = ()
    """strings that end the text, themselves left out"""
    seed: int | None = None
    """seed of the sampling noise"""


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens read and written, and what became of a draft, in OpenAI's words."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    accepted_prediction_tokens: int = 0
    """draft tokens that were verified and right"""
    rejected_prediction_tokens: int = 0
    """draft tokens that were verified and wrong, or stood behind a wrong one"""
    passes: int = 0
    """forward passes that it took, where they can be counted"""


@dataclass(frozen=True, slots=True)
class Completion:
    """What a model wrote; `finish_reason` is OpenAI's: `stop`, or `length` when it was cut off."""

    text: str
    finish_reason: str = "stop"
    usage: Usage = Usage()
    confidence: float | None = None
    """of a draft: its lowest token probability, where the model looked"""
    doubt: tuple[float, ...] | None = None
    """for each token of a draft one minus its probability, on request"""
    spans: tuple[tuple[int, int], ...] | None = None
    """for each figure of the doubt, from which to which character of the draft it goes, where that can be told"""


@dataclass(frozen=True, slots=True)
class Exchange:
    """A question and the answer that some model gave to it."""

    question: Question
    answer: str
    id: str = ""
    """the id given, or else a hash of question, answer and instruction"""
    instruction: str = ""
    """what the Aligner is told to do, besides what its template says"""

    def __post_init__(self) -> None:
        if not self.id:
            object.__setattr__(self, "id", _hash(self.question, self.answer, self.instruction))


class Edit(NamedTuple):
    """Replace the characters from `start` to `end` of the answer by `text`."""

    start: int
    end: int
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Correction:
    """An exchange and what became of its answer; applying `edits` to the answer gives `text`."""

    exchange: Exchange
    text: str
    edits: tuple[Edit, ...] = ()
    kept_reason: str | None = None
    """why the original was kept although the Aligner wrote something else"""
    confidence: float | None = None
    """that no change is needed"""
    doubt: tuple[float, ...] | None = None
    """one figure for each token of the answer, on request"""
    spans: tuple[tuple[int, int], ...] | None = None
    """for each of those figures, from which to which character of the answer it goes, where that can be told"""
    usage: Usage = Usage()

    @property
    def changed(self) -> bool:
        """Whether the text differs from the answer."""
        return self.text != self.exchange.answer


def apply_edits(answer: str, edits: Iterable[Edit]) -> str:
    """The answer with ordered, disjoint edits made."""
    parts: list[str] = []
    position = 0
    for start, end, text in edits:
        parts += answer[position:start], text
        position = end
    return "".join([*parts, answer[position:]])


@dataclass(frozen=True, slots=True)
class Triple:
    """A question, an answer and its correction, and where each came from; one row of training data."""

    question: Question
    answer: str
    correction: str
    sources: tuple[str, str, str] = ("", "", "")
    """where question, answer and correction came from"""
    conversation: str = ""
    """names the conversation that it is part of, where that is known"""
    instruction: str = ""
    """what the Aligner is told to do, besides what its template says"""

    @property
    def is_identity(self) -> bool:
        """Whether the answer was good as it was."""
        return self.answer == self.correction


@dataclass(frozen=True, slots=True)
class Preference:
    """One prompt with a better and a worse answer, in TRL's words."""

    prompt: Question
    chosen: str
    rejected: str


Winner = Literal["a", "b", "tie"]
_OTHER: dict[Winner, Winner] = {"a": "b", "b": "a", "tie": "tie"}


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two answers to one question and which of them is better."""

    question: Question
    a: str
    b: str
    winner: Winner

    def swap(self) -> "Comparison":
        """The same comparison seen from the other side."""
        return Comparison(self.question, self.b, self.a, _OTHER[self.winner])


class ChatModel(Protocol):
    """Any language model, in this process or behind a network.

    `prediction` is OpenAI's word for a draft of the answer: a back end that can draft uses it, none trusts it.
    """

    async def complete(
        self,
        messages: Sequence[Message],
        sampling: SamplingParams = ...,
        *,
        prediction: str | None = None,
    ) -> Completion:
        """Answer a conversation."""
        ...

    def stream(
        self,
        messages: Sequence[Message],
        sampling: SamplingParams = ...,
        *,
        prediction: str | None = None,
    ) -> AsyncIterator[str]:
        """Answer a conversation piece by piece; the pieces add up to the text of `complete`."""
        ...


def as_messages(question: Question) -> tuple[Message, ...]:
    """A question as a conversation."""
    return (Message("user", question),) if isinstance(question, str) else question


def as_question(messages: Sequence[Message]) -> Question:
    """A conversation as a question: a single user turn is its text."""
    if len(messages) == 1 and messages[0].role == "user":
        return messages[0].content
    return tuple(messages)


def _hash(question: Question, answer: str, instruction: str) -> str:
    turns = [[message.role, message.content] for message in as_messages(question)]
    text = json.dumps([turns, answer, *([instruction] if instruction else [])], ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
