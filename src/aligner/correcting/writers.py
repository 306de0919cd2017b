"""Who writes raw corrections, by name: a language model, here or on a server, or something right by construction."""

import hashlib
import json
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Protocol

from aligner.config import Device
from aligner.errors import unknown
from aligner.models.pieces import StopCutter
from aligner.models.rules import Rules, read_rules
from aligner.records import Completion, Exchange, SamplingParams


class Writer(Protocol):
    """Writes raw corrections; whether one may replace its answer, guards decide."""

    @property
    def fingerprint(self) -> str:
        """Two writers with the same fingerprint write the same."""
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


@dataclass(frozen=True, slots=True)
class RulesWriter:
    """Rewrites answers by regular expressions; without rules it is the perfect copy."""

    rules: Rules
    fingerprint: str

    def write(
        self, exchanges: Sequence[Exchange], sampling: SamplingParams, *, batch: int = 64, doubt: bool = False
    ) -> list[Completion]:
        """The answers, rewritten."""
        return [Completion(self._rewritten(exchange.answer, sampling)) for exchange in exchanges]

    def stream(self, exchange: Exchange, sampling: SamplingParams) -> Generator[str, None, Completion]:
        """The answer, rewritten, in one piece."""
        completion = Completion(self._rewritten(exchange.answer, sampling))
        yield completion.text
        return completion

    def _rewritten(self, answer: str, sampling: SamplingParams) -> str:
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


def shipped(name: str) -> Path:
    """The folder of a small checkpoint that comes with the package: `aligner` or `upstream`."""
    return Path(str(files("aligner"))) / "assets" / name
