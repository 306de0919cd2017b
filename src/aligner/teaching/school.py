"""What all stages of one training share, and the model that goes through them."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch

from aligner.config import TrainConfig
from aligner.correct import Aligner
from aligner.correcting.lm_writer import writer_of
from aligner.models.generating import context_of
from aligner.models.hf import CausalLM, load_causal_lm, local_folder
from aligner.models.quantised import load_quantised
from aligner.records import Triple
from aligner.templates import PromptEncoder, Template
from aligner.training.run import Run


class Taught(NamedTuple):
    """A model, and what it comes from."""

    lm: CausalLM
    key: str
    """hash of all that it comes from"""
    origins: Sequence[Mapping[str, Any]] = ()
    """the stages that it went through"""
    folder: Path | None = None
    """where it lies as it was saved; nowhere before the first stage of a new one"""


class School(NamedTuple):
    """What all stages of one training share."""

    run: Run
    template: Template
    training: Sequence[Triple]
    held_out: Sequence[Triple]

    def aligner(self, lm: CausalLM) -> Aligner:
        """The model as it is, as an Aligner without a gate."""
        return Aligner(writer_of(lm, self.template, fingerprint="in training"))

    def encoder(self, lm: CausalLM) -> PromptEncoder:
        """What builds the prompts that the model reads."""
        return PromptEncoder(self.template, lm.tokenizer)

    def longest(self, lm: CausalLM) -> int:
        """Tokens of prompt and correction together, above which a row is left out."""
        wanted = self.run.config.max_length
        return min(wanted, context_of(lm.model, lm.tokenizer) or wanted)


def trainable(name: Path | str, config: TrainConfig) -> CausalLM:
    """A model in float32, or frozen in four bits: on a GPU, training computes in bfloat16 but keeps exact weights.

    They are read as float32, too: by way of bfloat16, a stage would lose some of what the one before it has learnt.
    """
    if config.lora.bits == 4:
        return load_quantised(local_folder(str(name)))
    return load_causal_lm(name, config.device, dtype=torch.float32)


def save(lm: CausalLM, folder: Path) -> None:
    """Write the model and its tokenizer into a folder."""
    lm.model.save_pretrained(folder)
    lm.tokenizer.save_pretrained(folder)
