"""What `aligner bootstrap` reads: an upstream, who corrects it, how it learns from that, and when it must not."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from aligner.config.kinds import Device, GateChoice, OnBadRow
from aligner.config.stages import JudgedQuality, Lora, Optimisation

Way = Literal["sft", "dpo", "kto", "rloo", "grpo"]
REWARDED: tuple[Way, ...] = ("rloo", "grpo")
"""ways that learn from a reward model"""


@dataclass(frozen=True, slots=True, kw_only=True)
class SFTArm(Optimisation):
    """Learn to write the corrections: the published safe path (paper, Table 4)."""

    learning_rate: float = 1e-6
    """peak learning rate"""


@dataclass(frozen=True, slots=True, kw_only=True)
class DPOArm(Optimisation):
    """Prefer the correction to the answer."""

    learning_rate: float = 1e-6
    """peak learning rate"""
    epochs: float = 1.0
    """passes over the pairs"""
    loss: Literal["sigmoid", "apo_zero"] = "sigmoid"
    """sigmoid: as published; apo_zero: anchored, which also raises the likelihood of what is chosen"""
    beta: float = 0.1
    """how far the upstream may go from the reference"""
    sft_weight: float = 0.2
    """weight of the plain loss on the correction; without it, near-identical pairs lower the likelihood of both"""


@dataclass(frozen=True, slots=True, kw_only=True)
class KTOArm(Optimisation):
    """Learn from single answers that the gate calls desirable or not (Ethayarajh et al., 2024)."""

    learning_rate: float = 1e-6
    """peak learning rate"""
    epochs: float = 1.0
    """passes over the answers"""
    beta: float = 0.1
    """how far the upstream may go from the reference"""
    desirable_weight: float = 1.0
    """weight of corrections in the loss"""
    undesirable_weight: float = 1.0
    """weight of answers that were worse in the loss"""


@dataclass(frozen=True, slots=True, kw_only=True)
class RewardStage(Optimisation):
    """The reward model of a round, learnt from its pairs; it begins as the round's upstream."""

    learning_rate: float = 2e-5
    """peak learning rate"""
    epochs: float = 2.0
    """passes over the pairs"""
    center: float = 0.01
    """weight of keeping rewards around zero"""


@dataclass(frozen=True, slots=True, kw_only=True)
class RLArm(Optimisation):
    """Sample answers, have the reward model mark them, and learn from the marks (RLOO or GRPO)."""

    learning_rate: float = 1e-6
    """peak learning rate"""
    schedule: Literal["cosine", "linear", "constant"] = "constant"
    """how the learning rate falls after warm-up"""
    batch: int = 16
    """answers a step on one device: a multiple of `samples`"""
    accumulate: int = 1
    """batches whose gradients are added up to one step, on all processes together"""
    max_steps: int = 200
    """at most so many steps; 0 leaves it to the epochs"""
    epochs: float = 1.0
    """passes over the prompts"""
    samples: int = 4
    """answers sampled for each prompt"""
    beta: float = 0.05
    """weight of the divergence from the reference"""
    length_penalty: float = 0.0
    """reward taken for each token of the answer beyond the longest correction of the round"""


@dataclass(frozen=True, slots=True, kw_only=True)
class BootstrapArm:
    """One way of learning from corrections; a study may compare several: tables [[arms]]."""

    name: str
    """what it is called in the report and in its folder"""
    way: Way = "sft"
    """sft, dpo, kto, or a reward model and then rloo or grpo"""
    reference: Literal["previous", "first"] = "previous"
    """whom dpo, kto, rloo and grpo hold the upstream to: the last accepted round's, or the first"""
    accept: Literal["guarded", "always"] = "guarded"
    """always accepts whatever comes out, and only notes what the guards would have said"""
    sft: SFTArm = SFTArm()
    dpo: DPOArm = DPOArm()
    kto: KTOArm = KTOArm()
    reward: RewardStage = RewardStage()
    rl: RLArm = RLArm()


@dataclass(frozen=True, slots=True, kw_only=True)
class PairGate:
    """Which corrections are learnt from."""

    qualities: tuple[JudgedQuality, ...] = ("helpful", "harmless", "honest")
    """a correction passes that the judge finds worse by none of them, and better by one"""
    min_edit: float = 0.02
    """share of the answer's tokens that a correction changes at least"""
    unchanged: Literal["learn", "leave"] = "learn"
    """what becomes, in sft, of answers that the Aligner left as they were: the paper learns from them too"""


@dataclass(frozen=True, slots=True, kw_only=True)
class BootstrapMix:
    """What is learnt besides the corrections of the round, so that less is forgotten."""

    earlier: float = 0.2
    """pairs of earlier rounds, as a share of this round's"""
    original: Path | None = None
    """question and answer rows of what the upstream was made with: JSONL or Parquet"""
    original_share: float = 0.0
    """of those, as a share of this round's rows; in sft, or as the plain loss; it needs original"""


@dataclass(frozen=True, slots=True, kw_only=True)
class BootstrapGuards:
    """When a round is rolled back. Each figure is measured on held-out prompts; 0 switches its guard off."""

    chosen: float = 0.1
    """largest fall of the mean log-likelihood of a token of held-out corrections, against the round's start"""
    shortest: float = 0.67
    """least length of an answer against the corrections of round 0, in tokens, by the ratio of means"""
    longest: float = 1.5
    """greatest length, likewise"""
    kl: float = 1.0
    """most divergence from the first upstream, in nats a token of its own answers"""
    refusals: float = 0.02
    """most that the share of needless refusals may rise over round 0: where the correction there does not refuse"""
    worse: bool = True
    """whether a round is rolled back that the judge finds certainly worse by any of the gate's qualities"""
    gain: bool = True
    """whether a round is rolled back whose net rate against the last accepted one may be zero, by its interval"""
    patience: int = 1
    """rounds rolled back in a row after which an arm ends; 0: it never does"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """How the upstream answers, in training and in measuring."""

    temperature: float = 1.0
    """0 is greedy"""
    top_p: float = 1.0
    """keep the smallest set of tokens whose probabilities add up to this"""
    top_k: int = 0
    """keep this many most likely tokens; 0 keeps all"""
    max_tokens: int = 256
    """at most so many new tokens"""


@dataclass(frozen=True, slots=True, kw_only=True)
class BootstrapConfig:
    """aligner bootstrap: corrections teach the upstream, round after round."""

    stage: Literal["run", "status"] = "run"
    """run all rounds that are not done, or say how far they are"""
    out: Path = Path("runs/bootstrap")
    """folder of all rounds; the same command goes on where it was interrupted"""
    upstream: str = ""
    """who is taught: a local directory, hub id, or "demo"; {seed} in it stands for the seed"""
    aligners: tuple[str, ...] = ("demo",)
    """who corrects: one Aligner, or several in a row"""
    passes: int = 1
    """how often they are applied to their own output"""
    aligner_gate: GateChoice = "off"
    """leave alone what probably needs no change: auto as the checkpoints have it, or from that probability on"""
    prompts: str = ""
    """what is asked: questions as JSONL or Parquet, or world:COUNT"""
    prompts_per_round: int = 0
    """of them each round draws so many that no earlier one had, as long as there are; 0 asks all in every round"""
    held_out: str = ""
    """on what each round is measured, and never learnt from: 20 questions or more, as JSONL, Parquet or world:COUNT"""
    max_overlap: int = 12
    """a prompt that shares so many words in a row with a held-out one is left out; 0: only one that is the same"""
    judge: str = ""
    """who decides which corrections are learnt from and which rounds are accepted: any judge of aligner evaluate"""
    audit_judge: str = ""
    """another judge who looks at a sample of the gate's decisions, and agrees or not"""
    audit: int = 100
    """decisions in that sample, each round; it is written down for people, too"""
    oracle: Literal["", "world"] = ""
    """what marks answers as good, where there is such a thing; it is reported, and decides nothing"""
    rounds: int = 3
    """how many of each arm and seed; may be raised later"""
    seeds: tuple[int, ...] = (0,)
    """each arm goes through its rounds with each of them; more may be added later"""
    arms: tuple[BootstrapArm, ...] = (BootstrapArm(name="sft"),)
    """ways of learning that are compared, one named "sft" unless others are given: tables [[arms]]"""
    sampling: Sampling = Sampling()
    gate: PairGate = PairGate()
    mix: BootstrapMix = BootstrapMix()
    guards: BootstrapGuards = BootstrapGuards()
    lora: Lora = Lora()
    max_length: int = 2048
    """tokens of question and answer together; longer rows are left out and counted"""
    batch: int = 64
    """answers decoded or corrected together; may be changed later"""
    save_every: int = 100
    """steps between two checkpoints"""
    device: Device = "auto"
    """where models run"""
    on_bad_row: OnBadRow = "stop"
    """stop at a row of the prompts that cannot be used, or skip it into a file beside the output"""
