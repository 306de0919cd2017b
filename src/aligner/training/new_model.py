"""A model made from nothing: a byte-level BPE tokenizer learnt from the triples, and a small Llama."""

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from aligner.config import NewModel
from aligner.records import Triple, as_messages
from aligner.templates import Template

_PAD, _BOS, _EOS = "<pad>", "<s>", "</s>"


def new_model(
    config: NewModel, template: Template, triples: Sequence[Triple], *, seed: int
) -> tuple[LlamaForCausalLM, PreTrainedTokenizerFast]:
    """A randomly initialised model with its tokenizer; the same arguments give the same weights."""
    tokenizer = new_tokenizer(_texts(triples), template.controls, vocabulary=config.vocabulary, context=config.context)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return LlamaForCausalLM(_llama(config, tokenizer)), tokenizer


def new_tokenizer(
    texts: Iterable[str], controls: Sequence[str], *, vocabulary: int, context: int
) -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer: any text survives it, and every digit is a token of its own."""
    core = Tokenizer(models.BPE())
    digits, byte_level = pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.pre_tokenizer = pre_tokenizers.Sequence([digits, byte_level])
    core.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        show_progress=False,
        special_tokens=[_PAD, _BOS, _EOS, *controls],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )
    core.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        pad_token=_PAD,
        bos_token=_BOS,
        eos_token=_EOS,
        additional_special_tokens=list(controls),
        model_max_length=context,
        clean_up_tokenization_spaces=False,
    )


def _texts(triples: Sequence[Triple]) -> Iterable[str]:
    for row in triples:
        yield from (message.content for message in as_messages(row.question))
        yield row.answer
        yield row.correction


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
