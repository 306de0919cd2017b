"""Tiny random models of real families, saved as plain Hugging Face directories."""

from pathlib import Path
from typing import Any, Literal

import torch
from transformers import AutoModelForCausalLM, GemmaConfig, LlamaConfig, Qwen3Config

from aligner.correcting.lm_writer import LMWriter, writer_of
from aligner.models.hf import load_causal_lm
from aligner.records import Completion, Exchange
from aligner.templates import TEMPLATES, Template
from aligner.training.card import Card, weights_hash
from aligner.training.new_model import new_tokenizer

Family = Literal["llama", "qwen3", "gemma"]
CONFIGS = {"llama": LlamaConfig, "qwen3": Qwen3Config, "gemma": GemmaConfig}
SENTENCES = (
    "What is the capital of France? The capital of France is Paris.",
    "How many legs has a spider? A spider has 8 legs.",
    "User: Who are you? Assistant: I am a tiny model.",
)
EXCHANGES = [
    Exchange(question, "The answer is " + "very " * times + end)
    for times, (question, end) in enumerate([("What?", "no."), ("Why is it é?", "🙂"), ("Who are you?", "me!")] * 3)
]


def tiny_model(folder: Path, family: Family = "llama", *, context: int = 256, seed: int = 0) -> Path:
    """Save a random two-layer model of that family with a byte-level tokenizer; returns the folder."""
    tokenizer = new_tokenizer(SENTENCES, TEMPLATES["sealed"].controls, vocabulary=300, context=context)
    shape: dict[str, Any] = {
        "vocab_size": len(tokenizer),
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 8,
        "max_position_embeddings": context,
        "pad_token_id": tokenizer.pad_token_id,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
    }
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = AutoModelForCausalLM.from_config(CONFIGS[family](**shape))
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def tiny_aligner(folder: Path, template: Template = TEMPLATES["sealed"], *, context: int = 256, seed: int = 0) -> Path:
    """Save a random Llama as an Aligner that reads that template and ends its texts early; returns the folder."""
    tiny_model(folder, context=context, seed=seed)
    model = AutoModelForCausalLM.from_pretrained(folder)
    with torch.no_grad():
        # A longer vector for the end of the text is now and then the nearest to a random state.
        model.lm_head.weight[model.config.eos_token_id] *= 3
    model.save_pretrained(folder)
    weights = weights_hash(folder)
    Card(template=template, base="new", weights=weights, data={}, training={}, measured={}, packages={}).save(folder)
    return folder


def exact_writer(folder: Path) -> LMWriter:
    """The writer of a checkpoint in float64, where rounding cannot decide between two tokens."""
    lm = load_causal_lm(folder, "cpu")
    return writer_of(lm._replace(model=lm.model.double()), Card.load(folder).template, fingerprint="exact")


def written(completion: Completion) -> tuple[object, ...]:
    """What does not depend on how many passes it took, and who shared them."""
    usage = completion.usage
    return completion.text, completion.finish_reason, usage.prompt_tokens, usage.completion_tokens
