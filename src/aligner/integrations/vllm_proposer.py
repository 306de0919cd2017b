"""Drafts for a corrector that vLLM serves: the answer in the prompt is the draft of the correction.

vLLM verifies what is proposed here, as it does for every other drafter, so that nothing here can change an output.
It names no request, and a request's row may be another one at the next step: rows are known by what stands in them.
"""

from collections.abc import Iterator, Sequence
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, NamedTuple

from aligner.decoding.cursor import AnswerCursor
from aligner.decoding.drafts import Codec, Draft, codec_of
from aligner.templates import PromptEncoder

if TYPE_CHECKING:
    import numpy as np

    Tokens = np.ndarray[Any, np.dtype[np.int32]]


class AnswerSpan(NamedTuple):
    """Where an answer stands among tokens, and where the output begins."""

    start: int
    end: int
    output: int


class AnswerCursorProposer:
    """What vLLM loads for `"method": "custom_class"`; made from vLLM's configuration of a served Aligner.

    Raises CheckpointError where the served model is no Aligner. A template in which the answer has no words of the
    template on both of its sides gets no drafts.
    """

    def __init__(self, vllm_config: Any) -> None:
        self._size: int = vllm_config.speculative_config.num_speculative_tokens
        self._context: int = vllm_config.model_config.max_model_len
        self._encoder, self._codec = _reader(vllm_config.model_config.model)
        self._outputs: dict[bytes, _Output | None] = {}
        """by the fingerprint of all tokens up to now, the longest untouched first; None for a row without an answer"""
        # Every running row, and as many that have ended since or are alike.
        self._most = 2 * vllm_config.scheduler_config.max_num_seqs

    def propose(
        self,
        sampled_token_ids: Sequence[Sequence[int]],
        num_tokens_no_spec: "Tokens",
        token_ids_cpu: "Tokens",
        slot_mappings: object = None,
    ) -> list[list[int]]:
        """Draft tokens for every row: none for one that has no new token yet, or no answer in it.

        `token_ids_cpu`, [rows, context], holds prompt and output, and a row's first `num_tokens_no_spec` are valid.
        """
        return [
            self._draft(token_ids_cpu[row, : num_tokens_no_spec[row]], len(new)) if new else []
            for row, new in enumerate(sampled_token_ids)
        ]

    def _draft(self, tokens: "Tokens", new: int) -> list[int]:
        """The draft for one row, the last `new` tokens of which have come since the step before."""
        output = self._output(tokens, new)
        # One more token comes behind a draft that is right to its end.
        room = min(self._size, self._context - len(tokens) - 1)
        return list(output.draft(room)) if output is not None and room > 0 else []

    def _output(self, tokens: "Tokens", new: int) -> "_Output | None":
        """The output in a row, read up to its end; a row that is not known is read from the start."""
        now, before = _fingerprint(tokens), _fingerprint(tokens[:-new])
        if now in self._outputs:  # a row that is the same to the last token
            output = self._outputs.pop(now)
        elif before in self._outputs:
            output = self._outputs.pop(before)
            if output is not None:
                output.read(tokens[-new:].tolist())
        else:
            output = self._begin(tokens.tolist(), new)
        self._outputs[now] = output
        if len(self._outputs) > self._most:
            del self._outputs[next(iter(self._outputs))]
        return output

    def _begin(self, tokens: list[int], new: int) -> "_Output | None":
        span = answer_span(self._encoder, tokens, new)
        if span is None:
            return None
        answer = tokens[span.start : span.end]
        output = _Output(Draft((*answer, self._codec.end), self._codec.decode(answer), self._codec), self._size)
        output.read(tokens[span.output :])
        return output


def answer_span(encoder: PromptEncoder, tokens: Sequence[int], new: int) -> AnswerSpan | None:
    """Where the answer stands in a prompt with its output, of which `new` tokens or more are there; None without one.

    Text may say what the template says. The last place where an answer may end is its end, since the prompt ends there.
    It may begin in several places: best where the output's first token stands, and else as early as possible.
    """
    before, behind = encoder.answer_marks
    ends = list(_places(tokens[: len(tokens) - new], behind))
    starts = [place + len(before) for place in _places(tokens[: ends[-1]], before)] if ends else []
    if not starts:
        return None
    end, output = ends[-1], ends[-1] + len(behind)
    start = next((place for place in starts if place < end and tokens[place] == tokens[output]), starts[0])
    return AnswerSpan(start, end, output)


class _Output:
    """An output, and where in its draft it stands."""

    def __init__(self, draft: Draft, size: int) -> None:
        self._cursor = AnswerCursor(draft)
        self._size = size
        self._guess = self._cursor.guess()

    def draft(self, size: int) -> Sequence[int]:
        """What may come next, so many tokens at most."""
        if self._guess is None:
            return ()
        return self._cursor.draft.ids[self._guess.place : self._guess.place + size]

    def read(self, tokens: Sequence[int]) -> None:
        """Take note of new tokens; many at once are read in the steps in which they would have come."""
        while tokens:
            accepted = _agreeing(self.draft(self._size), tokens)
            self._cursor.commit(self._guess, tokens[: accepted + 1], accepted)
            self._guess = self._cursor.guess()
            tokens = tokens[accepted + 1 :]


def _reader(model: str) -> tuple[PromptEncoder, Codec]:
    """How the Aligner in a folder, or of that hub id, reads and writes tokens."""
    from aligner.models.hf import WITHOUT_WEIGHTS, load_without_weights, local_folder
    from aligner.training.card import Card

    folder = local_folder(model, WITHOUT_WEIGHTS)
    encoder = PromptEncoder(Card.load(folder).template, tokenizer := load_without_weights(folder).tokenizer)
    return encoder, codec_of(encoder.text_ids, tokenizer)


def _agreeing(draft: Sequence[int], tokens: Sequence[int]) -> int:
    """How many of the tokens are those of the draft."""
    count = min(len(draft), len(tokens))
    return next((i for i in range(count) if draft[i] != tokens[i]), count)


def _places(tokens: Sequence[int], run: Sequence[int]) -> Iterator[int]:
    """Where a run of tokens stands; an empty one stands nowhere."""
    wanted = list(run)
    for place, token in enumerate(tokens if wanted else ()):
        if token == wanted[0] and list(tokens[place : place + len(wanted)]) == wanted:
            yield place


def _fingerprint(tokens: "Tokens") -> bytes:
    """Tokens in a few bytes; hashing a thousand of them takes microseconds."""
    return blake2b(tokens.tobytes(), digest_size=16).digest()
