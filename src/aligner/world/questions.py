"""Questions of the closed world: asked at random, and read back from their text."""

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from random import Random

from aligner.world.families import FAMILIES, Family
from aligner.world.words import FACTS, POOLS, Split, pool


@dataclass(frozen=True, slots=True)
class Asked:
    """A question of the closed world, and what its slots hold, facts included."""

    family: Family
    values: Mapping[str, str]
    text: str

    @property
    def truth(self) -> frozenset[str]:
        """Every value that a good answer may name."""
        return frozenset(self.values.values())


def ask(random: Random, family: Family, split: Split) -> Asked:
    """A random question; `unseen` draws names that no seen question has, and any phrasing."""
    values: dict[str, str] = {}
    for slot, name in family.slots.items():
        values[slot] = _draw(random, pool(name, split), other_than=values.values())
    phrasings = family.questions if split == "unseen" else family.questions[:-1]
    return _asked(family, values, random.choice(phrasings).format_map(values))


def read_question(text: str) -> Asked | None:
    """The question that a text asks, or none if the closed world does not know it."""
    for family, pattern in _patterns():
        if match := pattern.fullmatch(text):
            return _asked(family, {slot: match[slot] for slot in family.slots}, text)
    return None


def _draw(random: Random, members: Sequence[str], *, other_than: Collection[str]) -> str:
    while (member := random.choice(members)) in other_than:
        pass
    return member


def _asked(family: Family, values: Mapping[str, str], text: str) -> Asked:
    facts = {slot: FACTS[fact][values[key]] for slot, (fact, key) in family.facts.items()}
    return Asked(family, {**values, **facts}, text)


@cache
def _patterns() -> tuple[tuple[Family, re.Pattern[str]], ...]:
    return tuple((family, _pattern(family, phrasing)) for family in FAMILIES for phrasing in family.questions)


def _pattern(family: Family, phrasing: str) -> re.Pattern[str]:
    """A phrasing as a pattern; a slot that stands twice must hold the same twice."""
    parts: list[str] = []
    bound: set[str] = set()
    for i, part in enumerate(re.split(r"\{(\w+)\}", phrasing)):
        if not i % 2:
            parts.append(re.escape(part))
        elif part in bound:
            parts.append(f"(?P={part})")
        else:
            bound.add(part)
            parts.append(f"(?P<{part}>{_any_of(family.slots[part])})")
    return re.compile("".join(parts))


@cache
def _any_of(name: str) -> str:
    return "|".join(re.escape(member) for member in sorted(POOLS[name], key=len, reverse=True))
