"""A model made from nothing: a byte-level BPE tokenizer learnt from the triples, and a small Llama."""

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from aligner.config import NewModel
from aligner.records import Triple
from aligner.templates import Template
from aligner.training.byte_level import BOS, EOS, PAD, byte_level_bpe, texts_of


def new_model(
    config: NewModel, template: Template, triples: Sequence[Triple], *, seed: int
) -> tuple[LlamaForCausalLM, PreTrainedTokenizerFast]:
    """A randomly initialised model with its tokenizer; the same arguments give the same weights."""
    tokenizer = new_tokenizer(
        texts_of(triples), template.controls, vocabulary=config.vocabulary, context=config.context
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return LlamaForCausalLM(_llama(config, tokenizer)), tokenizer


def new_tokenizer(
    texts: Iterable[str], controls: Sequence[str], *, vocabulary: int, context: int
) -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer: any text survives it, and every digit is a token of its own."""
    core = byte_level_bpe(texts, controls, vocabulary=vocabulary)
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        pad_token=PAD,
        bos_token=BOS,
        eos_token=EOS,
        additional_special_tokens=list(controls),
        model_max_length=context,
        clean_up_tokenization_spaces=False,
    )


def _llama(config: NewModel, tokenizer: Any) -> LlamaConfig:
    return LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=config.width,
        intermediate_size=config.inner,
        num_hidden_layers=config.layers,
        num_attention_heads=config.heads,
        num_key_value_heads=config.heads,
        max_position_embeddings=config.context,
        tie_word_embeddings=True,
        # Much below this, as is usual for wide models, attention of so small a model stays flat for a long time.
        initializer_range=config.width**-0.5,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
