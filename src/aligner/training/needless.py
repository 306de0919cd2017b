"""Needless edits of good texts, made without a model: what an over-eager editor would do."""

import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from random import Random

from aligner.records import Triple
from aligner.scoring.edits import edits_between

_SENTENCE = re.compile(r"[^.!?\n]+[.!?\n]*\s*|[.!?\n]+\s*")
_WORD = re.compile(r"\w+")


@dataclass(frozen=True, slots=True)
class Material:
    """What edits are made of: words that took one another's place somewhere, and sentences of other texts."""

    words: Mapping[str, Sequence[str]]
    sentences: Sequence[str]


def material_of(triples: Sequence[Triple]) -> Material:
    """The material of all triples, in their order."""
    words: dict[str, list[str]] = defaultdict(list)
    for row in triples:
        for start, end, text in edits_between(row.answer, row.correction):
            old = row.answer[start:end]
            if _WORD.fullmatch(old) and _WORD.fullmatch(text):
                words[old].append(text)
                words[text].append(old)
    texts = (text for row in triples for text in (row.answer, row.correction))
    sentences = dict.fromkeys(part.strip() for text in texts for part in _sentences(text))
    return Material(words, list(filter(None, sentences)))


def needless_edits(text: str, material: Material, random: Random) -> Iterator[str]:
    """The text with one needless edit, in some ways; each says something else than it, and there may be none.

    A word is replaced as it was in another row, or a sentence is added, replaced, doubled or left out.
    """
    for way in random.sample(_WAYS, len(_WAYS)):
        edited = way(text, material, random)
        if edited.strip() and edited.strip() != text.strip():
            yield edited


def _other_word(text: str, material: Material, random: Random) -> str:
    known = [match for match in _WORD.finditer(text) if match.group() in material.words]
    if not known:
        return text
    word = random.choice(known)
    return text[: word.start()] + random.choice(material.words[word.group()]) + text[word.end() :]


def _added(text: str, material: Material, random: Random) -> str:
    parts = _sentences(text)
    place = random.randint(0, len(parts))
    return _joined([*parts[:place], *_foreign(material, random), *parts[place:]])


def _replaced(text: str, material: Material, random: Random) -> str:
    parts = _sentences(text)
    place = random.randrange(len(parts)) if parts else 0
    return _joined([*parts[:place], *_foreign(material, random), *parts[place + 1 :]])


def _doubled(text: str, _: Material, random: Random) -> str:
    parts = _sentences(text)
    place = random.randrange(len(parts)) if parts else 0
    return _joined([*parts[: place + 1], *parts[place:]])


def _left_out(text: str, _: Material, random: Random) -> str:
    parts = _sentences(text)
    place = random.randrange(len(parts)) if parts else 0
    return _joined([*parts[:place], *parts[place + 1 :]])


_WAYS: tuple[Callable[[str, Material, Random], str], ...] = (_other_word, _added, _replaced, _doubled, _left_out)


def _foreign(material: Material, random: Random) -> list[str]:
    return [random.choice(material.sentences)] if material.sentences else []


def _sentences(text: str) -> list[str]:
    """The sentences with the white space behind them; white space in front of the first one is its own."""
    return _SENTENCE.findall(text)


def _joined(parts: Sequence[str]) -> str:
    """The sentences as one text, with a blank where there is no white space between two."""
    text = ""
    for part in parts:
        text += part if not text or text[-1].isspace() or part[0].isspace() else f" {part}"
    return text.rstrip()
