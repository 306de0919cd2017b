"""Who writes raw corrections, by name: a language model, here or on a server, or something right by construction."""

import hashlib
import json
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Protocol, Self, runtime_checkable

from aligner.config import Device, GateChoice
from aligner.errors import CheckpointError, MisuseError, unknown
from aligner.models.pieces import StopCutter
from aligner.models.rules import Rules, read_rules
from aligner.records import Completion, Exchange, SamplingParams


class Writer(Protocol):
    """Writes raw corrections; whether one may replace its answer, guards decide."""

    @property
    def fingerprint(self) -> str:
        """Two writers with the same fingerprint write the same."""
        ...

    @property
    def takes_instructions(self) -> bool:
        """Whether it can be told what a correction is for; an exchange with an instruction is MisuseError if not."""
        ...

    def write(
        self, exchanges: Sequence[Exchange], sampling: SamplingParams, *, batch: int = ..., doubt: bool = ...
    ) -> list[Completion]:
        """One completion for each exchange, in order, `batch` of them decoded at a time.

        `finish_reason` is `context` where it did not fit; `doubt` asks for a figure for each token of the answer, and
        is given by writers that read the answer as they write.
        """
        ...

    def stream(self, exchange: Exchange, sampling: SamplingParams) -> Generator[str, None, Completion]:
        """The pieces of a completion as they are decoded, and in the end all of it."""
        ...


@runtime_checkable
class HasGate(Protocol):
    """A writer that can leave an answer alone once it has read it."""

    @property
    def threshold(self) -> float | None:
        """The gate that its checkpoint has: a probability that no change is needed."""
        ...

    @property
    def damage(self) -> str:
        """What is wrong with that gate, and the cure; "" where nothing is."""
        ...

    def gated(self, gate: float) -> Self:
        """The same writer, which writes nothing where it is that sure."""
        ...


@dataclass(frozen=True, slots=True)
class RulesWriter:
    """Rewrites answers by regular expressions; without rules it is the perfect copy."""

    rules: Rules
    fingerprint: str
    takes_instructions = False

    def write(
        self, exchanges: Sequence[Exchange], sampling: SamplingParams, *, batch: int = 64, doubt: bool = False
    ) -> list[Completion]:
        """The answers, rewritten."""
        return [Completion(self._rewritten(exchange, sampling)) for exchange in exchanges]

    def stream(self, exchange: Exchange, sampling: SamplingParams) -> Generator[str, None, Completion]:
        """The answer, rewritten, in one piece."""
        completion = Completion(self._rewritten(exchange, sampling))
        yield completion.text
        return completion

    def _rewritten(self, exchange: Exchange, sampling: SamplingParams) -> str:
        if exchange.instruction:
            raise MisuseError("rules take no instruction: use an Aligner that was trained on rows that have some")
        answer = exchange.answer
        text = self.rules.rewrite(answer)
        if text == answer:
            return answer
        cutter = StopCutter(sampling.stop)
        return cutter.add(text) + cutter.rest()


def _echo(_: str, __: Device) -> Writer:
    return RulesWriter(Rules(()), "echo:")


def _rules(path: str, _: Device) -> Writer:
    rules = read_rules(Path(path))
    whole = json.dumps([(pattern.pattern, replace) for pattern, replace in rules.rules])
    return RulesWriter(rules, f"rules:{hashlib.sha256(whole.encode()).hexdigest()[:16]}")


def _openai(name: str, _: Device) -> Writer:
    # Its tokenizer takes seconds to import.
    from aligner.correcting.remote_writer import load_remote

    return load_remote(name)


WRITERS: Mapping[str, Callable[[str, Device], Writer]] = {"echo": _echo, "openai": _openai, "rules": _rules}
"""What stands before the colon of a name, besides checkpoints."""


def load_writer(name: str, device: Device) -> Writer:
    """The writer of that name: `demo`, `echo:`, `rules:FILE`, `openai:MODEL[@BASE_URL]`, a folder or a hub id."""
    kind, colon, rest = name.partition(":")
    if colon and not Path(name).exists():
        if kind not in WRITERS:
            raise unknown("kind of Aligner", kind, WRITERS)
        return WRITERS[kind](rest, device)
    # Only a language model needs torch, which takes seconds to import.
    from aligner.correcting.lm_writer import load_checkpoint

    return load_checkpoint(str(shipped("aligner")) if name == "demo" else name, device)


def gate_of(writer: Writer, name: str, gate: GateChoice) -> float | None:
    """The probability from which an answer is left alone; raises MisuseError where `auto` finds none."""
    if gate == "off":
        return None
    if gate != "auto":
        if not 0 <= gate <= 1:
            raise MisuseError(f"a gate is a probability, off or auto, and not {gate}")
        return gate
    if isinstance(writer, HasGate) and writer.damage:
        raise CheckpointError(writer.damage)
    threshold = writer.threshold if isinstance(writer, HasGate) else None
    if threshold is None:
        raise MisuseError(f"{name}: has no gate of its own; name a probability, or fit one by `aligner calibrate`")
    return threshold


def shipped(name: str) -> Path:
    """The folder of a small checkpoint that comes with the package: `aligner` or `upstream`."""
    return Path(str(files("aligner"))) / "assets" / name
