"""A causal language model of ours as the writer of corrections."""

import hashlib
from collections.abc import Generator, Sequence
from dataclasses import dataclass, field
from typing import Any

from aligner.config import Device
from aligner.decoding.plain import decode, token_steps
from aligner.models.generating import context_of
from aligner.models.hf import CausalLM, load_causal_lm, local_folder
from aligner.models.pieces import StopCutter, TokenText
from aligner.records import Completion, Exchange, SamplingParams, Usage
from aligner.templates import PromptEncoder, Template
from aligner.training.card import Card

_CONTEXT_WHERE_NONE_IS_NAMED = 4096


@dataclass(frozen=True, slots=True)
class LMWriter:
    """Decodes corrections with a causal language model in this process."""

    model: Any = field(repr=False)
    tokenizer: Any = field(repr=False)
    encoder: PromptEncoder = field(repr=False)
    fingerprint: str
    context: int
    """tokens of prompt and correction together"""

    def write(self, exchanges: Sequence[Exchange], sampling: SamplingParams) -> list[Completion]:
        """One batch, decoded together."""
        prompts = [self._prompt(exchange) for exchange in exchanges]
        rooms = [self._room(prompt, sampling) for prompt in prompts]
        fits = [i for i, room in enumerate(rooms) if room > 0]
        completions = [Completion("", "context", Usage(len(prompt))) for prompt in prompts]
        limits = [rooms[i] for i in fits]
        fitting = [prompts[i] for i in fits]
        decoded = decode(self.model, fitting, limits=limits, ends=self._ends, sampling=sampling)
        for i, ids in zip(fits, decoded, strict=True):
            completions[i] = self._completion(len(prompts[i]), ids, sampling)
        return completions

    def stream(self, exchange: Exchange, sampling: SamplingParams) -> Generator[str, None, Completion]:
        """Piece by piece; never half a letter."""
        prompt = self._prompt(exchange)
        text, cutter, ids = TokenText(self._decode), StopCutter(sampling.stop), list[int]()
        steps = token_steps(self.model, [prompt], sampling=sampling)
        room = self._room(prompt, sampling)
        while len(ids) < room and not cutter.stopped and self._ends.isdisjoint(ids[-1:]):
            ids += next(steps)
            if piece := cutter.add(text.add(ids[-1])):
                yield piece
        if piece := cutter.add(text.rest()) + cutter.rest():
            yield piece
        return self._completion(len(prompt), ids, sampling) if ids else Completion("", "context", Usage(len(prompt)))

    @property
    def _ends(self) -> frozenset[int]:
        return frozenset({self.tokenizer.eos_token_id})

    def _prompt(self, exchange: Exchange) -> list[int]:
        return self.encoder.prompt_ids(exchange.question, exchange.answer)

    def _room(self, prompt: Sequence[int], sampling: SamplingParams) -> int:
        room = max(self.context - len(prompt), 0)
        return room if sampling.max_tokens is None else min(room, sampling.max_tokens)

    def _decode(self, ids: Sequence[int]) -> str:
        return self.tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)

    def _completion(self, prompt_length: int, ids: list[int], sampling: SamplingParams) -> Completion:
        usage = Usage(prompt_length, len(ids))
        whole = self._decode([i for i in ids if i not in self._ends])
        cutter = StopCutter(sampling.stop)
        text = cutter.add(whole)
        ended = cutter.stopped or ids[-1] in self._ends
        return Completion(text + cutter.rest(), "stop" if ended else "length", usage)


def load_checkpoint(name: str, device: Device) -> LMWriter:
    """The writer of a checkpoint folder or hub id; raises CheckpointError where there is no Aligner in it."""
    folder = local_folder(name)
    card = Card.load(folder)
    made = hashlib.sha256(repr((card.weights, card.template)).encode()).hexdigest()[:16]
    return writer_of(load_causal_lm(folder, device), card.template, fingerprint=f"{folder.name}:{made}")


def writer_of(lm: CausalLM, template: Template, *, fingerprint: str) -> LMWriter:
    """The writer that a model is with a template."""
    return LMWriter(
        model=lm.model,
        tokenizer=lm.tokenizer,
        encoder=PromptEncoder(template, lm.tokenizer),
        fingerprint=fingerprint,
        context=context_of(lm.model, lm.tokenizer) or _CONTEXT_WHERE_NONE_IS_NAMED,
    )
