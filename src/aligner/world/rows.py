"""Rows of the closed world: a question, an upstream's answer, and the correction that a perfect editor would make."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from random import Random

from aligner.records import Triple
from aligner.world.families import CLOSERS, FAMILIES, OPENERS
from aligner.world.flaws import Draft, Flaw, can_have, replaces, spoil
from aligner.world.profiles import PROFILES, Profile
from aligner.world.questions import Asked, ask
from aligner.world.words import Split


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One answer of an upstream, with what is wrong in it."""

    asked: Asked
    answer: str
    correction: str
    flaws: tuple[Flaw, ...]
    profile: str

    @property
    def triple(self) -> Triple:
        """The row as training data."""
        return Triple(self.asked.text, self.answer, self.correction, ("world", self.profile, "world"))


def rows(profile: Profile, *, count: int, seed: int, split: Split) -> Iterator[Row]:
    """Random rows of one upstream; the same arguments give the same rows."""
    for i in range(count):
        yield _random_row(Random(f"{seed} {split} {profile.name} {i}"), profile, split)


def training_rows(*, count: int, seed: int) -> Iterator[Row]:
    """Rows of all upstreams that may be seen in training, in turn."""
    seen = [profile for profile in PROFILES.values() if profile.seen]
    streams = [rows(profile, count=count, seed=seed, split="seen") for profile in seen]
    for i in range(count):
        yield next(streams[i % len(streams)])


def held_out_rows(count: int, *, seed: int) -> list[Row]:
    """`count` answers of each upstream, seen and unseen, to questions with names that training never has."""
    drawn = (rows(profile, count=count, seed=seed, split="unseen") for profile in PROFILES.values())
    return [row for answers in drawn for row in answers]


def good_answer(random: Random, asked: Asked) -> Draft:
    """One of the good answers to a question."""
    return Draft(random.choice(OPENERS), random.choice(asked.family.answers), random.choice(CLOSERS), asked.values)


def answer(random: Random, profile: Profile, asked: Asked, *, split: Split = "unseen") -> Row:
    """What an upstream says to a question: spoilt at the profile's rate, where its flaws can spoil such answers."""
    flaws = _draw_flaws(random, profile)
    able = all(can_have(asked.family, flaw) for flaw in flaws)
    return _row(random, profile, asked, flaws=flaws if able else (), split=split)


def _random_row(random: Random, profile: Profile, split: Split) -> Row:
    flaws = _draw_flaws(random, profile)
    able = [family for family in FAMILIES if all(can_have(family, flaw) for flaw in flaws)]
    asked = ask(random, random.choice(able), split)
    return _row(random, profile, asked, flaws=flaws, split=split)


def _row(random: Random, profile: Profile, asked: Asked, *, flaws: tuple[Flaw, ...], split: Split) -> Row:
    draft = good_answer(random, asked)
    spoilt = spoil(random, asked, draft, flaws=flaws, split=split)
    # What took the place of a whole answer tells nothing of its form: the first form is then the correction.
    mended = replace(draft, parts=asked.family.answers[0]) if replaces(flaws) else draft
    return Row(asked=asked, answer=spoilt.text, correction=mended.text, flaws=flaws, profile=profile.name)


def _draw_flaws(random: Random, profile: Profile) -> tuple[Flaw, ...]:
    if random.random() >= profile.rate:
        return ()
    habits = list(profile.habits)
    return random.choices(habits, [profile.habits[habit] for habit in habits])[0]
