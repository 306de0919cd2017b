"""The parts of a training: a new model, the four stages, and how they are measured."""

from dataclasses import dataclass
from math import ceil
from typing import Literal


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
    """batches whose gradients are added up to one step, on all processes together"""
    epochs: float = 3.0
    """passes over the rows"""
    max_steps: int = 0
    """at most so many steps; 0 leaves it to the epochs"""

    @property
    def begins(self) -> bool:
        """Whether the stage has something to do."""
        return self.epochs > 0

    @property
    def rows_a_step(self) -> int:
        """On all processes together."""
        return self.batch * self.accumulate

    def steps_for(self, rows: int) -> int:
        """How many steps so many rows take, the last one perhaps a part, or as many as there may be."""
        steps = ceil(rows / self.rows_a_step)
        return min(steps, self.max_steps) if self.max_steps else steps


@dataclass(frozen=True, slots=True, kw_only=True)
class CopyingStage(Optimisation):
    """Before all else, left out unless it has rows: a model made from nothing copies random tokens."""

    rows: int = 0
    """rows of random tokens, which grow longer; 0 leaves the stage out"""
    epochs: float = 1.0
    """passes over the rows"""

    @property
    def begins(self) -> bool:
        """Whether there are rows, and they are read."""
        return self.rows > 0 and self.epochs > 0


@dataclass(frozen=True, slots=True, kw_only=True)
class IdentityStage(Optimisation):
    """Stage one: learn to copy (paper, section 3.1: the identity Aligner)."""

    share: float = 0.2
    """share of the training rows whose answer is copied; 0 leaves the stage out"""
    until: float = 0.98
    """stop when this share of held-out answers is copied exactly"""
    check_every: int = 50
    """steps between two looks at the held-out answers"""

    @property
    def begins(self) -> bool:
        """Whether there is a share, and it is read."""
        return self.share > 0 and self.epochs > 0


@dataclass(frozen=True, slots=True, kw_only=True)
class CorrectionStage(Optimisation):
    """Stage two: learn to correct, on all of the triples."""

    random_share: float = 0.0
    """rows of random tokens to copy among the triples, as a share of them"""
    identity_share: float = 0.0
    """corrections to copy among the triples, as answers that need no change, as a share of them"""
    edit_weight: float = 1.0
    """weight in the loss of tokens that differ from the answer, and of the first one behind a deletion"""
    copy_weight: float = 1.0
    """weight in the loss of all other tokens"""
    mask_source: float = 0.0
    """share of the answer's right tokens that are hidden when it is read, so that copying alone does not do"""


JudgedQuality = Literal["helpful", "harmless", "honest"]
Rejected = Literal["original", "needless", "refusal", "sampled"]


@dataclass(frozen=True, slots=True, kw_only=True)
class PreferenceStage(Optimisation):
    """Stage three, left out unless it has epochs: prefer the correction (DPO) to what must not be written."""

    learning_rate: float = 1e-6
    """peak learning rate"""
    epochs: float = 0.0
    """passes over the pairs; 0 leaves the stage out"""
    share: float = 1.0
    """share of the triples of which pairs are made"""
    rejected: tuple[Rejected, ...] = ("original", "needless", "refusal")
    """what stands against the correction, or the copy of a good answer; pairs whose sides are equal are left out"""
    loss: Literal["sigmoid", "apo_zero"] = "sigmoid"
    """sigmoid: as published; apo_zero: anchored, which also raises the likelihood of what is chosen"""
    beta: float = 0.1
    """how far the model may go from where it began"""
    sft_weight: float = 1.0
    """weight of the plain loss on what is chosen; without it, near-identical pairs lower the likelihood of both"""


@dataclass(frozen=True, slots=True, kw_only=True)
class OnPolicyStage(Optimisation):
    """Stage four, left out unless it has rounds: sample corrections, keep those that are valued, learn from them."""

    epochs: float = 1.0
    """passes over what was kept"""
    rounds: int = 0
    """how many times; 0 leaves the stage out"""
    share: float = 0.2
    """share of the triples that are sampled for in a round"""
    samples: int = 4
    """corrections sampled for each"""
    temperature: float = 1.0
    """temperature of the samples"""
    judge: str = "exact"
    """who values them: exact, which wants the correction itself, or any judge that aligner evaluate knows"""
    qualities: tuple[JudgedQuality, ...] = ("helpful", "harmless", "honest")
    """what a judge has to value them by: none may be worse than before, and one better"""
    mix: float = 1.0
    """triples among what was kept, as a share of it"""

    @property
    def begins(self) -> bool:
        """Whether there is a round."""
        return self.rounds > 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Lora:
    """Low-rank adapters instead of full training; merged when saved."""

    rank: int = 0
    """rank of the adapters; 0 trains all weights"""
    alpha: int = 32
    """scale of the adapters"""
    dropout: float = 0.0
    """dropout inside the adapters"""
    bits: Literal[16, 4] = 16
    """4 holds the frozen weights in four bits (QLoRA), on a GPU, with the extra gpu"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measuring:
    """How a stage is measured while it learns."""

    every: int = 0
    """steps between two measurements; 0 measures at the end alone"""
    rows: int = 200
    """held-out rows at the most"""
    by: str = "exact"
    """what makes an answer good: exact, that it is the correction itself; world, the oracle of the closed world"""
    keep: Literal["best", "last"] = "last"
    """which weights a stage hands on: those with the most fixed less broken answers, or its last"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Gate:
    """Which answers are left alone without decoding: those that probably need no change."""

    wanted: float = 0.01
    """rate that the threshold keeps to on held-out answers"""
    of: Literal["let_through", "needless"] = "let_through"
    """let_through: of flawed answers that pass; needless: of good answers that are edited"""
