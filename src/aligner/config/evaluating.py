"""What is compared, on what, and by whom."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from aligner.config.kinds import Device


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluatedUpstream:
    """An upstream of aligner evaluate."""

    name: str
    """what it is called in the report"""
    model: str
    """openai:MODEL[@BASE_URL], hf:PATH, replay:FILE, world:PROFILE, ..."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluatedTask:
    """A benchmark of aligner evaluate."""

    task: str
    """its name: see aligner evaluate --list"""
    path: str
    """a local file or folder, or a hub id"""
    sample: int = 0
    """so many of its items, drawn by the seed; 0 takes all"""
    qualities: tuple[str, ...] = ()
    """what judges look at, where it is not what the task says"""
    temperature: float = 0.0
    """at which the upstreams answer"""
    max_tokens: int = 0
    """of an answer, where it is not what the task says"""


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluateConfig:
    """aligner evaluate: upstreams with and without the Aligner, pair by pair, and a report that a sceptic can check."""

    aligner: str = "demo"
    """a checkpoint folder or hub id, "demo" (shipped), "openai:MODEL@URL", "echo:" or "rules:FILE\""""
    out: Path = Path("runs/evaluation")
    """folder of the report, and of all that was found out; the same command goes on where it was interrupted"""
    upstreams: tuple[EvaluatedUpstream, ...] = ()
    """whose answers are corrected: tables [[upstreams]] of a TOML file"""
    tasks: tuple[EvaluatedTask, ...] = ()
    """what they are asked: tables [[tasks]] of a TOML file"""
    judges: tuple[str, ...] = ()
    """who compares: openai:MODEL@URL or any other model, truth:FOLDER, refusal:, world:; may be given more than once"""
    votes: Literal["agree", "half"] = "agree"
    """agree: a win counts only if it survives the swap of both answers; half: each order is half a vote"""
    targets: tuple[Path, ...] = ()
    """triples that the Aligner was trained on: corrections that stand there are counted; may be given more than once"""
    others: tuple[str, ...] = ()
    """other answers to look for in corrections: FILE[?question=FIELD&answer=FIELD]; may be given more than once"""
    title: str = "What did the Aligner fix, and what did it break?"
    """of the report"""
    seed: int = 0
    """of samples, of answers at a temperature, and of intervals"""
    at_a_time: int = 8
    """calls of a model at a time"""
    batch: int = 64
    """answers corrected together"""
    min_net: float | None = None
    """exit with 1 where a net rate is below this, from -1 to 1"""
    max_broken: int | None = None
    """exit with 1 where more answers than this were right and are wrong now"""
    compare: tuple[Path, ...] = ()
    """instead: two report.json, the old one and the new one"""
    list: bool = False
    """instead: the names of all tasks"""
    device: Device = "auto"
    """where to decode"""
