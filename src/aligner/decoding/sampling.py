"""Which token follows: the likeliest, or one drawn with noise that is keyed by seed and position.

The noise of a position does not depend on what was decoded before it, or beside it. So drafted and plain decoding
draw the same tokens for the same seed, whatever the batch: Gumbel-max, argmax of log p + noise, draws from p.
"""

import hashlib
import secrets
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from transformers import LogitsProcessorList, TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

from aligner.records import SamplingParams


class Sampler(Protocol):
    """Chooses tokens from logits."""

    def choose(self, logits: torch.Tensor, position: int) -> torch.Tensor:
        """One token for each of the logits, [tokens, vocabulary]; `position` is that of the first, from 0."""
        ...


class Greedy:
    """The likeliest token."""

    def choose(self, logits: torch.Tensor, position: int) -> torch.Tensor:
        """One token for each row, [tokens]."""
        return logits.argmax(dim=-1)


@dataclass(frozen=True, slots=True)
class Seeded:
    """A token drawn from what temperature, top-k and top-p leave."""

    seed: int
    warpers: Any

    def choose(self, logits: torch.Tensor, position: int) -> torch.Tensor:
        """One token for each row, [tokens]; the same logits at the same position give the same token."""
        scores = self.warpers(torch.empty(0), logits.double() if logits.dtype == torch.float64 else logits.float())
        drawn = [gumbel(self.seed, position + i, logits.shape[1]) for i in range(len(logits))]
        return (scores + torch.stack(drawn).to(scores)).argmax(dim=-1)


def sampler_of(sampling: SamplingParams) -> Sampler:
    """Greedy at temperature 0; without a seed, one that nobody knows."""
    if sampling.temperature <= 0:
        return Greedy()
    warpers: Any = LogitsProcessorList([TemperatureLogitsWarper(sampling.temperature)])
    if sampling.top_k > 0:
        warpers.append(TopKLogitsWarper(sampling.top_k))
    if sampling.top_p < 1:
        warpers.append(TopPLogitsWarper(sampling.top_p))
    return Seeded(secrets.randbits(63) if sampling.seed is None else sampling.seed, warpers)


def gumbel(seed: int, position: int, vocabulary: int) -> torch.Tensor:
    """Standard Gumbel noise, [vocabulary], from seed and position alone; drawn on the CPU, so on every device alike."""
    key = hashlib.blake2b(f"{seed}/{position}".encode(), digest_size=8).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(key) >> 1)
    return -torch.empty(vocabulary, dtype=torch.float64).exponential_(generator=generator).log()
