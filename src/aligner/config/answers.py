"""Files of answers and of training data."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from aligner.config.kinds import Device, GateChoice, OnBadRow


@dataclass(frozen=True, slots=True, kw_only=True)
class CorrectConfig:
    """aligner correct: answers in, corrections out."""

    answers: Path | None = None
    """question and answer: JSONL or Parquet; - is standard input"""
    out: Path | None = None
    """where the corrections go, in the order of the answers: JSONL or Parquet; - is standard output"""
    aligner: str = "demo"
    """a checkpoint folder or hub id, "demo" (shipped), "openai:MODEL@URL", "echo:" or "rules:FILE\""""
    question: str | None = None
    """one question, instead of a file"""
    answer: str | None = None
    """its answer"""
    instruction: str = ""
    """what the Aligner is told, as in "make it more empathetic"; a row's own comes first"""
    objective: str = ""
    """the same by name: helpful, harmless, honest, empathetic, concise, code, maths or summary"""
    gate: GateChoice = "off"
    """leave alone what probably needs no change: auto as the checkpoint has it, or from that probability on"""
    batch: int = 64
    """answers decoded together"""
    device: Device = "auto"
    """where to decode"""
    on_bad_row: OnBadRow = "stop"
    """stop at a row that cannot be used, or skip it, into a file beside the output or as it was"""
    shard: str = ""
    """i/N, from 0: only that part of the file, for arrays of jobs on many machines; the last to end makes one file"""
    engine: Literal["local", "ray"] = "local"
    """where parts are corrected: in processes of this machine, or as tasks of Ray"""
    shards: int = 0
    """parts of the file; 0 makes one of every 16 times 16 times --batch answers"""
    workers: int = 0
    """parts at a time, each in a process of its own; 0 is none with local, and as many as there are CPUs with ray"""
    ray_address: str = ""
    """of a cluster; Ray is started on this machine without it"""


@dataclass(frozen=True, slots=True, kw_only=True)
class CalibrateConfig:
    """aligner calibrate: a new gate for a checkpoint, from answers that it was not trained on."""

    checkpoint: Path
    """the folder whose aligner.json gets the gate"""
    triples: Path
    """held-out question, answer and correction: JSONL or Parquet"""
    wanted: float = 0.01
    """rate that the gate keeps to"""
    of: Literal["let_through", "needless"] = "let_through"
    """let_through: of flawed answers that pass; needless: of good answers that do not"""
    by: str = "exact"
    """what makes an answer good: exact, that it is the correction itself; world, the oracle of the closed world"""
    instruction: str = ""
    """what the Aligner will be told when the gate is used; a row's own comes first"""
    objective: str = ""
    """the same by name: helpful, harmless, honest, empathetic, concise, code, maths or summary"""
    batch: int = 64
    """answers read together"""
    device: Device = "auto"
    """where to read them"""
    on_bad_row: OnBadRow = "stop"
    """stop at a row that cannot be used, or skip it into a file beside the triples"""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConvertConfig:
    """aligner convert: the formats that people have in, triples out."""

    source: Path
    """the file to read: JSON, JSONL or Parquet, gzipped or not"""
    out: Path
    """where the triples go: JSONL or Parquet"""
    format: str = "triples"
    """triples, hh-rlhf, pku-saferlhf or ultrafeedback"""
    question: str = "question"
    """for triples: the field that holds the question, dots reach inside"""
    answer: str = "answer"
    """for triples: the field that holds the answer"""
    correction: str = "correction"
    """for triples: the field that holds the correction"""
    on_bad_row: OnBadRow = "stop"
    """stop at a row that cannot be used, or skip it into a file beside the output"""
