"""A reward model in this process: how good it finds an answer, on a scale of its own."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer
from transformers.utils import logging

from aligner.config import Device
from aligner.errors import CheckpointError, ModelError
from aligner.models.coder import Coder
from aligner.models.hf import local_folder, torch_device
from aligner.prompts import text_of
from aligner.records import Question, as_messages
from aligner.training.card import model_hash


@dataclass(frozen=True, slots=True)
class RewardModel:
    """A sequence classifier with one output, as TRL's RewardTrainer makes it."""

    model: Any = field(repr=False)
    tokenizer: Any = field(repr=False)
    folder: Path
    """where it was read"""

    @property
    def fingerprint(self) -> str:
        """Eight letters that are others for another model; reads all of its files."""
        return model_hash(self.folder)[:8]

    def reward(self, question: Question, answer: str) -> float:
        """The reward of an answer; raises ModelError for one that does not fit the model's context."""
        ids = self._ids(question, answer)
        limit = getattr(self.model.config, "max_position_embeddings", None)
        if limit and len(ids) > limit:
            raise ModelError(f"question and answer have {len(ids):,} tokens, and the context holds {limit:,}")
        tensor = torch.tensor([ids], device=self.model.device)
        with torch.inference_mode():
            return float(self.model(input_ids=tensor, attention_mask=torch.ones_like(tensor)).logits[0, 0])

    def _ids(self, question: Question, answer: str) -> list[int]:
        """In its chat format where it has one, or else as a pair of texts; ours read what an upstream writes."""
        if getattr(self.model.config, "reads_what_is_written", False):
            return self._written(question, answer)
        if not self.tokenizer.chat_template:
            return list(self.tokenizer(text_of(question), answer, verbose=False)["input_ids"])
        turns = [{"role": turn.role, "content": turn.content} for turn in as_messages(question)]
        turns.append({"role": "assistant", "content": answer})
        return list(self.tokenizer.apply_chat_template(turns, return_dict=True)["input_ids"])

    def _written(self, question: Question, answer: str) -> list[int]:
        coder = Coder(self.tokenizer)
        if (prompt := coder.prompt(question)) is None:
            raise ModelError("the question cannot be told from the words of the model's chat format")
        return [*prompt, *coder.completion(answer)]


def load_reward_model(name: str, device: Device = "auto") -> RewardModel:
    """The reward model in a folder or of a hub id, on that device.

    Raises what `models.hf.local_folder` raises, and CheckpointError for what is no model with exactly one output.
    """
    options: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
    folder = local_folder(name)
    logging.disable_progress_bar()
    try:
        tokenizer = cast("Any", AutoTokenizer).from_pretrained(folder, **options)
        load_model = cast("Any", AutoModelForSequenceClassification).from_pretrained
        model, info = load_model(folder, output_loading_info=True, **options)
    # Whatever is wrong in a folder comes out of the libraries as errors of many classes, also their own.
    except Exception as error:
        line = " ".join(str(error).split())[:200]
        raise CheckpointError(f"{name}: not a reward model, or a damaged one: {line}") from error
    if missing := sorted(info["missing_keys"]):
        raise CheckpointError(f"{name}: not a reward model: it has no {missing[0]}, which would be made up at random")
    if model.config.num_labels != 1:
        raise CheckpointError(f"{name}: has {model.config.num_labels} outputs, and a reward model has one")
    return RewardModel(model.eval().to(torch_device(device)), tokenizer, folder)
