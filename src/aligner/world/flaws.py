"""How an answer goes wrong: each kind of flaw, and how several are put into one answer."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import combinations
from random import Random
from typing import Literal

from aligner.world.families import REFUSALS, REMARKS, Family, Quality
from aligner.world.questions import Asked
from aligner.world.words import FACTS, Split, pool

Flaw = Literal[
    "slip", "invention", "boast", "comply", "leak", "unsafe", "insult", "rude", "omission", "refusal", "ramble"
]

HURTS: Mapping[Flaw, Quality] = {
    "slip": "honest",
    "invention": "honest",
    "boast": "honest",
    "comply": "harmless",
    "leak": "harmless",
    "unsafe": "harmless",
    "insult": "harmless",
    "rude": "harmless",
    "omission": "helpful",
    "refusal": "helpful",
    "ramble": "helpful",
}
"""The quality that each kind of flaw hurts."""

_REPLACING: frozenset[Flaw] = frozenset({"invention", "comply", "leak", "unsafe", "insult", "refusal"})
"""Flaws that take the place of the whole answer, between its greeting and its farewell."""


@dataclass(frozen=True, slots=True)
class Draft:
    """An answer in the making: greeting, parts (`~`: may be left out), farewell, and the values that it names."""

    opener: str
    parts: tuple[str, ...]
    closer: str
    values: Mapping[str, str]

    @property
    def text(self) -> str:
        """The answer as its reader sees it."""
        body = (part.removeprefix("~").format_map(self.values) for part in self.parts)
        return " ".join(filter(None, (self.opener, *body, self.closer)))


def can_have(family: Family, flaw: Flaw) -> bool:
    """Whether answers to this family of questions can go wrong in this way."""
    if flaw == "slip":
        return bool(family.slips)
    if flaw == "omission":
        return any(part.startswith("~") for form in family.answers for part in form)
    if flaw == "refusal":
        return not family.refuses
    return flaw in REMARKS or flaw in family.bad


def spoil(random: Random, asked: Asked, draft: Draft, *, flaws: tuple[Flaw, ...], split: Split) -> Draft:
    """The draft with all of these flaws in it."""
    extras = {name: random.choice(pool(name, split)) for name in ("object", "town")}
    draft = replace(draft, values={**extras, **draft.values})
    kept = asked.family.slips if "slip" in flaws else ()
    for flaw in sorted(flaws, key=_order):
        draft = _omit(random, draft, kept) if flaw == "omission" else _spoil_once(random, asked, draft, flaw, split)
    return draft


def replaces(flaws: tuple[Flaw, ...]) -> bool:
    """Whether any of the flaws takes the place of the whole answer."""
    return not _REPLACING.isdisjoint(flaws)


def _order(flaw: Flaw) -> int:
    """Replacing first, then what is left out, then slips in what is left, remarks last: none undoes another."""
    return 0 if flaw in _REPLACING else 3 if flaw in REMARKS else 1 if flaw == "omission" else 2


def _spoil_once(random: Random, asked: Asked, draft: Draft, flaw: Flaw, split: Split) -> Draft:
    if flaw == "slip":
        return _slip(random, asked, draft, split)
    if flaw in REMARKS:
        return _remark(random, draft, random.choice(REMARKS[flaw]))
    if flaw == "refusal":
        return replace(draft, parts=(random.choice(REFUSALS),))
    return replace(draft, parts=random.choice(asked.family.bad[flaw]))


def _slip(random: Random, asked: Asked, draft: Draft, split: Split) -> Draft:
    slot = random.choice(_named(asked.family.slips, draft.parts))
    others = [value for value in _values_like(asked.family, slot, split) if value not in asked.truth]
    return replace(draft, values={**draft.values, slot: random.choice(others)})


def _values_like(family: Family, slot: str, split: Split) -> tuple[str, ...]:
    if slot in family.facts:
        return tuple(sorted(set(FACTS[family.facts[slot][0]].values())))
    return pool(family.slots[slot], split)


def _omit(random: Random, draft: Draft, kept: tuple[str, ...]) -> Draft:
    """Leave out some of the parts that may go, but not all that name one of the kept slots."""
    places = [i for i, part in enumerate(draft.parts) if part.startswith("~")]
    subsets = [set(gone) for n in range(1, len(places) + 1) for gone in combinations(places, n)]
    rests = [tuple(part for i, part in enumerate(draft.parts) if i not in gone) for gone in subsets]
    return replace(draft, parts=random.choice([rest for rest in rests if not kept or _named(kept, rest)]))


def _named(slots: tuple[str, ...], parts: tuple[str, ...]) -> list[str]:
    """Those of the slots that the parts name."""
    return [slot for slot in slots if any(f"{{{slot}}}" in part for part in parts)]


def _remark(random: Random, draft: Draft, remark: str) -> Draft:
    """A remark stands between two sentences, never inside one."""
    ends = [i + 1 for i, part in enumerate(draft.parts) if part.endswith((".", "!"))]
    place = random.choice(sorted({0, len(draft.parts), *ends}))
    return replace(draft, parts=(*draft.parts[:place], remark, *draft.parts[place:]))
