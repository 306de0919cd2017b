"""Self-Refine: a model gives feedback on its own answer, and refines it, until it has nothing more to say.

Madaan et al., 2023 (arXiv:2303.17651). Here a round sees the last answer alone, and not those before it.
"""

from aligner.baselines.revising import Reviser
from aligner.errors import MisuseError
from aligner.models import load_model
from aligner.prompts import SELF_REFINE
from aligner.records import ChatModel

ROUNDS = 4
"""at the most, as published"""


def self_refine(model: ChatModel, *, rounds: int = ROUNDS) -> Reviser:
    """The model that refines its own answers in at most so many rounds, of two calls each."""
    if rounds < 0:
        raise MisuseError(f"there cannot be {rounds} rounds of refining")
    return Reviser(model, SELF_REFINE, ("",) * rounds)


def load(name: str) -> Reviser:
    """The model `self-refine:MODEL`."""
    if not name:
        raise MisuseError('"self-refine:" needs a model: self-refine:MODEL, as in self-refine:hf:FOLDER')
    return self_refine(load_model(name))
