"""Many conversations in, an answer to each out, decoded together."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from typing import Any

from aligner.decoding.blocks import Prospect
from aligner.decoding.decoder import Request
from aligner.decoding.sampling import sampler_of
from aligner.decoding.start import StartDecoder, start_decoder
from aligner.errors import ModelError
from aligner.models.generating import context_of, end_ids, prompt_ids, room_for, stops_of
from aligner.models.hf import CausalLM
from aligner.models.pieces import StopCutter, TokenText
from aligner.records import Completion, Question, SamplingParams, Usage, as_messages

AHEAD = 16
"""batches that are read ahead; which answers share their passes depends on those of the same 16 batches alone"""


def answers_of(
    lm: CausalLM, questions: Iterable[Question], sampling: SamplingParams, *, batch: int
) -> Iterator[Completion]:
    """An answer to each question, in order, `batch` decoded at a time; reads 16 times as many ahead.

    Row i is drawn with `sampling.seed + i`, whatever is decoded beside it. The answer to a question that fills the
    context is empty, and its finish_reason is `context`. Raises ModelError where the chat template refuses, or memory
    runs out.
    """
    if batch < 1:
        raise ValueError(f"batch must be at least 1, not {batch}")
    asking, start = (
        _Asking(lm, sampling, stops_of(lm.tokenizer, sampling)),
        start_decoder(lm.model, lambda _: _undrafted),
    )
    numbered = enumerate(questions)
    while window := list(islice(numbered, AHEAD * batch)):
        try:
            answers = _answered(asking, start, window, batch)
        except RuntimeError as error:  # a ModelError is one too, and so are torch's errors, also when memory runs out
            line = next(iter(str(error).splitlines()), type(error).__name__)
            raise ModelError(f"{lm.model.name_or_path}: {line}") from error
        yield from answers


def _answered(
    asking: "_Asking", start: StartDecoder, window: Sequence[tuple[int, Question]], batch: int
) -> list[Completion]:
    prompts = [prompt_ids(asking.lm.tokenizer, as_messages(question)) for _, question in window]
    answers = [asking.unasked(prompt) for prompt in prompts]
    # The longest first, so that what does not fit the memory shows at once; equal ones can share a plain `generate`.
    open_ = sorted((i for i, prompt in enumerate(prompts) if asking.room(prompt)), key=lambda i: -len(prompts[i]))
    requests = (asking.request(window[i][0], prompts[i]) for i in open_)
    for step in start(batch).decode(requests):
        if step.end is not None:
            i = open_[step.number]
            answers[i] = asking.completion(prompts[i], step.end.tokens)
    return answers


@dataclass(frozen=True, slots=True)
class _Asking:
    """How a model is asked, so that it answers as `generate` has it answer."""

    lm: CausalLM
    sampling: SamplingParams
    stop: tuple[str, ...]

    def fits(self, prompt: Sequence[int]) -> bool:
        """Whether the context holds a prompt and a token more."""
        context = context_of(*self.lm)
        return context is None or len(prompt) < context

    def room(self, prompt: Sequence[int]) -> int:
        """How many new tokens there may be."""
        return room_for(*self.lm, len(prompt), wanted=self.sampling.max_tokens) if self.fits(prompt) else 0

    def unasked(self, prompt: Sequence[int]) -> Completion:
        """What becomes of a prompt that leaves no room."""
        return Completion("", "length" if self.fits(prompt) else "context", Usage(len(prompt)))

    def request(self, number: int, prompt: Sequence[int]) -> Request:
        """What to decode for the question of that number."""
        seed = self.sampling.seed
        return Request(
            prompt=prompt,
            limit=self.room(prompt),
            ends=frozenset(end_ids(*self.lm)),
            sampler=sampler_of(self.sampling if seed is None else replace(self.sampling, seed=seed + number)),
            stops=stop_at(self.lm.tokenizer, self.stop) if self.stop else None,
        )

    def completion(self, prompt: Sequence[int], tokens: Sequence[int]) -> Completion:
        """What was decoded, as text."""
        text, cutter = _text_of(self.lm.tokenizer), StopCutter(self.stop)
        pieces = cutter.add(text.add(*tokens)), cutter.add(text.rest()), cutter.rest()
        ended = cutter.stopped or tokens[-1] in end_ids(*self.lm)
        return Completion("".join(pieces), "stop" if ended else "length", Usage(len(prompt), len(tokens)))


def stop_at(tokenizer: Any, strings: Sequence[str]) -> Callable[[int], bool]:
    """A function that is told the tokens of one answer in order, and whether one of the strings has been met."""
    text, cutter = _text_of(tokenizer), StopCutter(strings)

    def stops(token: int) -> bool:
        cutter.add(text.add(token))
        return cutter.stopped

    return stops


def _text_of(tokenizer: Any) -> TokenText:
    return TokenText(partial(tokenizer.decode, skip_special_tokens=True, clean_up_tokenization_spaces=False))


def _undrafted(prospects: Sequence[Prospect], _: int) -> list[int]:
    """No answer has a draft, and so the cost of passes need not be measured."""
    return [0] * len(prospects)
