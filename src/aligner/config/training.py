"""How an Aligner is trained, and the demo that does it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from aligner.config.kinds import Device, OnBadRow
from aligner.config.stages import (
    CopyingStage,
    CorrectionStage,
    Gate,
    IdentityStage,
    Lora,
    Measuring,
    NewModel,
    OnPolicyStage,
    PreferenceStage,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainConfig:
    """aligner train: triples in, checkpoint out."""

    triples: Path | None = None
    """question, answer and correction: JSONL or Parquet"""
    out: Path
    """run folder: config.toml, metrics.jsonl and the checkpoint"""
    feedback: tuple[str, ...] = ()
    """a correction log whose judged corrections are learnt from, too; may be given more than once"""
    reviewers: tuple[str, ...] = ()
    """of the feedback, only that of this reviewer: the name of a key; may be given more than once"""
    votes: int = 1
    """of the feedback, only what so many reviewers agree on"""
    most_per_reviewer: int = 0
    """of the feedback, at most so many rows of one reviewer; 0 sets no limit"""
    told: bool = False
    """of the feedback, also that on what the Aligner wrote when it was told something"""
    base: str = "new"
    """a local directory or hub id to start from, or "new" to make a small model from nothing"""
    new: NewModel = NewModel()
    template: str = "sealed"
    """what the Aligner reads: T1 to T5, chat or sealed"""
    max_length: int = 2048
    """tokens of prompt and correction together; longer rows are dropped, counted and named"""
    held_out: int = 200
    """rows kept apart to measure copying and correcting"""
    copying: CopyingStage = CopyingStage()
    identity: IdentityStage = IdentityStage()
    correction: CorrectionStage = CorrectionStage()
    preference: PreferenceStage = PreferenceStage()
    on_policy: OnPolicyStage = OnPolicyStage()
    measure: Measuring = Measuring()
    gate: Gate = Gate()
    lora: Lora = Lora()
    packing: Literal["off", "on"] = "off"
    """put short rows behind one another in place of padding; they do not see each other"""
    gradient_checkpointing: Literal["auto", "on", "off"] = "auto"
    """compute activations twice in place of keeping them; auto is on a GPU alone"""
    instruction: str = ""
    """what the Aligner is told to do, for triples that do not say so themselves"""
    objective: str = ""
    """the same by name: helpful, harmless, honest, empathetic, concise, code, maths or summary"""
    report: tuple[Literal["tensorboard", "trackio"], ...] = ()
    """where figures go besides metrics.jsonl"""
    stages: Path | None = None
    """folder in which finished stages lie by their hash, so that runs that begin alike share them"""
    plan: bool = False
    """say what it would take, in steps, tokens, memory and time, and end"""
    if_too_large: Literal["refuse", "try"] = "refuse"
    """what becomes of a training that needs more memory or disk than is there, by the plan"""
    device: Device = "auto"
    """where to train"""
    seed: int = 42
    """seed of the order, the initial weights and the split"""
    save_every: int = 100
    """steps between two checkpoints"""
    on_bad_row: OnBadRow = "stop"
    """stop at a row that cannot be used, or skip it into a file beside the output"""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainJudgeConfig:
    """aligner train-judge: answers that are known to be true or false in, a small judge of truth out."""

    labelled: Path
    """question, answer and label, or TruthfulQA's prompt and completion: JSONL, Parquet, or a folder of these"""
    out: Path
    """folder of the judge, which aligner evaluate takes as truth:FOLDER"""
    held_out: int = 5
    """one of so many parts of the questions measures the judge, and is not learnt from"""
    folds: int = 4
    """parts of the other questions, across which features are chosen and probabilities calibrated"""
    seed: int = 0
    """seed of both splits"""
    on_bad_row: OnBadRow = "stop"
    """stop at a row that cannot be used, or skip it into a file beside the output"""


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoConfig:
    """aligner demo: the whole life of an Aligner in minutes, with nothing to download."""

    out: Path = Path("runs/demo")
    """run folder"""
    training: Path | None = None
    """training configuration instead of the demo's own"""
    answers: int = 200
    """held-out answers for each upstream"""
    seed: int = 0
    """seed of the world's rows"""
    shipped: bool = False
    """measure the checkpoint that ships with the package instead of training one"""
