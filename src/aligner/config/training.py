"""How an Aligner is trained, and the demo that does it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from aligner.config.kinds import Device, OnBadRow


@dataclass(frozen=True, slots=True, kw_only=True)
class NewModel:
    """A small model made from nothing: a Llama with a byte-level BPE vocabulary learnt from the triples."""

    layers: int = 4
    """number of layers"""
    width: int = 128
    """size of a hidden state"""
    heads: int = 4
    """attention heads"""
    inner: int = 352
    """size inside the feed-forward part"""
    vocabulary: int = 2048
    """tokens at the most"""
    context: int = 512
    """longest prompt and correction together, in tokens"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Optimisation:
    """How one stage learns."""

    learning_rate: float = 2e-5
    """peak learning rate"""
    schedule: Literal["cosine", "linear", "constant"] = "cosine"
    """how the learning rate falls after warm-up"""
    warmup: float = 0.03
    """share of the steps over which the learning rate rises"""
    weight_decay: float = 0.0
    """AdamW's weight decay"""
    betas: tuple[float, float] = (0.9, 0.95)
    """AdamW's betas"""
    clip: float = 1.0
    """largest gradient norm"""
    batch: int = 4
    """rows a step on one device"""
    accumulate: int = 8
    """batches whose gradients are added up to one step"""
    epochs: float = 3.0
    """passes over the rows"""
    max_steps: int = 0
    """at most so many steps; 0 leaves it to the epochs"""


@dataclass(frozen=True, slots=True, kw_only=True)
class IdentityStage(Optimisation):
    """Stage one: learn to copy (paper, section 3.1: the identity Aligner)."""

    share: float = 0.2
    """share of the training rows whose answer is copied"""
    random: int = 0
    """rows of random tokens to copy before the answers; only a model made from nothing needs them"""
    until: float = 0.98
    """stop when this share of held-out answers is copied exactly"""
    check_every: int = 50
    """steps between two looks at the held-out answers"""


@dataclass(frozen=True, slots=True, kw_only=True)
class CorrectionStage(Optimisation):
    """Stage two: learn to correct, on all of the triples."""

    random_share: float = 0.0
    """rows of random tokens to copy among the triples, as a share of them"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lora:
    """Low-rank adapters instead of full training; merged when saved."""

    rank: int = 0
    """rank of the adapters; 0 trains all weights"""
    alpha: int = 32
    """scale of the adapters"""
    dropout: float = 0.0
    """dropout inside the adapters"""


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
    base: str = "new"
    """a local directory or hub id to start from, or "new" to make a small model from nothing"""
    new: NewModel = NewModel()
    template: str = "sealed"
    """what the Aligner reads: T1 to T5, chat or sealed"""
    max_length: int = 2048
    """tokens of prompt and correction together; longer rows are dropped, counted and named"""
    held_out: int = 200
    """rows kept apart to measure copying and correcting"""
    identity: IdentityStage = IdentityStage()
    correction: CorrectionStage = CorrectionStage()
    lora: Lora = Lora()
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
