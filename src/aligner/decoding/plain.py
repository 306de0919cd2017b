"""Plain decoding: one token after the other, for a batch of prompts, with any Hugging Face causal language model."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from transformers import LogitsProcessorList, TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

from aligner.records import SamplingParams


def decode(
    model: Any,
    prompts: Sequence[Sequence[int]],
    *,
    limits: Sequence[int],
    ends: frozenset[int],
    sampling: SamplingParams,
) -> list[list[int]]:
    """The new ids for each prompt, its end token included; a row without one was cut off at its limit."""
    rows: list[list[int]] = [[] for _ in prompts]
    unfinished = {i for i, limit in enumerate(limits) if limit > 0}
    steps = token_steps(model, prompts, sampling=sampling)
    while unfinished:
        for i, token in enumerate(next(steps)):
            if i in unfinished:
                rows[i].append(token)
                if token in ends or len(rows[i]) == limits[i]:
                    unfinished.remove(i)
    return rows


@torch.inference_mode()
def token_steps(model: Any, prompts: Sequence[Sequence[int]], *, sampling: SamplingParams) -> Iterator[list[int]]:
    """One more token for every prompt at each step, without end."""
    ids, mask = _left_padded(prompts, model.device)
    context = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    choose = _chooser(sampling, model.device)
    cache: Any = None
    while True:
        # A row that is through goes on as long as the others, and may not leave a table of learnt positions.
        positions = (mask.cumsum(dim=1) - 1).clamp(min=0, max=context and context - 1)[:, -ids.shape[1] :]
        outputs = model(
            input_ids=ids, attention_mask=mask, position_ids=positions, past_key_values=cache, use_cache=True
        )
        ids = choose(outputs.logits[:, -1]).unsqueeze(1)
        mask = torch.cat([mask, torch.ones_like(ids)], dim=1)
        cache = outputs.past_key_values
        yield ids.squeeze(1).tolist()


def _left_padded(prompts: Sequence[Sequence[int]], device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Ids and mask, [prompts, longest]; what fills up the left is masked, so any id will do."""
    width = max(map(len, prompts))
    ids = [[0] * (width - len(prompt)) + list(prompt) for prompt in prompts]
    mask = [[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in prompts]
    return torch.tensor(ids, device=device), torch.tensor(mask, device=device)


def _chooser(sampling: SamplingParams, device: torch.device) -> Callable[[torch.Tensor], torch.Tensor]:
    """A function from logits, [rows, vocabulary], to one token a row."""
    if sampling.temperature <= 0:
        return _likeliest
    warpers: Any = LogitsProcessorList([TemperatureLogitsWarper(sampling.temperature)])
    if sampling.top_k > 0:
        warpers.append(TopKLogitsWarper(sampling.top_k))
    if sampling.top_p < 1:
        warpers.append(TopPLogitsWarper(sampling.top_p))
    noise = torch.Generator(device)
    noise.manual_seed(sampling.seed) if sampling.seed is not None else noise.seed()

    def sample(logits: torch.Tensor) -> torch.Tensor:
        scores = warpers(torch.empty(0), logits.float())
        return torch.multinomial(scores.softmax(dim=-1), 1, generator=noise).squeeze(1)

    return sample


def _likeliest(logits: torch.Tensor) -> torch.Tensor:
    return logits.argmax(dim=-1)
