"""Splits that no question and no conversation crosses."""

import hashlib
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from aligner.errors import MisuseError
from aligner.records import Triple, as_messages


class Split(NamedTuple):
    """Rows to learn from, and rows to measure on."""

    training: list[Triple]
    held_out: list[Triple]


def hold_out(triples: Sequence[Triple], count: int, *, seed: int) -> Split:
    """About `count` rows kept apart by a hash, so that no question and no conversation is in both parts.

    The order of the rows stays. Raises MisuseError when nothing would be left to learn from.
    """
    groups = _groups([_key(row, seed) for row in triples], triples)
    chosen, found = set[str](), 0
    sizes = Counter(groups)
    # A group larger than all that is wanted comes last: otherwise one busy conversation could be the whole of it.
    for group in sorted(sizes, key=lambda group: (sizes[group] > count, group)):
        if found >= count:
            break
        chosen.add(group)
        found += sizes[group]
    split = Split([], [])
    for group, row in zip(groups, triples, strict=True):
        (split.held_out if group in chosen else split.training).append(row)
    if not split.training or count > len(triples):
        raise MisuseError(f"{len(triples)} triples are too few to hold out {count} of them; lower --held-out")
    return split


def _groups(keys: Sequence[str], triples: Sequence[Triple]) -> list[str]:
    """For each row the name of its group: rows that share a question or a conversation, also through other rows."""
    parents: dict[str, str] = {}

    def root(name: str) -> str:
        parents.setdefault(name, name)
        while parents[name] != name:
            parents[name] = name = parents[parents[name]]
        return name

    for key, row in zip(keys, triples, strict=True):
        if row.conversation:
            parents[root(key)] = root(f"conversation {row.conversation}")
    names = dict(_names((root(key), key) for key in keys))
    return [names[root(key)] for key in keys]


def _names(members: Iterator[tuple[str, str]]) -> Iterator[tuple[str, str]]:
    """Groups with their names: a hash of their questions, and for a single question its own."""
    questions: dict[str, set[str]] = {}
    for group, key in members:
        questions.setdefault(group, set()).add(key)
    for group, keys in questions.items():
        # The least hash of many would often be very small, and large groups would be held out more often than others.
        yield group, _hash(sorted(keys)) if len(keys) > 1 else keys.pop()


def _key(row: Triple, seed: int) -> str:
    return _hash([str(seed), *(f"{message.role}\0{message.content}" for message in as_messages(row.question))])


def _hash(parts: Sequence[str]) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()
