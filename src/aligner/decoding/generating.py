"""Plain decoding with transformers' own `generate`, for models whose passes cannot be driven row by row."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby, islice
from typing import Any, cast

import torch
from transformers import (
    LogitsProcessor,
    LogitsProcessorList,
    StoppingCriteria,
    StoppingCriteriaList,
)

from aligner.decoding.decoder import Decoded, Request, Step

_NOTHING_ELSE: dict[str, Any] = {
    "do_sample": False,
    "num_beams": 1,
    "pad_token_id": 0,
    "eos_token_id": None,
    "forced_bos_token_id": None,
    "forced_eos_token_id": None,
    "suppress_tokens": None,
    "begin_suppress_tokens": None,
    "bad_words_ids": None,
    "repetition_penalty": 1.0,
    "no_repeat_ngram_size": 0,
    "min_length": 0,
    "min_new_tokens": None,
}
"""what a model's own generation_config might add; the request alone says what is chosen, and when a text ends"""


@dataclass(frozen=True, slots=True)
class GeneratingDecoder:
    """A model that decodes a token at a time, whatever the drafts; the same tokens as with them."""

    model: Any = field(repr=False)
    rows: int = 64
    """decoded at a time"""

    def decode(self, requests: Iterable[Request]) -> Iterator[Step]:
        """One step for each request, in order, with all of its tokens.

        Only neighbours with prompts of one length are decoded together: not every model reads padding as nothing, and
        a padded row would leave the context early.
        """
        for _, alike in groupby(enumerate(requests), key=lambda numbered: len(numbered[1].prompt)):
            while batch := list(islice(alike, self.rows)):
                decoded = self._together([request for _, request in batch])
                for (number, _), tokens in zip(batch, decoded, strict=True):
                    yield Step(number, tokens, Decoded(tokens, len(tokens), 0, 0, None, None))

    @torch.inference_mode()
    def _together(self, requests: Sequence[Request]) -> list[list[int]]:
        ids = torch.tensor([list(request.prompt) for request in requests], device=self.model.device)
        watch = _Watch(requests)
        self.model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=max(request.limit for request in requests),
            logits_processor=LogitsProcessorList([_Choice(requests, ids.shape[1])]),
            stopping_criteria=StoppingCriteriaList([watch]),
            **_NOTHING_ELSE,
        )
        return watch.rows


class _Choice(LogitsProcessor):
    """Leaves one token a row, the one that the request's own sampler chooses."""

    def __init__(self, requests: Sequence[Request], width: int) -> None:
        self._requests = requests
        self._width = width

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> Any:
        """Scores, [rows, vocabulary], of which all but the chosen ones are minus infinity."""
        position = input_ids.shape[1] - self._width
        only = torch.full_like(scores, float("-inf"))
        for i, request in enumerate(self._requests):
            logits = scores[i : i + 1]
            logits = logits if request.adjust is None else request.adjust(logits, position)
            only[i, request.sampler.choose(logits, position)] = 0
        return only


class _Watch(StoppingCriteria):
    """Collects the tokens of each row until its end, its limit or its stop."""

    def __init__(self, requests: Sequence[Request]) -> None:
        self._requests = requests
        self._ended = [False] * len(requests)
        self.rows: list[list[int]] = [[] for _ in requests]

    def __call__(self, input_ids: torch.LongTensor, scores: Any, **_: Any) -> torch.BoolTensor:
        """Which rows are through, [rows]."""
        newest: list[int] = cast("Any", input_ids)[:, -1].tolist()
        for i, (request, token) in enumerate(zip(self._requests, newest, strict=True)):
            if not self._ended[i]:
                self.rows[i].append(token)
                self._ended[i] = (
                    token in request.ends
                    or len(self.rows[i]) == request.limit
                    or (request.stops is not None and request.stops(token))
                )
        return cast("torch.BoolTensor", torch.tensor(self._ended, device=input_ids.device))
