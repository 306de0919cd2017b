"""What each stage of a training reads, in the order of reading: ids with their weights, or pairs of them."""

from collections.abc import Callable, Sequence
from functools import partial
from math import ceil
from typing import Any, NamedTuple, Protocol

from aligner.config import CopyingStage, CorrectionStage, IdentityStage, OnPolicyStage, Optimisation, PreferenceStage
from aligner.data.identity import copied_corrections, identity_rows
from aligner.errors import MisuseError, visible
from aligner.records import Triple, as_messages
from aligner.templates import PromptEncoder
from aligner.training.encode import EncodedRow, Weigh, edit_weights, encode_rows, grouped_by_length, shuffled
from aligner.training.masking import hiding_ids, mask_source
from aligner.training.on_policy import Value, drawn, mixed, valued
from aligner.training.pairs import EncodedPair, encode_pairs, pairs_of
from aligner.training.random_copies import LONGEST, plain_vocabulary, random_copies

_TRIED = 2
"""corrections sampled for a pair whose rejected side is one"""


class Sample(Protocol):
    """Asks the model, as it is when the stage begins, for corrections."""

    def __call__(
        self, triples: Sequence[Triple], *, samples: int, temperature: float, seed: int
    ) -> Sequence[Sequence[str]]:
        """So many of each answer."""
        ...


class Bench(NamedTuple):
    """What there is to make a lesson with."""

    triples: Sequence[Triple]
    """all that may be learnt from"""
    encoder: PromptEncoder
    tokenizer: Any
    max_length: int
    seed: int
    sample: Sample
    value: Value
    """whether a sampled correction is worth learning"""
    refuses: Callable[[str], bool]
    say: Callable[[str], None]

    @property
    def eos_id(self) -> int:
        """The token that ends a correction."""
        return self.tokenizer.eos_token_id


def copying(how: CopyingStage, bench: Bench) -> list[EncodedRow]:
    """Random tokens to copy, which grow longer; their order is that of a curriculum, and stays."""
    rows = _random(bench, how.rows, seed=bench.seed)
    return (rows * ceil(how.epochs))[: round(len(rows) * how.epochs)]


def identity(how: IdentityStage, bench: Bench) -> list[EncodedRow]:
    """A share of the answers, to copy (paper, section 3.1)."""
    copies = identity_rows(bench.triples, share=how.share, seed=bench.seed)
    return _in_order(how, bench, _encoded(bench, copies))


def correction(how: CorrectionStage, bench: Bench) -> list[EncodedRow]:
    """All of the triples (paper, eq. 4), and among them corrections to copy and random tokens to copy, if asked for."""
    weigh = partial(edit_weights, edit=how.edit_weight, copy=how.copy_weight)
    copies = copied_corrections(bench.triples, share=how.identity_share, seed=bench.seed)
    rows = _encoded(bench, [*bench.triples, *copies], weigh)
    count = round(how.random_share * len(rows))
    ordered = _in_order(how, bench, [*rows, *_random(bench, count, seed=bench.seed + 1, shortest=LONGEST)])
    hidden = hiding_ids(bench.encoder, bench.tokenizer)
    return mask_source(ordered, hidden, share=how.mask_source, seed=bench.seed)


def preference(how: PreferenceStage, bench: Bench) -> list[EncodedPair]:
    """Pairs of what should and what must not be written."""
    sampled = partial(bench.sample, samples=_TRIED, temperature=1.0, seed=bench.seed)
    pairs = pairs_of(bench.triples, how, seed=bench.seed, refuses=bench.refuses, sampled=sampled)
    bench.say(f"preference: {pairs.told}")
    made = encode_pairs(bench.encoder, bench.eos_id, pairs.pairs, how, max_length=bench.max_length, seed=bench.seed)
    if made.left_out:
        bench.say(f"preference: {made.left_out:,} pairs of more than {bench.max_length:,} tokens, or alike, left out")
    if not made.pairs:
        raise MisuseError("preference: no pairs to learn from; raise --max-length, or reject more kinds")
    return made.pairs


def on_policy(number: int, how: OnPolicyStage, bench: Bench) -> list[EncodedRow]:
    """Of the corrections that the model itself samples those that are valued, and triples among them."""
    seed = bench.seed + number  # every round samples for other triples
    rows = drawn(bench.triples, share=how.share, seed=seed)
    found = valued(rows, bench.sample(rows, samples=how.samples, temperature=how.temperature, seed=seed), bench.value)
    bench.say(
        f"on-policy {number}: {found.fixed:,} of {found.flawed:,} flawed answers with a correction worth learning, "
        f"{found.copied:,} of {found.good:,} good ones copied"
    )
    if not found.triples:
        bench.say(f"on-policy {number}: no sample is worth learning, and nothing is learnt")
        return []
    return _in_order(how, bench, _encoded(bench, mixed(found.triples, bench.triples, mix=how.mix, seed=seed)))


def _in_order(how: Optimisation, bench: Bench, rows: Sequence[EncodedRow]) -> list[EncodedRow]:
    order = shuffled(rows, epochs=how.epochs, seed=bench.seed)
    return grouped_by_length(order, batch=how.rows_a_step, seed=bench.seed)


def _random(bench: Bench, count: int, *, seed: int, shortest: int = 2) -> list[EncodedRow]:
    vocabulary = plain_vocabulary(bench.encoder, len(bench.tokenizer))
    return random_copies(bench.encoder, bench.eos_id, vocabulary, count=count, seed=seed, shortest=shortest)


def _encoded(bench: Bench, triples: Sequence[Triple], weigh: Weigh | None = None) -> list[EncodedRow]:
    """The triples as ids; those that are too long are counted and named."""
    encoded = encode_rows(bench.encoder, bench.eos_id, triples, max_length=bench.max_length, weigh=weigh)
    if encoded.too_long:
        asked = [as_messages(triples[i].question)[-1].content for i in encoded.too_long[:3]]
        named = visible(", ".join(f'"{question:.40}"' for question in asked))
        bench.say(f"{len(encoded.too_long):,} rows of more than {bench.max_length:,} tokens left out: {named}, …")
    if not encoded.rows:
        raise MisuseError("no tokens to learn from; raise --max-length or give more triples")
    return encoded.rows
