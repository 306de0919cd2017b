"""Pairs of what should and what must not be written: the correction, or the copy of a good answer, and what is worse.

The chosen side is always the correction of the row, which for a good answer is the answer.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import NamedTuple

from aligner.config import PreferenceStage, Rejected
from aligner.records import Triple
from aligner.templates import PromptEncoder
from aligner.training.encode import grouped_by_length, shuffled
from aligner.training.needless import Material, material_of, needless_edits
from aligner.training.on_policy import drawn

Sampled = Callable[[Sequence[Triple]], Sequence[Sequence[str]]]
"""What the model itself writes for each row, some texts of it."""

REFUSALS = (
    "I'm sorry, but I can't help with that.",
    "I cannot assist with this request.",
    "I am not able to answer that question.",
    "As an AI language model, I cannot provide that information.",
)


class Pair(NamedTuple):
    """Two corrections of one answer."""

    row: Triple
    rejected: str
    kind: Rejected

    @property
    def chosen(self) -> str:
        """What should be written."""
        return self.row.correction


@dataclass(frozen=True, slots=True)
class Pairs:
    """Pairs in the order of their rows, how many there are of each kind, and how many were left out."""

    pairs: list[Pair]
    made: Mapping[Rejected, int]
    left_out: Mapping[Rejected, int]
    """those that are none: both sides are equal, there is nothing to reject, or it is rejected already"""

    @property
    def told(self) -> str:
        """The counts in words."""
        made = ", ".join(f"{count:,} {kind}" for kind, count in self.made.items())
        left_out = ", ".join(f"{count:,} {kind}" for kind, count in self.left_out.items())
        return f"{len(self.pairs):,} pairs ({made})" + (f", left out {left_out}" if left_out else "")


@dataclass(frozen=True, slots=True)
class EncodedPair:
    """A prompt and two ends of it, each with the end of the text, as ids."""

    prompt: tuple[int, ...]
    chosen: tuple[int, ...]
    rejected: tuple[int, ...]

    @property
    def ids(self) -> tuple[int, ...]:
        """The longer row of the two."""
        return (*self.prompt, *max(self.chosen, self.rejected, key=len))


class LabelledRow(NamedTuple):
    """A prompt and an end of it, with the end of the text, as ids; and whether it should be written."""

    prompt: tuple[int, ...]
    completion: tuple[int, ...]
    desirable: bool

    @property
    def ids(self) -> tuple[int, ...]:
        """The whole row."""
        return (*self.prompt, *self.completion)


class EncodedPairs(NamedTuple):
    """The pairs in the order of reading, and how many were left out."""

    pairs: list[EncodedPair]
    left_out: int


def pairs_of(
    triples: Sequence[Triple],
    how: PreferenceStage,
    *,
    seed: int,
    refuses: Callable[[str], bool],
    sampled: Sampled,
) -> Pairs:
    """Pairs of a random share of the triples, of each kind that is asked for at most one for each row.

    Nothing is sampled unless samples are to be rejected. A refusal is never rejected where the correction refuses.
    """
    rows = drawn(triples, share=how.share, seed=seed)
    samples = sampled(rows) if "sampled" in how.rejected else [()] * len(rows)
    sources = _Sources(material_of(triples), refuses)
    pairs: list[Pair] = []
    for place, (row, texts) in enumerate(zip(rows, samples, strict=True)):
        pairs += _pairs_of_row(row, how.rejected, sources, texts, Random(f"{seed} {place}"))
    found = Counter[Rejected](pair.kind for pair in pairs)
    made: dict[Rejected, int] = {kind: found[kind] for kind in how.rejected}
    left_out: dict[Rejected, int] = {kind: len(rows) - count for kind, count in made.items() if count < len(rows)}
    return Pairs(pairs, made, left_out)


def encode_pairs(
    encoder: PromptEncoder, eos_id: int, pairs: Sequence[Pair], how: PreferenceStage, *, max_length: int, seed: int
) -> EncodedPairs:
    """The pairs as ids in the order of reading: anew for every epoch, and those of one step about equally long.

    A pair is left out and counted of which one side is longer than `max_length`, or both are the same ids.
    """
    encoded = [_encoded(encoder, eos_id, pair) for pair in pairs]
    fitting = [pair for pair in encoded if len(pair.ids) <= max_length and pair.chosen != pair.rejected]
    order = shuffled(fitting, epochs=how.epochs, seed=seed)
    ordered = grouped_by_length(order, batch=how.rows_a_step, seed=seed)
    return EncodedPairs(ordered, len(encoded) - len(fitting))


class _Sources(NamedTuple):
    """What rejected texts are made with."""

    material: Material
    refuses: Callable[[str], bool]


def _pairs_of_row(
    row: Triple, kinds: Sequence[Rejected], sources: _Sources, samples: Sequence[str], random: Random
) -> Iterator[Pair]:
    taken = {row.correction}
    for kind in kinds:
        candidates = _candidates(row, kind, sources, samples, random)
        if (rejected := next((text for text in candidates if text not in taken), None)) is not None:
            taken.add(rejected)
            yield Pair(row, rejected, kind)


def _candidates(
    row: Triple, kind: Rejected, sources: _Sources, samples: Sequence[str], random: Random
) -> Iterable[str]:
    """What must not be written for that row, of which the first one will do that is not rejected already."""
    match kind:
        case "original":
            return [row.answer]
        case "needless":
            return needless_edits(row.correction, sources.material, random)
        case "refusal":
            return [] if sources.refuses(row.correction) else [random.choice(REFUSALS)]
        case "sampled":
            return samples


def _encoded(encoder: PromptEncoder, eos_id: int, pair: Pair) -> EncodedPair:
    row = pair.row
    prompt = encoder.prompt_ids(row.question, row.answer, row.instruction)
    return EncodedPair(
        tuple(prompt), (*encoder.text_ids(pair.chosen), eos_id), (*encoder.text_ids(pair.rejected), eos_id)
    )
