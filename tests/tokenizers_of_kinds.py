"""Small tokenizers of every kind in use, each with the control tokens of the templates and more to imitate."""

from collections.abc import Callable, Mapping
from typing import Any

from tiny import SENTENCES
from tokenizers import (
    AddedToken,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)
from transformers import PreTrainedTokenizerFast

from aligner.templates import TEMPLATES

CONTROLS = TEMPLATES["sealed"].controls
SPECIAL = ("<s>", "</s>", "<pad>", "<unk>", "<|im_start|>", "<|im_end|>", *CONTROLS)
THINK = ("<think>", "</think>", "<tool>x</tool>")
"""added tokens that are not special, as reasoning models have them"""
CHAT = (
    "{{ bos_token }}{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content | trim }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def byte_level() -> Any:
    """As GPT-2's, Llama 3's and Qwen's: no text is lost."""
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=400, special_tokens=[*SPECIAL], initial_alphabet=alphabet)
    return _trained(core, trainer)


def sentencepiece_bpe() -> Any:
    """As Llama 2's: a space before the text, unknown letters as bytes, and BOS before everything."""
    core = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True))
    core.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    core.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    trainer = trainers.BpeTrainer(vocab_size=500, special_tokens=[*SPECIAL, *(f"<0x{i:02X}>" for i in range(256))])
    tokenizer = _trained(core, trainer)
    return _with_bos(tokenizer)


def unigram() -> Any:
    """As Gemma's and T5's ancestors': normalised by NFKC, and unknown letters are all one token."""
    core = Tokenizer(models.Unigram())
    core.normalizer = normalizers.NFKC()
    core.pre_tokenizer = pre_tokenizers.Metaspace()
    core.decoder = decoders.Metaspace()
    trainer = trainers.UnigramTrainer(vocab_size=150, special_tokens=[*SPECIAL], unk_token="<unk>")
    return _with_bos(_trained(core, trainer))


def lower_case_wordpiece() -> Any:
    """As BERT's: everything in lower case and without accents before words are looked up."""
    core = Tokenizer(models.WordPiece(unk_token="<unk>"))
    core.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.BertNormalizer(lowercase=True)])
    core.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    core.decoder = decoders.WordPiece()
    return _trained(core, trainers.WordPieceTrainer(vocab_size=300, special_tokens=[*SPECIAL]))


KINDS: Mapping[str, Callable[[], Any]] = {
    "byte-level": byte_level,
    "sentencepiece-bpe": sentencepiece_bpe,
    "unigram": unigram,
    "lower-case-wordpiece": lower_case_wordpiece,
}


def _trained(core: Tokenizer, trainer: Any) -> Any:
    trainer.show_progress = False
    core.train_from_iterator(SENTENCES * 3, trainer)
    # Looked for in the text as it was normalised, which is the harder case.
    core.add_tokens([AddedToken(name, normalized=True, special=False) for name in THINK])
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        bos_token="<s>",
        eos_token="</s>",
        pad_token="<pad>",
        unk_token="<unk>",
        additional_special_tokens=list(SPECIAL[4:]),
        chat_template=CHAT,
        clean_up_tokenization_spaces=False,
    )


def _with_bos(tokenizer: Any) -> Any:
    bos = ("<s>", tokenizer.bos_token_id)
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[bos])
    return tokenizer
