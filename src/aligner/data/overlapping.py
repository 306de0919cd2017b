"""What a text shares with evaluation sets: words in a row, whole short texts, and near-duplicates of whole texts."""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from aligner.data.languages import normalised, words
from aligner.data.near_duplicates import LENGTH, Hashes, hashed, windows

_ANYWHERE = 8
"""words of a text that is looked for anywhere; a shorter one is found only between marks of punctuation"""
_NEAR = 0.7
"""Jaccard similarity of word 3-grams from which on two whole texts are one"""
_MARK = re.compile(r"[^\w\s'\-]+|\n+")


class Hit(NamedTuple):
    """What was found of which evaluation set."""

    name: str
    """of the set"""
    how: Literal["words", "whole", "near"]
    """so many words in a row; a whole text that is shorter; or a text that is nearly the same"""
    text: str
    """the words that are shared, or for near ones those of the text, in small letters"""


class Index:
    """Evaluation sets, to be looked up; all look-ups are exact, but for hashes of 64 bits.

    Letter case, punctuation, white space and compatible forms of letters make no difference; words do. Lists and
    Brown et al., Language models are few-shot learners, appendix C, 2020, look for 13 words in a row.
    """

    def __init__(self, texts: Iterable[tuple[str, str]], words: int = 12) -> None:
        """Take (name of the set, text) in any order; texts without words say nothing. `words`: 1 to 64."""
        self.words = words
        sizes, runs, near = Counter[str](), dict[int, _Runs](), _Runs()
        self._names, self._short, self._lengths = list[str](), dict[tuple[str, ...], str](), list[int]()
        for name, text in texts:
            sizes[name] += 1
            self._add(name, text, runs, near)
        self.sizes: Mapping[str, int] = sizes
        """texts by set"""
        self._runs = {length: table.sorted() for length, table in sorted(runs.items(), reverse=True)}
        self._near = near.sorted()

    def find(self, text: str) -> Hit | None:
        """What the text shares with some evaluation set, the longest kind of find first; None where that is nothing."""
        found = words(text)
        hashes = hashed([found])
        for length, table in self._runs.items():
            if hit := table.first(windows(hashes, length)):
                at, owner = hit
                how = "words" if length == self.words else "whole"
                return Hit(self._names[owner], how, " ".join(found[at : at + length]))
        return self._short_one(text) or self._near_one(found, hashes)

    def _add(self, name: str, text: str, runs: dict[int, "_Runs"], near: "_Runs") -> None:
        found = words(text)
        if not found:
            return
        owner = len(self._names)
        self._names.append(name)
        hashes = hashed([found])
        length = min(self.words, len(found))
        if length >= min(_ANYWHERE, self.words):
            runs.setdefault(length, _Runs()).add(windows(hashes, length), owner)
        else:
            self._short.setdefault(tuple(found), name)
        shingles = np.unique(windows(hashes, LENGTH))
        self._lengths.append(len(shingles))
        near.add(shingles, owner)

    def _short_one(self, text: str) -> Hit | None:
        runs = _between_marks(text) if self._short else iter(())
        found = next((run for run in runs if run in self._short), None)
        return Hit(self._short[found], "whole", " ".join(found)) if found else None

    def _near_one(self, found: Sequence[str], hashes: Hashes) -> Hit | None:
        shingles = np.unique(windows(hashes, LENGTH))
        owners, shared = np.unique(self._near.owners(shingles), return_counts=True)
        if not len(owners):
            return None
        union = np.array(self._lengths)[owners] + len(shingles) - shared
        near = owners[shared >= _NEAR * union]
        return Hit(self._names[int(near[0])], "near", " ".join(found)) if len(near) else None


def _between_marks(text: str) -> Iterator[tuple[str, ...]]:
    """Runs of fewer than eight words that begin and end at a mark of punctuation, a line's end or the text's own."""
    parts = [found for part in _MARK.split(normalised(text)) if (found := words(part))]
    for start in range(len(parts)):
        run: list[str] = []
        for part in parts[start : start + _ANYWHERE]:
            run += part
            if len(run) >= _ANYWHERE:
                break
            yield tuple(run)


class _Runs:
    """Hashes of runs of words while they are gathered."""

    def __init__(self) -> None:
        self._hashes: list[Hashes] = []
        self._owners: list[tuple[int, int]] = []

    def add(self, hashes: Hashes, owner: int) -> None:
        self._hashes.append(hashes)
        self._owners.append((owner, len(hashes)))

    def sorted(self) -> "_Table":
        hashes = np.concatenate([np.empty(0, np.uint64), *self._hashes])
        owners = np.repeat(*np.array(self._owners, np.int64).reshape(-1, 2).T)
        order = np.argsort(hashes, kind="stable")
        return _Table(hashes[order], owners[order])


class _Table(NamedTuple):
    """Hashes in order, and the text that each is from."""

    hashes: Hashes
    texts: NDArray[np.int64]

    def first(self, hashes: Hashes) -> tuple[int, int] | None:
        """The first place whose hash is there, and the first text that has it."""
        places = np.searchsorted(self.hashes, hashes)
        there = np.flatnonzero(np.take(self.hashes, places, mode="clip") == hashes) if len(self.hashes) else places[:0]
        return (int(there[0]), int(self.texts[places[there[0]]])) if len(there) else None

    def owners(self, hashes: Hashes) -> NDArray[np.int64]:
        """All texts that have each of the hashes, one behind the other."""
        starts, ends = (np.searchsorted(self.hashes, hashes, side=side) for side in _SIDES)
        return np.concatenate([self.texts[:0], *(self.texts[a:b] for a, b in zip(starts, ends, strict=True) if a < b)])


_SIDES: Any = ("left", "right")
