"""The verdict on a draft, from one pass: the longest beginning that the model itself would write, and one token."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import torch

from aligner.decoding.packed import Logits
from aligner.decoding.sampling import Greedy, Sampler

Adjust = Callable[[torch.Tensor, int], torch.Tensor]
"""changes the logits of some tokens, [tokens, vocabulary], the first of which is at that position of the output"""

_CHUNK = 32
_GROWTH = 8
"""what was copied so far will mostly be copied on, and a chunk costs as much as 80 of its tokens before the first"""
_MOST = 128
_MOST_LOGITS = 2**21
"""tokens whose logits are held at a time, or as many as come to so many logits: 8 MB in float32"""


@dataclass(slots=True)
class Check:
    """One row of a pass: its draft tokens, and what the model says to them."""

    draft: Sequence[int]
    first: int
    """number in the pass of the token whose logits judge the first draft token"""
    position: int
    """of the first draft token in the output"""
    sampler: Sampler = field(default_factory=Greedy)
    adjust: Adjust | None = None
    scored: bool = False
    """whether the probability of each judged draft token is wanted"""
    to_the_end: bool = False
    """whether all of the draft is judged, behind a mismatch too"""
    accepted: int = 0
    tokens: list[int] = field(default_factory=list[int])
    """the accepted draft tokens and one more"""
    probabilities: list[float] = field(default_factory=list[float])
    """of the draft tokens that were judged, if wanted"""
    judged: int = 0
    settled: bool = False

    @property
    def wanted(self) -> range:
        """The tokens of the pass whose logits may be asked for."""
        return range(self.first, self.first + len(self.draft) + 1)

    @property
    def done(self) -> bool:
        """Whether no more logits are needed."""
        return self.settled and (not self.to_the_end or self.judged > len(self.draft))


@torch.inference_mode()
def verify(checks: Sequence[Check], logits: Logits, device: torch.device) -> None:
    """Fill in what the model says to each draft; the head reads chunks, and none behind a row's first mismatch."""
    chunk = _CHUNK
    while waiting := [check for check in checks if not check.done]:
        most = max(_MOST, _MOST_LOGITS // _judge_chunks(waiting, chunk, logits, device))
        chunk = max(_CHUNK, min(_GROWTH * chunk, most // len(waiting)))


def _judge_chunks(checks: Sequence[Check], size: int, logits: Logits, device: torch.device) -> int:
    """Judge the next tokens of every row, so many at the most; returns the size of the vocabulary."""
    spans = [check.wanted[check.judged : check.judged + size] for check in checks]
    rows = torch.tensor([row for span in spans for row in span], device=device)
    split: Sequence[torch.Tensor] = cast("Any", logits(rows)).split([len(span) for span in spans])
    parts = [_adjusted(check, part) for check, part in zip(checks, split, strict=True)]
    for check, part, chosen in zip(checks, parts, _choose(checks, parts), strict=True):
        _judge(check, part, chosen)
    return parts[0].shape[1]


def _adjusted(check: Check, logits: torch.Tensor) -> torch.Tensor:
    return logits if check.adjust is None else check.adjust(logits, check.position + check.judged)


def _choose(checks: Sequence[Check], parts: Sequence[torch.Tensor]) -> list[list[int]]:
    """The model's own token at each place, asked of the device in one go."""
    chosen = [
        check.sampler.choose(part, check.position + check.judged) for check, part in zip(checks, parts, strict=True)
    ]
    tokens: list[int] = cast("Any", torch.cat(chosen)).tolist()
    flat = iter(tokens)
    return [[next(flat) for _ in part] for part in chosen]


def _judge(check: Check, logits: torch.Tensor, chosen: Sequence[int]) -> None:
    """Compare one chunk: `chosen` are the model's tokens for the places from `judged` on."""
    asked = check.draft[check.judged : check.judged + len(chosen)]
    if check.scored and asked:
        check.probabilities += _probabilities(logits[: len(asked)], asked)
    check.judged += len(chosen)
    if check.settled:
        return
    agreed = next((i for i, pair in enumerate(zip(asked, chosen, strict=False)) if pair[0] != pair[1]), len(asked))
    check.accepted += agreed
    check.tokens += chosen[: agreed + 1]
    check.settled = agreed < len(chosen)


def _probabilities(logits: torch.Tensor, tokens: Sequence[int]) -> list[float]:
    """The probability of each token under its logits, [tokens, vocabulary]."""
    logits = logits if logits.dtype == torch.float64 else logits.float()
    index = torch.tensor(tokens, device=logits.device).unsqueeze(1)
    # A sum over all rows at once would hold a second copy of the logits.
    sums = torch.cat([part.logsumexp(dim=1) for part in cast("Any", logits).split(_CHUNK)])
    found: list[float] = cast("Any", logits.gather(1, index).squeeze(1) - sums).exp().tolist()
    return found
