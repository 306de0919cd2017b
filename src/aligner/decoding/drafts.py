"""The draft of a correction: the answer, encoded where the correction will stand, and the end of the text."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any

Encode = Callable[[str], list[int]]
Decode = Callable[[Sequence[int]], str]

_CHINESE = ("\u3002", "\uff01", "\uff1f")
_ENDS_OF_SENTENCES = (".", "!", "?", "…", ":", ";", "\n", *_CHINESE)


@dataclass(frozen=True, slots=True)
class Codec:
    """Text to ids that stand in the correction's place, and back."""

    encode: Encode
    decode: Decode
    end: int
    """the token that ends a text"""
    _known: dict[int, bool] = field(default_factory=dict[int, bool], repr=False, compare=False)

    def ends_sentence(self, token: int) -> bool:
        """Whether a sentence may end with this token."""
        if token not in self._known:
            self._known[token] = self.decode([token]).rstrip(" ").endswith(_ENDS_OF_SENTENCES)
        return self._known[token]

    def draft(self, text: str) -> "Draft":
        """The draft that a text is."""
        return Draft((*self.encode(text), self.end), text, self)


def codec_of(encode: Encode, tokenizer: Any) -> Codec:
    """How a Hugging Face tokenizer writes corrections; `encode` keeps text from becoming control tokens."""
    decode = partial(tokenizer.decode, skip_special_tokens=True, clean_up_tokenization_spaces=False)
    return Codec(encode, decode, tokenizer.eos_token_id)


@dataclass(frozen=True)
class Draft:
    """Tokens that the correction may well have, the last of them the end of the text."""

    ids: tuple[int, ...]
    text: str = ""
    codec: Codec | None = field(default=None, repr=False)
    """without one, a draft does not know of sentences and letters"""

    @cached_property
    def places(self) -> dict[int, list[int]]:
        """Where each token stands, in order."""
        found: dict[int, list[int]] = {}
        for place, token in enumerate(self.ids):
            found.setdefault(token, []).append(place)
        return found

    @cached_property
    def starts(self) -> list[int]:
        """Where sentences start."""
        if self.codec is None:
            return [0]
        return [0, *(place + 1 for place, token in enumerate(self.ids[:-1]) if self.codec.ends_sentence(token))]

    def rest_from(self, letter: int) -> "Draft":
        """The draft of the text behind some letters, encoded anew since tokens may begin elsewhere now."""
        if self.codec is None:
            raise ValueError("a draft of bare tokens has no letters")
        return self.codec.draft(self.text[letter:])
