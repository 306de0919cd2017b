"""What a scripted model says, as OpenAI writes it: whole, or in chunks."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, zip_longest
from typing import Any, cast

from aligner.testing.script import Script, json_body, stream

Json = dict[str, Any]

CREATED = 1_750_000_000
FINGERPRINT = "fp_scripted"

_TOKEN = re.compile(r"\s?\S{1,6}|\s")


@dataclass(frozen=True, slots=True)
class Wanted:
    """A request for completions that is known to be right."""

    chat: bool
    payload: Mapping[str, Any]

    @property
    def streamed(self) -> bool:
        """Whether the answer is wanted in chunks."""
        return self.payload.get("stream") is True

    @property
    def with_usage(self) -> bool:
        """Whether a stream shall end with its usage."""
        options = self.payload.get("stream_options")
        return isinstance(options, dict) and cast("Json", options).get("include_usage") is True

    @property
    def count(self) -> int:
        """How many choices are wanted: `n` for each prompt."""
        prompt = self.payload.get("prompt")
        texts = [text for text in cast("list[object]", prompt) if isinstance(text, str)] if _is_list(prompt) else []
        return (self.payload.get("n") or 1) * max(1, len(texts))

    @property
    def with_logprobs(self) -> bool:
        """Whether each token comes with its logarithmic probability; text completions take a number here."""
        wanted = self.payload.get("logprobs")
        return wanted is True or (not self.chat and wanted is not None and wanted is not False)

    @property
    def limit(self) -> int | None:
        """How many tokens there may be."""
        limit: int | None = self.payload.get("max_completion_tokens") or self.payload.get("max_tokens")
        return limit

    @property
    def asked(self) -> str:
        """The last text that was asked."""
        if not self.chat:
            return _text(self.payload["prompt"])
        return _text(self.payload["messages"][-1].get("content"))


@dataclass(frozen=True, slots=True)
class Choice:
    """One answer of several, whole and in pieces, each without index and finish reason."""

    whole: Mapping[str, Any]
    pieces: tuple[Mapping[str, Any], ...]
    finish_reason: str = "stop"


def tokens_of(text: str) -> list[str]:
    """A text in pieces of up to six letters, as a tokenizer would cut it, whatever letters belong together."""
    return _TOKEN.findall(text)


def saying(wanted: Wanted, text: str, finish_reason: str = "stop", **fields: Any) -> Choice:
    """A choice that says a text, up to the limit; `fields` stand beside it in a chat's message."""
    tokens = tokens_of(text)
    if wanted.limit is not None and len(tokens) > wanted.limit:
        tokens, finish_reason = tokens[: wanted.limit], "length"
    said = "".join(tokens)
    if not wanted.chat:
        offsets = list(accumulate(map(len, tokens), initial=0))
        pieces = [
            {"text": token} | _text_logprobs(wanted, [token], at) for token, at in zip(tokens, offsets, strict=False)
        ]
        return Choice({"text": said} | _text_logprobs(wanted, tokens), tuple(pieces), finish_reason)
    deltas = [{"delta": {"content": token}} | _chat_logprobs(wanted, [token]) for token in tokens]
    return Choice(
        {"message": {**_message(said), **fields}} | _chat_logprobs(wanted, tokens),
        ({"delta": {"role": "assistant", "content": "", "refusal": None}}, *deltas),
        finish_reason,
    )


def sending(message: Mapping[str, Any], deltas: Sequence[Mapping[str, Any]], finish_reason: str = "stop") -> Choice:
    """A choice of a chat with any message; the deltas follow the one with the role."""
    pieces = [{"delta": {"role": "assistant", "content": None}}, *({"delta": delta} for delta in deltas)]
    return Choice({"message": {**_message(None), **message}}, tuple(pieces), finish_reason)


def reply(wanted: Wanted, choices: Sequence[Choice], **fields: Any) -> Script:
    """The script that sends choices as they are wanted; `fields` stand beside them in the object or the chunks."""
    if wanted.streamed:
        return stream(chunks(wanted, choices, **fields))
    return json_body(completion(wanted, choices, **fields))


def completion(wanted: Wanted, choices: Sequence[Choice], **fields: Any) -> Json:
    """The object of a whole answer."""
    return {
        **_head(wanted, "chat.completion" if wanted.chat else "text_completion"),
        "choices": [
            {"index": index, "logprobs": None, **choice.whole, "finish_reason": choice.finish_reason}
            for index, choice in enumerate(choices)
        ],
        "usage": usage(wanted, choices),
        **fields,
    }


def chunks(wanted: Wanted, choices: Sequence[Choice], **fields: Any) -> list[Json]:
    """The objects of a streamed answer: a piece of each choice in turn, and its finish after its last piece."""
    head = {**_head(wanted, "chat.completion.chunk" if wanted.chat else "text_completion"), **fields}
    rest = {"usage": None} if wanted.with_usage else {}
    rows: list[Json] = [{**head, "choices": [choice], **rest} for choice in _in_turn(wanted, choices)]
    return [*rows, {**head, "choices": [], "usage": usage(wanted, choices)}] if wanted.with_usage else rows


def usage(wanted: Wanted, choices: Sequence[Choice]) -> Json:
    """The tokens of an answer, a piece being a token."""
    read, written = len(tokens_of(wanted.asked)), sum(len(choice.pieces) for choice in choices)
    return {
        "prompt_tokens": read,
        "completion_tokens": written,
        "total_tokens": read + written,
        "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": 0, "accepted_prediction_tokens": 0},
    }


def _head(wanted: Wanted, kind: str) -> Json:
    return {
        "id": "chatcmpl-scripted" if wanted.chat else "cmpl-scripted",
        "object": kind,
        "created": CREATED,
        "model": wanted.payload["model"],
        "system_fingerprint": FINGERPRINT,
    }


def _in_turn(wanted: Wanted, choices: Sequence[Choice]) -> Iterator[Json]:
    last: Json = {"delta": {}} if wanted.chat else {"text": ""}
    for row in zip_longest(*((*choice.pieces, last) for choice in choices)):
        for index, piece in enumerate(row):
            if piece is not None:
                reason = choices[index].finish_reason if piece is last else None
                yield {"index": index, "logprobs": None, **piece, "finish_reason": reason}


def _message(content: str | None) -> Json:
    return {"role": "assistant", "content": content, "refusal": None, "annotations": []}


def _chat_logprobs(wanted: Wanted, tokens: Sequence[str]) -> Json:
    if not wanted.with_logprobs:
        return {}
    return {"logprobs": {"content": [_with_logprob(token) for token in tokens], "refusal": None}}


def _with_logprob(token: str) -> Json:
    return {"token": token, "logprob": _logprob(token), "bytes": list(token.encode()), "top_logprobs": []}


def _text_logprobs(wanted: Wanted, tokens: Sequence[str], start: int = 0) -> Json:
    if not wanted.with_logprobs:
        return {}
    offsets = list(accumulate(map(len, tokens), initial=start))[:-1]
    figures = [_logprob(token) for token in tokens]
    return {
        "logprobs": {"tokens": list(tokens), "token_logprobs": figures, "top_logprobs": None, "text_offset": offsets}
    }


def _logprob(token: str) -> float:
    return -len(token) / 8


def _text(content: object) -> str:
    """The text of a content: itself, or its parts of that kind."""
    if _is_list(content):
        parts = cast("list[Any]", content)
        return "".join(part if isinstance(part, str) else _part_text(part) for part in parts)
    return content if isinstance(content, str) else ""


def _part_text(part: object) -> str:
    text = cast("Json", part).get("text") if isinstance(part, dict) else None
    return text if isinstance(text, str) else ""


def _is_list(value: object) -> bool:
    return isinstance(value, list)
