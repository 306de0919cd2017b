"""A byte-level BPE tokenizer learnt from triples, with nothing heavier than the library that learns it."""

from collections.abc import Iterable, Sequence

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from aligner.records import Triple, as_messages

PAD, BOS, EOS = "<pad>", "<s>", "</s>"


def byte_level_bpe(texts: Iterable[str], controls: Sequence[str], *, vocabulary: int) -> Tokenizer:
    """A byte-level BPE tokenizer: any text survives it, and every digit is a token of its own."""
    core = Tokenizer(models.BPE())
    digits, byte_level = pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.pre_tokenizer = pre_tokenizers.Sequence([digits, byte_level])
    core.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        show_progress=False,
        special_tokens=[PAD, BOS, EOS, *controls],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )
    core.train_from_iterator(texts, trainer)
    return core


def texts_of(triples: Iterable[Triple]) -> Iterable[str]:
    """All that a tokenizer for these triples has to read."""
    for row in triples:
        yield from (message.content for message in as_messages(row.question))
        yield row.answer
        yield row.correction
