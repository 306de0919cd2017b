"""A causal language model of ours as the writer of corrections."""

import hashlib
import logging
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Self

from aligner.config import Device
from aligner.correcting.work import BackEnd
from aligner.decoding.decoder import Decoded, Request, Step
from aligner.decoding.drafts import Codec, Decode, codec_of
from aligner.decoding.sampling import sampler_of
from aligner.decoding.start import StartDecoder, start_decoder
from aligner.errors import CheckpointError
from aligner.models.generating import CONTEXT_WHERE_NONE_IS_NAMED, context_of
from aligner.models.hf import CausalLM, load_causal_lm, local_folder
from aligner.models.pieces import StopCutter, TokenText
from aligner.records import Completion, Exchange, SamplingParams, Usage
from aligner.scoring.platt import Platt
from aligner.templates import PromptEncoder, Template
from aligner.training.card import Card
from aligner.training.gate import FittedGate


@dataclass(frozen=True, slots=True)
class LMWriter:
    """Decodes corrections with a causal language model in this process; the answer is the draft."""

    start: StartDecoder = field(repr=False)
    codec: Codec = field(repr=False)
    encoder: PromptEncoder = field(repr=False)
    fingerprint: str
    context: int
    """tokens of prompt and correction together"""
    calibration: FittedGate | None = field(default=None, repr=False)
    """what its confidences mean; without it, they are those of the decoder"""
    gate: float | None = None
    """confidence from which an answer is read and no correction of it is written"""
    damage: str = field(default="", repr=False)
    """what is wrong with the gate of its checkpoint, and the cure"""

    @property
    def takes_instructions(self) -> bool:
        """Whether its template has a form for them."""
        return self.encoder.takes_instructions

    @property
    def threshold(self) -> float | None:
        """The gate that the checkpoint itself has."""
        return self.calibration and self.calibration.threshold

    def gated(self, gate: float) -> Self:
        """The same with a gate; it writes something else, and so has another fingerprint.

        Raises CheckpointError where the curve is lost that the number is meant for.
        """
        if self.damage:
            raise CheckpointError(self.damage)
        return replace(self, gate=gate, fingerprint=f"{self.fingerprint}:gate {self._raw(gate)}")

    def write(
        self, exchanges: Sequence[Exchange], sampling: SamplingParams, *, batch: int = 64, doubt: bool = False
    ) -> list[Completion]:
        """So many at a time; when one is through, the next one enters."""
        prompts = [self.prompt(exchange) for exchange in exchanges]
        completions = [Completion("", "context", Usage(len(prompt))) for prompt in prompts]
        # The longest first, so that what does not fit the memory shows at once, and the end has no long tail.
        fits = sorted(
            (i for i in range(len(prompts)) if self.room(prompts[i], sampling)), key=lambda i: -len(prompts[i])
        )
        requests = (self.request(prompts[i], exchanges[i], sampling, doubt=doubt, gate=self.gate) for i in fits)
        for step in self.start(batch).decode(requests):
            if step.end is not None:
                i = fits[step.number]
                completions[i] = self.completion(prompts[i], exchanges[i], step.end, sampling)
        return completions

    def stream(self, exchange: Exchange, sampling: SamplingParams) -> Generator[str, None, Completion]:
        """Piece by piece, as passes give them; never half a letter. An answer that passes the gate is one piece."""
        prompt = self.prompt(exchange)
        if not self.room(prompt, sampling):
            return Completion("", "context", Usage(len(prompt)))
        text, request = StepText(self.codec, sampling.stop), self.request(prompt, exchange, sampling, gate=self.gate)
        for step in self.start(1).decode([request]):
            if piece := exchange.answer if passed(request, step) else text.add(step):
                yield piece
            if step.end is not None:
                return self.completion(prompt, exchange, step.end, sampling)
        raise AssertionError("a request has an end")

    def back_end(self, rows: int, broken: Callable[[str], None]) -> BackEnd:
        """Corrects many works at a time, in one thread that owns the model."""
        # That thread drives this writer, and so imports it.
        from aligner.correcting.batching import Batcher

        return Batcher(self, rows, broken)

    def request(
        self,
        prompt: list[int],
        exchange: Exchange,
        sampling: SamplingParams,
        *,
        doubt: bool = False,
        gate: float | None = None,
    ) -> Request:
        """What to decode, until an answer passes the gate, if there is one; there has to be room."""
        return Request(
            prompt=prompt,
            limit=self.room(prompt, sampling),
            ends=frozenset({self.codec.end}),
            draft=self.codec.draft(exchange.answer),
            sampler=sampler_of(sampling),
            stops=self._stops(sampling) if sampling.stop else None,
            doubt=doubt,
            gate=None if gate is None else self._raw(gate),
        )

    def _raw(self, gate: float) -> float:
        return gate if self.calibration is None else _raw_of(self.calibration.curve, gate)

    def _stops(self, sampling: SamplingParams) -> Callable[[int], bool]:
        """A function that is told the tokens of one text, and whether a stop string has been met."""
        text, cutter = TokenText(self.codec.decode), StopCutter(sampling.stop)

        def stops(token: int) -> bool:
            cutter.add(text.add(token))
            return cutter.stopped

        return stops

    def prompt(self, exchange: Exchange) -> list[int]:
        """The ids that the model reads."""
        return self.encoder.prompt_ids(exchange.question, exchange.answer, exchange.instruction)

    def room(self, prompt: Sequence[int], sampling: SamplingParams) -> int:
        """How many new tokens there may be."""
        room = max(self.context - len(prompt), 0)
        return room if sampling.max_tokens is None else min(room, sampling.max_tokens)

    def completion(
        self, prompt: Sequence[int], exchange: Exchange, decoded: Decoded, sampling: SamplingParams
    ) -> Completion:
        """What was decoded, as text and in figures."""
        rejected = decoded.drafted - decoded.accepted
        usage = Usage(len(prompt), len(decoded.tokens), decoded.accepted, rejected, decoded.passes)
        # The end of the text is a token of the draft, and none of the answer's.
        ids = self.codec.encode(exchange.answer) if decoded.doubt else []
        cutter = StopCutter(sampling.stop)
        ended = decoded.tokens[-1] == self.codec.end
        text = cutter.add(self.codec.decode(decoded.tokens[:-1] if ended else decoded.tokens))
        return Completion(
            text + cutter.rest(),
            "stop" if ended or cutter.stopped else "length",
            usage,
            self._calibrated(decoded.confidence),
            decoded.doubt and decoded.doubt[: len(ids)],
            spans_of(ids, exchange.answer, self.codec.decode) if decoded.doubt else None,
        )

    def _calibrated(self, confidence: float | None) -> float | None:
        if confidence is None or self.calibration is None:
            return confidence
        return self.calibration.curve.probability(confidence)


def passed(request: Request, step: Step) -> bool:
    """Whether the request ended with this step because its draft passed the gate; its tokens are then no text."""
    sure, gate = step.end and step.end.confidence, request.gate
    return sure is not None and gate is not None and sure >= gate


# Asked for every answer, and mostly the same.
@lru_cache(maxsize=256)
def _raw_of(curve: Platt, probability: float) -> float:
    return curve.raw(probability)


def spans_of(ids: Sequence[int], text: str, decode: Decode) -> tuple[tuple[int, int], ...] | None:
    """From which to which character of a text each of its tokens goes; tokens that share a letter all have the whole.

    None where the tokens do not spell the text letter for letter.
    """
    reader, spans, parts = TokenText(decode), list[tuple[int, int]](), list[str]()
    end = untold = 0
    for place, token in enumerate(ids, 1):
        piece = reader.add(token) or (reader.rest() if place == len(ids) else "")
        untold += 1
        if piece:
            parts.append(piece)
            spans += [(end, end + len(piece))] * untold
            end, untold = end + len(piece), 0
    return tuple(spans) if "".join(parts) == text else None


class StepText:
    """The text of one request, step by step: never half a letter, and nothing from a stop string on."""

    def __init__(self, codec: Codec, stop: Sequence[str]) -> None:
        self._end = codec.end
        self._text, self._cutter = TokenText(codec.decode), StopCutter(stop)

    def add(self, step: Step) -> str:
        """The text that this step completes, with the last step all that is left."""
        piece = self._cutter.add(self._text.add(*(token for token in step.tokens if token != self._end)))
        if step.end is not None:
            piece += self._cutter.add(self._text.rest()) + self._cutter.rest()
        return piece


def load_checkpoint(name: str, device: Device) -> LMWriter:
    """The writer of a checkpoint folder or hub id; raises CheckpointError where there is no Aligner in it.

    A gate that cannot be used is told, and left out: who asks for one is refused (`damage`).
    """
    folder = local_folder(name)
    writer, gate = ungated(folder, device), Card.load(folder).gate
    try:
        return replace(writer, calibration=FittedGate.read(gate) if gate else None)
    except ValueError as error:
        damage = f"{folder}: {error}; `aligner calibrate` makes another"
        logging.getLogger("aligner").warning("%s; until then its confidences are raw", damage)
        return replace(writer, damage=damage)


def ungated(folder: Path, device: Device) -> LMWriter:
    """The writer of a checkpoint folder without its gate, which is not even looked at; raises CheckpointError."""
    card = Card.load(folder)
    made = hashlib.sha256(repr((card.weights, card.template)).encode()).hexdigest()[:16]
    return writer_of(load_causal_lm(folder, device), card.template, fingerprint=f"{folder.name}:{made}")


def writer_of(lm: CausalLM, template: Template, *, fingerprint: str) -> LMWriter:
    """The writer that a model is with a template."""
    encoder = PromptEncoder(template, lm.tokenizer)
    return LMWriter(
        start=start_decoder(lm.model),
        codec=codec_of(encoder.text_ids, lm.tokenizer),
        encoder=encoder,
        fingerprint=fingerprint,
        context=context_of(lm.model, lm.tokenizer) or CONTEXT_WHERE_NONE_IS_NAMED,
    )
