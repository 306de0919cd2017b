"""One conversation in, text out, with transformers' `generate`."""

import threading
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, cast

import torch
from jinja2 import TemplateError
from transformers import GenerationConfig, StoppingCriteria, StoppingCriteriaList

from aligner.errors import ModelError
from aligner.models.pieces import StopCutter, TokenText
from aligner.records import Completion, Message, SamplingParams, Usage

_TURN_NAMES = {"system": "System", "user": "User", "assistant": "Assistant"}
CONTEXT_WHERE_NONE_IS_NAMED = 4096
"""tokens of prompt and correction together for an Aligner that names no context"""
_LONGEST_WITHOUT_CONTEXT = 4096
"""new tokens at the most for a model that names no context"""


def generate(
    model: Any,
    tokenizer: Any,
    messages: Sequence[Message],
    *,
    sampling: SamplingParams,
    show: Callable[[str], None],
    cancelled: threading.Event,
) -> Completion:
    """Answer a conversation; `show` gets the text piece by piece, and the pieces add up to it.

    Decoding ends early once `cancelled` is set. Raises ModelError when the conversation fills the model's context.
    """
    prompt = prompt_ids(tokenizer, messages)
    room = room_for(model, tokenizer, len(prompt), wanted=sampling.max_tokens)
    stop = stops_of(tokenizer, sampling)
    writer = _Writer(tokenizer, len(prompt), stop=stop, show=show, cancelled=cancelled)
    ends = end_ids(model, tokenizer)
    if room and not cancelled.is_set():
        ids = torch.tensor([prompt], device=model.device)
        with _seeded(sampling.seed, model.device), torch.inference_mode():
            model.generate(
                ids,
                attention_mask=torch.ones_like(ids),
                generation_config=_generation_config(sampling, room, ends=ends, pad=tokenizer.pad_token_id),
                stopping_criteria=StoppingCriteriaList([writer]),
            )
    return writer.completion(ends)


def prompt_ids(tokenizer: Any, messages: Sequence[Message]) -> list[int]:
    """A conversation in the model's own chat format, or as plain turns where it has none."""
    if not tokenizer.chat_template:
        turns = [f"{_TURN_NAMES[message.role]}: {message.content}\n" for message in messages]
        return list(tokenizer(f"{''.join(turns)}{_TURN_NAMES['assistant']}:", verbose=False)["input_ids"])
    turns = [{"role": message.role, "content": message.content} for message in messages]
    try:
        encoded = tokenizer.apply_chat_template(turns, add_generation_prompt=True, return_dict=True)
    except TemplateError as error:
        raise ModelError(f"its chat template refuses the conversation: {error}") from error
    return list(encoded["input_ids"])


def context_of(model: Any, tokenizer: Any) -> int | None:
    """How many tokens there may be, old and new; None where neither the model nor its tokenizer names a limit."""
    context = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    # A tokenizer that knows no limit has a huge one.
    return context or (tokenizer.model_max_length if tokenizer.model_max_length < 2**31 else None)


def room_for(model: Any, tokenizer: Any, prompt: int, *, wanted: int | None) -> int:
    """How many new tokens there may be behind a prompt; raises ModelError where it fills the context."""
    context = context_of(model, tokenizer)
    if context is None:
        return _LONGEST_WITHOUT_CONTEXT if wanted is None else wanted
    if prompt >= context:
        raise ModelError(f"the conversation has {prompt:,} tokens, and the context holds {context:,}")
    return context - prompt if wanted is None else min(wanted, context - prompt)


def stops_of(tokenizer: Any, sampling: SamplingParams) -> tuple[str, ...]:
    """The strings that end an answer; without a chat format, so does the user's next turn."""
    return sampling.stop if tokenizer.chat_template else (*sampling.stop, f"\n{_TURN_NAMES['user']}:")


def end_ids(model: Any, tokenizer: Any) -> list[int]:
    """The tokens that end an answer: the model's own, or else its tokenizer's."""
    ids = model.generation_config.eos_token_id
    ids = tokenizer.eos_token_id if ids is None else ids
    return [ids] if isinstance(ids, int) else list(ids or [])


def _generation_config(sampling: SamplingParams, room: int, *, ends: list[int], pad: int | None) -> GenerationConfig:
    greedy = sampling.temperature <= 0
    return GenerationConfig(
        max_new_tokens=room,
        do_sample=not greedy,
        num_beams=1,
        # With greedy decoding these are transformers' defaults, so that it does not complain of the model's own.
        temperature=1.0 if greedy else sampling.temperature,
        top_p=1.0 if greedy else sampling.top_p,
        top_k=50 if greedy else sampling.top_k,
        eos_token_id=ends or None,
        pad_token_id=pad if pad is not None else next(iter(ends), None),
    )


@contextmanager
def _seeded(seed: int | None, device: torch.device) -> Generator[None, None, None]:
    """Sampling noise from a seed, which leaves everybody else's as it was."""
    random = cast("Any", torch.random)
    with random.fork_rng([device] if device.type == "cuda" else [], enabled=seed is not None):
        if seed is not None:
            random.manual_seed(seed)
        yield


class _Writer(StoppingCriteria):
    """Turns the tokens into text while they are made, and says when to stop."""

    def __init__(
        self,
        tokenizer: Any,
        prompt: int,
        *,
        stop: Sequence[str],
        show: Callable[[str], None],
        cancelled: threading.Event,
    ) -> None:
        decode = partial(tokenizer.decode, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        self._text, self._cutter = TokenText(decode), StopCutter(stop)
        self._show, self._cancelled = show, cancelled
        self._prompt, self._ids = prompt, list[int]()
        self._pieces: list[str] = []

    def __call__(self, input_ids: torch.LongTensor, scores: Any, **_: Any) -> torch.BoolTensor:
        """Whether to stop, for each row; there is one."""
        tokens: list[int] = cast("Any", input_ids)[0, self._prompt + len(self._ids) :].tolist()
        for token in tokens:
            self._ids.append(token)
            self._give(self._cutter.add(self._text.add(token)))
        ended = self._cutter.stopped or self._cancelled.is_set()
        return cast("torch.BoolTensor", torch.full((1,), ended, device=input_ids.device, dtype=torch.bool))

    def completion(self, ends: Sequence[int]) -> Completion:
        """The whole text, when no more tokens come."""
        self._give(self._cutter.add(self._text.rest()))
        self._give(self._cutter.rest())
        stopped = self._cutter.stopped or self._ids[-1:] in [[end] for end in ends]
        usage = Usage(self._prompt, len(self._ids))
        return Completion("".join(self._pieces), "stop" if stopped else "length", usage)

    def _give(self, piece: str) -> None:
        if piece:
            self._pieces.append(piece)
            self._show(piece)
