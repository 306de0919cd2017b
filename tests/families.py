"""Tiny random models of many families in float64, where rounding does not decide between two tokens."""

from functools import cache
from typing import Any

import torch
from transformers import (
    AutoModelForCausalLM,
    BloomConfig,
    CohereConfig,
    Gemma2Config,
    Gemma3TextConfig,
    GemmaConfig,
    GPT2Config,
    GPTNeoXConfig,
    LlamaConfig,
    MambaConfig,
    MistralConfig,
    OPTConfig,
    Qwen3Config,
)

VOCABULARY = 40
CONTEXT = 96
WINDOW = 5
"""tokens that a layer with a sliding window reads, fewer than any row of interest has"""

_ENDS: dict[str, Any] = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
_SHAPE: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": CONTEXT,
    # Wide weights, so that what is read far away matters, and decoding does not repeat one token.
    "initializer_range": 0.25,
    "tie_word_embeddings": False,
    **_ENDS,
}
_SLIDING: dict[str, Any] = {"sliding_window": WINDOW, "layer_types": ["sliding_attention", "full_attention"]}
_SMALL: dict[str, Any] = {"vocab_size": VOCABULARY, "initializer_range": 0.25, **_ENDS}
_GPT2: dict[str, Any] = {**_SMALL, "n_positions": CONTEXT, "n_embd": 32, "n_layer": 2, "n_head": 4}
_NEOX: dict[str, Any] = {key: value for key, value in _SHAPE.items() if key not in ("num_key_value_heads", "head_dim")}
_OPT: dict[str, Any] = {
    **_NEOX,
    "ffn_dim": 48,
    "word_embed_proj_dim": 32,
    "init_std": 0.25,
    "dropout": 0.0,
    "layerdrop": 0.0,
}

# Made when they are asked for: transformers changes a configuration that it makes a model from.
DRIVEN: dict[str, tuple[Any, dict[str, Any]]] = {
    "llama": (LlamaConfig, _SHAPE),
    "qwen3": (Qwen3Config, _SHAPE),
    "gemma": (GemmaConfig, _SHAPE),
    "gemma2": (Gemma2Config, {**_SHAPE, **_SLIDING, "attn_logit_softcapping": 2.0, "final_logit_softcapping": 3.0}),
    "gemma3": (Gemma3TextConfig, {**_SHAPE, **_SLIDING}),
    "mistral": (MistralConfig, {**_SHAPE, "sliding_window": WINDOW}),
    "gpt2": (GPT2Config, _GPT2),
    "gpt_neox": (GPTNeoXConfig, _NEOX),
    "opt": (OPTConfig, _OPT),
    "cohere": (CohereConfig, {key: value for key, value in _SHAPE.items() if key != "head_dim"}),
}
UNDRIVEN: dict[str, tuple[Any, dict[str, Any]]] = {
    "bloom": (BloomConfig, {**_SMALL, "hidden_size": 32, "n_layer": 2, "n_head": 4}),
    "mamba": (MambaConfig, {**_SMALL, "hidden_size": 32, "num_hidden_layers": 2, "state_size": 4}),
    "dynamic": (LlamaConfig, {**_SHAPE, "rope_parameters": {"rope_type": "dynamic", "rope_theta": 1e4, "factor": 2.0}}),
}


@cache
def random_model(family: str) -> Any:
    """The model of that family, the same one at every call, ready to decode."""
    kind, shape = {**DRIVEN, **UNDRIVEN}[family]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return AutoModelForCausalLM.from_config(kind(**shape)).double().eval()
