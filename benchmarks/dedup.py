"""How fast near-duplicate questions are found, how many of them, and in how much memory.

    python benchmarks/dedup.py           1,000,000 questions of 5 to 60 words, one in ten a near-duplicate
    python benchmarks/dedup.py --quick   4,400 documents of 200 words, of which 400 are near-duplicates

A near-duplicate is a copy in which 4 of 200 words are replaced, or one word of the 40 or more of a planted question.
Found are those that are called duplicates of their original, false all others that are called duplicates. Words are
drawn by Zipf's law, as people use them. The peer, datasketch with the same 128 permutations, threshold and words,
runs on the 4,400 where it can be imported. Peak memory is that of the process, the texts as they are made included.
"""

import argparse
import importlib
import resource
import time
from collections.abc import Iterator, Mapping
from functools import lru_cache
from random import Random
from typing import Any, NamedTuple

import numpy as np
from record import record

from aligner.data.near_duplicates import LENGTH, clusters, tokens_of

THRESHOLD = 0.7
DOCUMENTS, PLANTED, WORDS, REPLACED = 4_000, 400, 200, 4
QUESTIONS = 1_000_000
QUICK_SECONDS, QUICK_FOUND, QUICK_FALSE = 0.6, 390, 4
FULL_SECONDS, FULL_BYTES = 600.0, 4 * 2**30
_VOCABULARY = 50_000
_BATCH = 10_000
_LEAST, _MOST, _LEAST_PLANTED = 5, 60, 40
_TENTH = 10

Texts = list[tuple[str, str]]


class Counted(NamedTuple):
    """What became of the planted near-duplicates."""

    found: int
    false: int
    seconds: float


def main() -> None:
    """Measure, and print one line of JSON last."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="4,400 documents")
    parser.add_argument("--questions", type=int, default=QUESTIONS, help="how many, without --quick")
    arguments = parser.parse_args()
    if arguments.quick:
        record("dedup_quick", quick())
    else:
        record("dedup", full(arguments.questions))


def quick() -> Mapping[str, Any]:
    """The 4,400 documents, ours and the peer's; a first round of a few documents loads what is loaded once."""
    texts = documents()
    list(clusters(texts[:10], THRESHOLD))
    ours = min((ours_on(texts) for _ in range(3)), key=lambda counted: counted.seconds)
    figures = {
        "documents": len(texts),
        "planted": PLANTED,
        **_shown(ours),
        "peak_mib": peak_mib(),
        "target_met": ours.seconds < QUICK_SECONDS and ours.found >= QUICK_FOUND and ours.false <= QUICK_FALSE,
    }
    peer = datasketch_on(texts)
    if peer is None:
        print("datasketch cannot be imported: no side by side", flush=True)
        return figures
    print(f"datasketch: {peer.found} found, {peer.false} false, {peer.seconds:.2f} s", flush=True)
    return {**figures, **{f"datasketch_{name}": value for name, value in _shown(peer).items()}}


def full(count: int) -> Mapping[str, Any]:
    """So many questions, one in ten a near-duplicate of an earlier one; making them is not timed."""
    made = Made()
    found, false, start = 0, 0, time.perf_counter()
    for row in clusters(questions(count, made), THRESHOLD):
        found += row.is_duplicate and made.planted.get(int(row.id)) == int(row.cluster)
        false += row.is_duplicate and int(row.id) not in made.planted
    seconds = time.perf_counter() - start - made.seconds
    return {
        "questions": count,
        "planted": len(made.planted),
        "found": found,
        "false": false,
        "seconds": round(seconds, 1),
        "peak_mib": peak_mib(),
        "target_met": seconds < FULL_SECONDS and peak_mib() * 2**20 < FULL_BYTES,
    }


def peak_mib() -> int:
    """The most memory that this process ever held."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


# ---- texts -----------------------------------------------------------------------------------------------------------


@lru_cache
def vocabulary() -> list[str]:
    """Words of two to four syllables, all different."""
    random = Random(0)
    syllables = [first + second for first in "bdfgklmnprstvz" for second in ("a", "e", "i", "o", "u", "an", "el", "ir")]
    found = dict.fromkeys("".join(random.choices(syllables, k=random.randint(2, 4))) for _ in range(2 * _VOCABULARY))
    return list(found)[:_VOCABULARY]


def drawn(count: int, random: np.random.Generator) -> list[str]:
    """So many words by Zipf's law."""
    weights = 1 / np.arange(1, _VOCABULARY + 1)
    places = np.searchsorted(np.cumsum(weights) / weights.sum(), random.random(count)).tolist()
    words = vocabulary()
    return [words[place] for place in places]


def documents() -> Texts:
    """4,000 documents of 200 words, and copies of 400 of them with 4 words replaced, in a random order behind them."""
    words, random = drawn(DOCUMENTS * WORDS, np.random.default_rng(1)), Random(1)
    texts = [words[i : i + WORDS] for i in range(0, len(words), WORDS)]
    copies = random.sample(range(DOCUMENTS), PLANTED)
    planted = [replaced(texts[i], REPLACED, random) for i in copies]
    originals = [(str(i), " ".join(text)) for i, text in enumerate(texts)]
    return [*originals, *((f"{i} again", " ".join(text)) for i, text in zip(copies, planted, strict=True))]


def replaced(words: list[str], count: int, random: Random) -> list[str]:
    """The words with some of them replaced by words that are nowhere else."""
    changed = [*words]
    for place in random.sample(range(len(words)), count):
        changed[place] = f"other{random.randrange(10**9)}"
    return changed


class Made:
    """What is known of questions once they are made."""

    def __init__(self) -> None:
        """Nothing is made yet."""
        self.planted = dict[int, int]()
        """the number of each planted question and that of its original"""
        self.seconds = 0.0
        """that it took to make them"""


def questions(count: int, made: Made) -> Iterator[tuple[str, str]]:
    """Questions of 5 to 60 words; each tenth repeats one of its batch with another word in it."""
    for first in range(0, count, _BATCH):
        start = time.perf_counter()
        batch = questions_of_a_batch(first, min(_BATCH, count - first), made)
        made.seconds += time.perf_counter() - start
        yield from batch


def questions_of_a_batch(first: int, count: int, made: Made) -> Texts:
    """Some questions, which depend on the number of the first alone."""
    random = Random(first)
    lengths = [random.randint(_LEAST, _MOST) for _ in range(count)]
    words = iter(drawn(sum(lengths), np.random.default_rng(first)))
    texts = [[next(words) for _ in range(length)] for length in lengths]
    long = [i for i, text in enumerate(texts) if i % _TENTH and len(text) >= _LEAST_PLANTED]
    for i in range(_TENTH, count, _TENTH):
        earlier = [j for j in random.choices(long, k=8) if j < i] if long else []
        if earlier:
            texts[i] = replaced(texts[earlier[0]], 1, random)
            made.planted[first + i] = first + earlier[0]
    return [(str(first + i), " ".join(text)) for i, text in enumerate(texts)]


# ---- the two arms ----------------------------------------------------------------------------------------------------


def ours_on(texts: Texts) -> Counted:
    """What `clusters` makes of the documents."""
    start = time.perf_counter()
    placed = list(clusters(texts, THRESHOLD))
    seconds = time.perf_counter() - start
    duplicates = [row for row in placed if row.is_duplicate]
    found = sum(row.id == f"{row.cluster} again" for row in duplicates)
    return Counted(found, len(duplicates) - found, seconds)


def datasketch_on(texts: Texts) -> Counted | None:
    """What datasketch makes of them, used as its own guide says; None where it is not installed."""
    try:
        datasketch: Any = importlib.import_module("datasketch")
    except ModuleNotFoundError:
        return None
    start = time.perf_counter()
    index = datasketch.MinHashLSH(threshold=THRESHOLD, num_perm=128)
    duplicates = dict[str, list[str]]()
    for name, text in texts:
        words = tokens_of(text)
        minhash = datasketch.MinHash(num_perm=128)
        minhash.update_batch([" ".join(run).encode() for run in zip(*(words[i:] for i in range(LENGTH)), strict=False)])
        if near := index.query(minhash):
            duplicates[name] = near
        else:
            index.insert(name, minhash)
    seconds = time.perf_counter() - start
    found = sum(name.removesuffix(" again") in near for name, near in duplicates.items() if name.endswith(" again"))
    return Counted(found, len(duplicates) - found, seconds)


def _shown(counted: Counted) -> dict[str, Any]:
    return {"found": counted.found, "false": counted.false, "seconds": round(counted.seconds, 3)}


if __name__ == "__main__":
    main()
