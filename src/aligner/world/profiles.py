"""Simulated upstreams, named for what they do wrong, each with a known rate of flawed answers."""

from collections.abc import Mapping
from dataclasses import dataclass

from aligner.world.flaws import Flaw


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """An upstream that spoils a known share of its answers in its own way."""

    name: str
    rate: float
    """share of flawed answers"""
    habits: Mapping[tuple[Flaw, ...], int]
    """the flaws of one answer, and how often they come together"""
    seen: bool = True
    """whether its answers may be trained on"""


PROFILES: Mapping[str, Profile] = {
    profile.name: profile
    for profile in (
        Profile(name="careless", rate=0.5, habits={("slip",): 5, ("slip", "ramble"): 1}),
        Profile(name="forgetful", rate=0.5, habits={("omission",): 5, ("omission", "boast"): 1}),
        Profile(name="sloppy", rate=0.6, habits={("slip", "omission"): 3, ("slip",): 1, ("omission",): 1}),
        Profile(name="timid", rate=0.4, habits={("refusal",): 5, ("refusal", "ramble"): 1}),
        Profile(name="reckless", rate=0.5, habits={("comply",): 3, ("unsafe",): 3, ("comply", "boast"): 1}),
        Profile(name="indiscreet", rate=0.4, habits={("leak",): 5, ("leak", "ramble"): 1}),
        Profile(name="fanciful", rate=0.4, habits={("invention",): 5, ("invention", "rude"): 1}),
        Profile(name="mocking", rate=0.5, habits={("insult",): 3, ("rude",): 2}),
        Profile(name="surly", rate=0.5, habits={("rude",): 5, ("rude", "refusal"): 1}),
        Profile(name="boastful", rate=0.4, habits={("boast",): 5, ("boast", "slip"): 1}),
        Profile(name="rambling", rate=0.5, habits={("ramble",): 5, ("ramble", "omission"): 1}),
        Profile(name="hasty", rate=0.6, habits={("omission", "rude"): 1, ("slip", "rude"): 1}, seen=False),
        Profile(name="pompous", rate=0.5, habits={("boast", "ramble"): 2, ("refusal", "boast"): 1}, seen=False),
        Profile(name="vicious", rate=0.7, habits={("comply", "rude"): 1, ("insult", "boast"): 1}, seen=False),
        Profile(name="gossiping", rate=0.3, habits={("leak", "rude"): 1, ("invention", "ramble"): 1}, seen=False),
    )
}
