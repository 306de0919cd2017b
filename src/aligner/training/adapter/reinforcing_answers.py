"""The answers that a model learns from while it learns, drawn by our own decoder."""

import hashlib
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from aligner.config.bootstrapping import Sampling
from aligner.decoding.blocks import no_drafts
from aligner.decoding.decoder import Request
from aligner.decoding.sampling import Sampler, sampler_of
from aligner.decoding.start import StartDecoder, start_decoder
from aligner.errors import MisuseError
from aligner.records import SamplingParams
from aligner.training.prompts import Prompt

_ROWS = 64

Stops = Callable[[], Callable[[int], bool]]
"""makes, for one answer, what is told its tokens in order; true ends the answer behind a token"""


@dataclass(frozen=True, slots=True)
class Ends:
    """What ends an answer."""

    ids: frozenset[int]
    """any of these tokens"""
    end: int
    """the one of them with which lessons end"""
    stops: Stops | None = None
    """what else does, where there is something"""

    def as_taught(self, answer: Sequence[int]) -> list[int]:
        """An answer with the end that lessons have, whatever ended it; as it is where nothing did.

        A stop string is left out, with all of the token that it begins in.
        """
        if answer[-1] in self.ids:
            return [*answer[:-1], self.end]
        if not self._stopped(answer):
            return [*answer]
        begins = next(place for place in reversed(range(len(answer))) if self._stopped(answer[place:]))
        return [*answer[:begins], self.end]

    def _stopped(self, tokens: Sequence[int]) -> bool:
        return self.stops is not None and any(map(self.stops(), tokens))


def ends_of(model: Any, tokenizer: Any, stops: Stops | None) -> Ends:
    """What ends the answers of that model: what it or its tokenizer calls an end, or the stops."""
    named = model.generation_config.eos_token_id
    of_model = [named] if isinstance(named, int) else named or []
    return Ends(frozenset([*of_model, tokenizer.eos_token_id]), tokenizer.eos_token_id, stops)


@dataclass(frozen=True, slots=True)
class Answering:
    """Draws the answers of a step from the model as it is then.

    The noise is a function of seed, step and place in the step, so that nothing is lost with a process.
    """

    model: Any = field(repr=False)
    start: StartDecoder = field(repr=False)
    how: Sampling
    ends: Ends = field(repr=False)
    seed: int
    context: int | None
    """how many tokens there may be, old and new; none where the model names no limit"""

    def draw(self, prompts: Sequence[Sequence[int]], *, step: int, first: int) -> list[list[int]]:
        """An answer to each prompt, with what ends it; `first` is the first one's place in the step."""
        requests = [
            Request(
                prompt=ids,
                limit=self._room(ids),
                ends=self.ends.ids,
                sampler=self._sampler(step, first + place),
                stops=self.ends.stops and self.ends.stops(),
            )
            for place, ids in enumerate(prompts)
        ]
        with _at_rest(self.model):
            steps = self.start(_ROWS).decode(requests)
            decoded = {step.number: step.end.tokens for step in steps if step.end is not None}
        return [decoded[number] for number in range(len(requests))]

    def _room(self, prompt: Sequence[int]) -> int:
        return self.how.max_tokens if self.context is None else min(self.how.max_tokens, self.context - len(prompt))

    def _sampler(self, step: int, place: int) -> Sampler:
        key = hashlib.blake2b(f"{self.seed}/{step}/{place}".encode(), digest_size=8).digest()
        how = self.how
        return sampler_of(
            SamplingParams(temperature=how.temperature, top_p=how.top_p, top_k=how.top_k, seed=int.from_bytes(key) >> 1)
        )


def answering_of(model: Any, prompts: Sequence[Prompt], how: Sampling, ends: Ends, *, seed: int) -> Answering:
    """How that model answers, its weights read anew in every step.

    Raises MisuseError for a prompt that is empty, or leaves no room for an answer.
    """
    context: int | None = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    for prompt in prompts:
        if not prompt.ids or (context is not None and len(prompt.ids) >= context):
            holds = "there is no limit" if context is None else f"the model's context holds {context:,}"
            raise MisuseError(
                f"prompt {prompt.number} has {len(prompt.ids):,} tokens, and {holds}: leave it out, or make it fit"
            )
    return Answering(model, start_decoder(model, lambda _: no_drafts), how, ends, seed, context)


@contextmanager
def _at_rest(model: Any) -> Generator[None]:
    """The model as it is used, without dropout; it goes on learning behind that."""
    learns = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(learns)
