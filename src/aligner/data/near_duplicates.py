"""Near-duplicates: MinHash finds the texts that are worth a look, and their exact similarity decides.

What is written anew in other words is not found: word 3-grams see copies and slight changes, no paraphrases.
"""

import re
import tempfile
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from itertools import chain, islice
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray

from aligner.data.languages import words
from aligner.errors import MissingExtraError

LENGTH = 3
"""words of a shingle"""
_PERMUTATIONS = 128
_SEED = 42
_BATCH = 2048
"""texts that are hashed together"""
_RECALL = 0.95
"""least share of the pairs at the threshold that the bands bring together"""
_DOUBT = 0.15
"""below the threshold by so much, an estimate of 128 hashes is not worth an exact look: three standard deviations"""
_LONGER = (16, _PERMUTATIONS)
"""hashes of further bands; the last one brings copies together, however full all other buckets are"""
_SHORT = 40
"""words, below which one other word asks something else: golf for rugby, Austria for Australia"""
_FULLEST = 100
"""texts that one bucket keeps for comparison: more share what tells nothing, and would make the work quadratic"""

Hashes = NDArray[np.uint64]


class Placed(NamedTuple):
    """Where a text belongs."""

    id: str
    cluster: str
    """the id of the first text of its group"""
    near: str | None
    """the id of the first text before it that it repeats and that repeats none itself"""

    @property
    def is_duplicate(self) -> bool:
        """Whether it repeats a text."""
        return self.near is not None


def clusters(texts: Iterable[tuple[str, str]], threshold: float) -> Iterator[Placed]:
    """For each (id, text), in their order, its group and which earlier text that was kept it repeats.

    Two texts are near where the Jaccard similarity of their sets of word 3-grams is at least `threshold`, above 0 and
    at most 1, and then share a group; a text repeats one that it is near, but where one of the two has fewer than 40
    words their 3-grams must be the same. Similarity is computed (over hashes of 32 bits): no pair is called near by an
    estimate. Of the pairs at the threshold 95 % are found, above it more; among thousands of one mould, where each
    text is compared with the first hundred of each bucket, only copies are sure to be. The ids differ. The result
    depends on texts and order alone. All texts are read before the first group is known; they are not held, and a
    million questions of 30 words take about 1.5 GB.

    Broder, On the resemblance and containment of documents, 1997; Dahlgaard et al., Fast Similarity Sketching, 2017.
    """
    with tempfile.TemporaryFile() as file:
        read = _read(texts, file, _rows_of_a_band(threshold))
        if read.ids:
            yield from _placed(read, _Sets(file, read.ends), threshold)


# ---- shingles --------------------------------------------------------------------------------------------------------

_SIGN = re.compile(r"[-+*/^%=<>|&~#\u00d7\u00f7\u2200-\u22ff]")
_A, _B = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)
_FACTORS = np.random.default_rng(0).integers(0, 1 << 63, 128, dtype=np.uint64) * np.uint64(2) + np.uint64(1)


def hashed(tokens: Sequence[Sequence[str]]) -> Hashes:
    """A 64-bit hash of each word of some texts, one text behind the other; the same in every process."""
    found = _minhash().hash_token_sets(tokens)
    return np.fromiter(chain.from_iterable(found), np.uint64, sum(map(len, tokens)))


def windows(hashes: Hashes, length: int) -> Hashes:
    """A hash of each run of `length` words, at most 64; empty where there are fewer."""
    count = len(hashes) - length + 1
    if count <= 0:
        return np.empty(0, np.uint64)
    mixed = np.zeros(count, np.uint64)
    for i in range(length):
        mixed += hashes[i : i + count] * _FACTORS[i]
    mixed ^= mixed >> np.uint64(31)
    mixed *= _A
    mixed ^= mixed >> np.uint64(29)
    return mixed * _B


def tokens_of(text: str) -> list[str]:
    """Words, and between them the signs of arithmetic and code, as 3 + 4 is not 3 * 4; at least one token."""
    if not _SIGN.search(text):
        return words(text) or [text.strip().encode("utf-8", "replace").decode()]
    parts = _SIGN.split(text)
    signs = _SIGN.findall(text)
    found = words(parts[0])
    for sign, part in zip(signs, parts[1:], strict=True):
        found += sign, *words(part)
    return found


def _shingles(batch: Sequence[str]) -> tuple[Hashes, NDArray[np.int64]]:
    """The shingles of some texts one behind the other, and where those of each end; a short text is one shingle."""
    tokens = [found + [""] * (LENGTH - len(found)) for found in map(tokens_of, batch)]
    counts = np.array([len(found) for found in tokens])
    flat = hashed(tokens)
    inside = np.ones(len(flat), bool)
    for i in range(1, LENGTH):
        inside[np.cumsum(counts) - i] = False
    return windows(flat, LENGTH)[inside[: len(flat) - LENGTH + 1]], np.cumsum(counts - LENGTH + 1)


# ---- signatures ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Read:
    """What is held of all texts."""

    ids: list[str]
    ends: NDArray[np.int64]
    """where the shingles of each end in the file"""
    bands: Hashes
    """for each text and band a hash of that part of the signature; shape [texts, bands]"""
    marks: NDArray[np.uint8]
    """the lowest eight bits of each of the 128 hashes, to estimate by; Li and König, b-bit minwise hashing, 2010"""


def _read(texts: Iterable[tuple[str, str]], file: BinaryIO, rows: int) -> _Read:
    minhash, pairs = _minhash(), iter(texts)
    ids, ends, bands, marks, total = list[str](), list[Any](), list[Any](), list[Any](), 0
    while batch := list(islice(pairs, _BATCH)):
        shingles, counted = _shingles([text for _, text in batch])
        offsets = np.concatenate([[0], counted]).astype(np.uint64)
        matrix = minhash.digest_matrix_from_flat_token_hashes(shingles, offsets, _PERMUTATIONS, _SEED)
        signatures = np.array(matrix.to_rows(), np.uint64)
        # Half of the bits tell 3-grams of two texts apart.
        file.write((shingles >> np.uint64(32)).astype(np.uint32).tobytes())
        ids += [name for name, _ in batch]
        ends.append(counted + total)
        total += len(shingles)
        bands.append(_bands(signatures, rows))
        marks.append(signatures.astype(np.uint8))
    file.flush()
    empty = np.empty((0, 1), np.uint64)
    return _Read(ids, _joined(ends, empty), _joined(bands, empty), _joined(marks, empty))


def _joined(parts: list[Any], empty: Hashes) -> Any:
    return np.concatenate(parts) if parts else empty


def _bands(signatures: Hashes, rows: int) -> Hashes:
    """Bands of so many hashes, and longer ones, which still part what is much alike where buckets are full."""
    sizes = [rows, *(size for size in _LONGER if size > rows)]
    return np.concatenate([_bands_of(signatures, size) for size in sizes], axis=1)


def _bands_of(signatures: Hashes, rows: int) -> Hashes:
    count = _PERMUTATIONS // rows
    parts = signatures[:, : count * rows].reshape(len(signatures), count, rows)
    return (parts * _FACTORS[:rows]).sum(axis=2, dtype=np.uint64) * _A


def _rows_of_a_band(threshold: float) -> int:
    """As many hashes a band as still bring together the wanted share of the pairs at the threshold."""
    found = (
        rows
        for rows in range(_PERMUTATIONS // 4, 1, -1)
        if 1 - (1 - threshold**rows) ** (_PERMUTATIONS // rows) >= _RECALL
    )
    return next(found, 1)


def _minhash() -> Any:
    try:
        rensa: Any = import_module("rensa")  # it comes without types
    except ModuleNotFoundError as error:
        raise MissingExtraError("near-duplicates need an extra: pip install 'aligner-llm[build]'") from error
    return rensa.RMinHash


# ---- groups ----------------------------------------------------------------------------------------------------------


class _Sets:
    """The shingles of each text, in a file."""

    def __init__(self, file: BinaryIO, ends: NDArray[np.int64]) -> None:
        self._flat = np.memmap(file, np.uint32, "r")
        self._ends = ends

    def of(self, row: int) -> set[int]:
        return set(self._flat[self._start(row) : int(self._ends[row])].tolist())

    def is_short(self, row: int) -> bool:
        return int(self._ends[row]) - self._start(row) + LENGTH - 1 < _SHORT

    def _start(self, row: int) -> int:
        return int(self._ends[row - 1]) if row else 0


@dataclass(frozen=True, slots=True)
class _Groups:
    """Sets of rows that are joined two by two; each is known by its least row."""

    parents: dict[int, int] = field(default_factory=dict[int, int])

    def of(self, row: int) -> int:
        while row in self.parents:
            row = self.parents[row]
        return row

    def join(self, rows: Iterable[int]) -> None:
        least, *others = sorted({self.of(row) for row in rows})
        self.parents.update(dict.fromkeys(others, least))


def _placed(read: _Read, sets: _Sets, threshold: float) -> Iterator[Placed]:
    groups, repeats = _Groups(), dict[int, int]()
    buckets, met = _buckets(read.bands), defaultdict[int, list[int]](list)
    for row in np.flatnonzero((buckets >= 0).any(axis=1)).tolist():
        mine = [bucket for bucket in buckets[row].tolist() if bucket >= 0]
        candidates = set[int]().union(*(met[bucket] for bucket in mine))
        near, repeated = _near(read.marks, sets, groups, row, candidates, threshold)
        groups.join([row, *near])
        if repeated is not None:
            repeats[row] = repeated
            continue
        for bucket in mine:
            if len(met[bucket]) < _FULLEST:
                met[bucket].append(row)
    for row, name in enumerate(read.ids):
        repeated = repeats.get(row)
        yield Placed(name, read.ids[groups.of(row)], None if repeated is None else read.ids[repeated])


def _near(
    marks: NDArray[np.uint8], sets: _Sets, groups: _Groups, row: int, candidates: set[int], threshold: float
) -> tuple[list[int], int | None]:
    """Candidates that are near the row, one at least of each group that has any, and the first that it repeats."""
    near, joined, repeated = list[int](), set[int](), None
    for other, alike in _likely(marks, row, candidates, threshold - _DOUBT):
        # What can neither be repeated nor join another group needs no exact look: moulds would make many.
        long = not (sets.is_short(row) or sets.is_short(other))
        may_repeat = repeated is None and (long or alike == 1.0)
        group = groups.of(other)
        if not may_repeat and group in joined:
            continue
        mine, theirs = sets.of(row), sets.of(other)
        if similar(mine, theirs, threshold):
            near.append(other)
            joined.add(group)
            repeated = other if may_repeat and (long or mine == theirs) else repeated
    return near, repeated


def _likely(marks: NDArray[np.uint8], row: int, candidates: set[int], least: float) -> Iterator[tuple[int, float]]:
    """Those of the candidates that are estimated to be so much alike, in their order, with the estimate."""
    if not candidates:
        return iter(())
    rows = np.array(sorted(candidates))
    alike = np.count_nonzero(marks[rows] == marks[row], axis=1) / _PERMUTATIONS
    enough = alike >= least
    return zip(rows[enough].tolist(), alike[enough].tolist(), strict=True)


def similar(first: set[int], second: set[int], threshold: float) -> bool:
    """Whether the Jaccard similarity of two sets, one of which is not empty, is at least the threshold."""
    shared = len(first & second)
    return shared >= threshold * (len(first) + len(second) - shared)


def _buckets(bands: Hashes) -> NDArray[np.int64]:
    """For each text and band the number of its bucket, or -1 where it is there alone."""
    numbers, used = np.empty(bands.shape, np.int64), 0
    for band in range(bands.shape[1]):
        order = np.argsort(bands[:, band])
        keys = bands[order, band]
        starts = np.concatenate([[True], keys[1:] != keys[:-1]])
        runs = np.cumsum(starts) - 1
        alone = np.bincount(runs)[runs] == 1
        numbers[order, band] = np.where(alone, -1, runs + used)
        used += len(keys)
    return numbers
