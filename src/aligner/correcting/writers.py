"""Who writes raw corrections: a language model of ours, or something right by construction."""

import hashlib
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any, Protocol

from aligner.config import Device
from aligner.decoding.plain import decode, token_steps
from aligner.errors import unknown
from aligner.models.hf import load_causal_lm, local_folder
from aligner.models.pieces import StopCutter, TokenText
from aligner.models.rules import Rules, read_rules
from aligner.records import Completion, Exchange, SamplingParams, Usage
from aligner.templates import PromptEncoder
from aligner.training.card import Card


class Writer(Protocol):
    """Writes raw corrections; whether one may replace its answer, guards decide."""

    @property
    def fingerprint(self) -> str:
        """Two writers with the same fingerprint write the same."""
        ...

    def write(self, exchanges: Sequence[Exchange], sampling: SamplingParams) -> list[Completion]:
        """One completion for each exchange, in order; its `finish_reason` is `context` where it did not fit."""
        ...

    def stream(self, exchange: Exchange, sampling: SamplingParams) -> Generator[str, None, Completion]:
        """The pieces of a completion as they are decoded, and in the end all of it."""
        ...


@dataclass(frozen=True, slots=True)
class RulesWriter:
    """Rewrites answers by regular expressions; without rules it is the perfect copy."""

    rules: Rules
    fingerprint: str

    def write(self, exchanges: Sequence[Exchange], sampling: SamplingParams) -> list[Completion]:
        """The answers, rewritten."""
        return [Completion(self.rules.rewrite(exchange.answer)) for exchange in exchanges]

    def stream(self, exchange: Exchange, sampling: SamplingParams) -> Generator[str, None, Completion]:
        """The answer, rewritten, in one piece."""
        completion = Completion(self.rules.rewrite(exchange.answer))
        yield completion.text
        return completion


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
        decoded = decode(
            self.model, [prompts[i] for i in fits], limits=limits, ends=self._ends, sampling=sampling
        )
        for i, ids in zip(fits, decoded, strict=True):
            completions[i] = self._completion(len(prompts[i]), ids, sampling)
        return completions

    def stream(self, exchange: Exchange, sampling: SamplingParams) -> Generator[str, None, Completion]:
        """Piece by piece; never half a letter."""
        prompt = self._prompt(exchange)
        text, cutter, ids = TokenText(self._decode), StopCutter(sampling.stop), list[int]()
        steps = token_steps(self.model, [prompt], sampling=sampling)
        while len(ids) < self._room(prompt, sampling) and not cutter.stopped and ids[-1:] not in self._end_lists:
            ids += next(steps)
            if piece := cutter.add(text.add(ids[-1])):
                yield piece
        if piece := cutter.add(text.rest()) + cutter.rest():
            yield piece
        return self._completion(len(prompt), ids, sampling) if ids else Completion("", "context", Usage(len(prompt)))

    @property
    def _ends(self) -> frozenset[int]:
        return frozenset({self.tokenizer.eos_token_id})

    @property
    def _end_lists(self) -> list[list[int]]:
        return [[end] for end in self._ends]

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


def _echo(_: str, __: Device) -> Writer:
    return RulesWriter(Rules(()), "echo:")


def _rules(path: str, _: Device) -> Writer:
    rules = read_rules(Path(path))
    return RulesWriter(rules, f"rules:{hashlib.sha256(repr(rules).encode()).hexdigest()[:16]}")


WRITERS: Mapping[str, Callable[[str, Device], Writer]] = {"echo": _echo, "rules": _rules}
"""What stands before the colon of a name, besides checkpoints."""


def load_writer(name: str, device: Device) -> Writer:
    """The writer of that name: `demo`, `echo:`, `rules:FILE`, a checkpoint folder or a hub id."""
    kind, colon, rest = name.partition(":")
    if colon and not Path(name).exists():
        if kind not in WRITERS:
            raise unknown("kind of Aligner", kind, WRITERS)
        return WRITERS[kind](rest, device)
    return _load_checkpoint(shipped("aligner") if name == "demo" else local_folder(name), device)


def shipped(name: str) -> Path:
    """The folder of a small checkpoint that comes with the package: `aligner` or `upstream`."""
    return Path(str(files("aligner"))) / "assets" / name


def _load_checkpoint(folder: Path, device: Device) -> LMWriter:
    card = Card.load(folder)
    model, tokenizer = load_causal_lm(folder, device)
    return LMWriter(
        model=model,
        tokenizer=tokenizer,
        encoder=PromptEncoder(card.template, tokenizer),
        fingerprint=f"{folder.name}:{card.weights[:16]}:{card.template.name}.{card.template.version}",
        context=model.config.get_text_config().max_position_embeddings,
    )
