"""A conversation and what is written behind it as token ids, where all texts are data.

Whatever a question or an answer says, no piece of it becomes a control token. What a model learns from and what a
reward model judges are read in this one way.
"""

import re
from collections.abc import Mapping, Sequence
from itertools import count
from typing import Any

from aligner.errors import CheckpointError
from aligner.models.generating import prompt_ids
from aligner.records import Message, Question, as_messages
from aligner.templates import TEMPLATES, PromptEncoder


class Coder:
    """A tokenizer that reads questions and texts as data; raises CheckpointError where it knows no end of a text."""

    def __init__(self, tokenizer: Any) -> None:
        if tokenizer.eos_token_id is None:
            raise CheckpointError("the upstream's tokenizer has no token that ends a text, so that it cannot be taught")
        self._tokenizer, self._eos = tokenizer, int(tokenizer.eos_token_id)
        # Any template will do: what is used of it is how it keeps control tokens out of texts.
        self._encoder = PromptEncoder(TEMPLATES["T1"], tokenizer)
        # Letters that a tokenizer does not know become a control token, but one that says nothing.
        self._telling = self._encoder.control_ids - {tokenizer.unk_token_id}

    def completion(self, text: str) -> tuple[int, ...]:
        """A text and its end: the tokenizer's end of a text.

        Where a chat format ends turns with another token, as Gemma's does, that is not what is written here: only the
        model knows whether it would end an answer, and a tokenizer is all there is.
        """
        return (*self._encoder.text_ids(text), self._eos)

    def prompt(self, question: Question) -> tuple[int, ...] | None:
        """What the model reads for a question; none where its format cannot be told from what a hostile one says.

        A format may leave contents as they are, or without the white space at their ends.
        """
        messages = as_messages(question)
        ids = prompt_ids(self._tokenizer, messages)
        if not any(self._names_controls(message.content) for message in messages):
            return tuple(ids)
        if self._tokenizer.chat_template:
            return self._sealed(messages)
        return tuple(prompt_ids(_PlainTurns(self._tokenizer, self._encoder), messages))

    def _names_controls(self, text: str) -> bool:
        return not self._telling.isdisjoint(_ids_of(self._tokenizer, text))

    def _sealed(self, messages: Sequence[Message]) -> tuple[int, ...] | None:
        """The words of the chat format as they are, and each turn's content apart from them as data."""
        names, contents = _free_names(messages), [message.content for message in messages]
        empty = [Message(message.role, name) for message, name in zip(messages, names, strict=True)]
        parts = re.split(f"({'|'.join(names)})", _rendered(self._tokenizer, empty))
        whole = _rendered(self._tokenizer, messages)
        for texts in (contents, [content.strip() for content in contents]):
            slots = dict(zip(names, texts, strict=True))
            if "".join(slots.get(part, part) for part in parts) == whole:
                return self._filled(parts, slots)
        return None

    def _filled(self, parts: Sequence[str], slots: Mapping[str, str]) -> tuple[int, ...]:
        data = {slot: self._encoder.text_ids(content) for slot, content in slots.items()}
        return tuple(i for part in parts for i in (data[part] if part in data else _ids_of(self._tokenizer, part)))


class _PlainTurns:
    """A tokenizer without a chat format, for which even the turns are data; it begins as the real one does."""

    chat_template = None

    def __init__(self, tokenizer: Any, encoder: PromptEncoder) -> None:
        letter, whole = _ids_of(tokenizer, "a"), list(tokenizer("a")["input_ids"])
        self._start, self._encoder = whole[: len(whole) - len(letter)], encoder

    def __call__(self, text: str, **_: object) -> Mapping[str, list[int]]:
        """Encode."""
        return {"input_ids": [*self._start, *self._encoder.text_ids(text)]}


def _ids_of(tokenizer: Any, text: str) -> list[int]:
    """The ids of a text as it stands, control tokens among them."""
    return list(tokenizer(text, add_special_tokens=False, split_special_tokens=False, verbose=False)["input_ids"])


def _rendered(tokenizer: Any, messages: Sequence[Message]) -> str:
    turns = [{"role": message.role, "content": message.content} for message in messages]
    return tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)


def _free_names(messages: Sequence[Message]) -> list[str]:
    """A name for each of the messages that stands in none of them."""
    text = "".join(message.content for message in messages)
    mark = next(mark for i in count() if (mark := f"slot{i}of") not in text)
    return [f"{mark}{i}end" for i in range(len(messages))]
