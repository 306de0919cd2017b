"""Files of answers and of training data."""

from dataclasses import dataclass
from pathlib import Path

from aligner.config.kinds import Device, OnBadRow


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
    batch: int = 64
    """answers decoded together"""
    device: Device = "auto"
    """where to decode"""
    on_bad_row: OnBadRow = "stop"
    """stop at a row that cannot be used, or skip it into a file beside the output"""


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
