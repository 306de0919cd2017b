"""Texts as data inside a prompt: a mark of the prompt's own that stands in a text gets a backslash.

A mark with white space between its words and signs, as in `< /answer >`, is one: models read it alike.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

_PARTS = re.compile(r"\w+|[^\w\s]")
_SLOT = re.compile(r"\{(\w+)\}")


@dataclass(frozen=True)
class Seal:
    """The marks that no text may hold as they are, and how such a text is written instead."""

    marks: tuple[str, ...]

    def sealed(self, text: str) -> str:
        """A text without the marks, in letters of any size; `unsealed` gives it back letter by letter."""
        return self._mark.sub(r"\1\\\2", text)

    def unsealed(self, text: str) -> str:
        """The text that was sealed."""
        return self._mark.sub(lambda mark: mark[1] + mark[2][1:], text)

    @cached_property
    def _mark(self) -> re.Pattern[str]:
        """A mark's first letter and the backslashes behind it, before the rest of the mark."""
        starts = "".join(sorted({re.escape(mark[0]) for mark in self.marks}))
        rests = "|".join(r"\s*+" + r"\s*+".join(map(re.escape, _PARTS.findall(mark[1:]))) for mark in self.marks)
        return re.compile(rf"([{starts}])(\\*)(?={rests})", re.IGNORECASE)


def filled(form: str, texts: Mapping[str, str]) -> str:
    """A form with its slots `{name}` filled by one pass, so that no text fills a slot inside another text."""
    return _SLOT.sub(lambda slot: texts.get(slot[1], slot[0]), form)
