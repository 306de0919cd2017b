"""Where an arm stands, what it began with, and what a round is held against."""

from collections.abc import Mapping
from typing import NamedTuple

from aligner.bootstrapping.lineage import Artefact


class Standing(NamedTuple):
    """How far an arm has come: an upstream, and what it says to the held-out prompts."""

    upstream: Artefact
    held_out: Artefact
    gates: tuple[Artefact, ...] = ()
    """what passed the gate in the rounds that led to it"""


class First(NamedTuple):
    """Round 0, which all rounds are held against."""

    standing: Standing
    corrections: Artefact
    """of what the first upstream says to the held-out prompts"""
    found: Artefact | None = None
    """what it was measured by; none while that is found out"""


class Beside(NamedTuple):
    """What a round made, and what it is held against; of round 0, all is its own."""

    made: Standing
    now: Standing
    """what the round began with"""
    first: First
    greedy: Artefact | None
    """what the upstream says to the held-out prompts without chance"""
    lesson: Artefact | None = None
    """what it has learnt; none in round 0"""

    @property
    def gate(self) -> Artefact | None:
        """What passed the gate in this round."""
        return self.made.gates[-1] if self.made.gates else None

    @property
    def hashes(self) -> Mapping[str, str]:
        """What all of it is."""
        named = {
            "model": self.made.upstream,
            "answers": self.made.held_out,
            "start": self.now.upstream,
            "accepted": self.now.held_out,
            "first": self.first.standing.upstream,
            "first_answers": self.first.standing.held_out,
            "first_corrections": self.first.corrections,
            "first_found": self.first.found,
            "greedy": self.greedy,
            "gate": self.gate,
            "lessons": self.lesson,
        }
        return {name: artefact.sha256 for name, artefact in named.items() if artefact}
