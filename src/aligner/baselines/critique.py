"""Critique and revision: a model criticises its own answer by a principle, and revises it by its own critique.

Bai et al., 2022 (arXiv:2212.08073), who draw a principle for each round; ours go through all of them in turn.
"""

from collections.abc import Sequence

from aligner.baselines.revising import Reviser
from aligner.building.principles import Principles
from aligner.building.principles import load as load_principles
from aligner.errors import MisuseError
from aligner.models import load_model
from aligner.prompts import CRITIQUES
from aligner.records import ChatModel

_PRINCIPLES = ("helpful", "harmless", "honest")


def critique(model: ChatModel, principles: Sequence[str] = _PRINCIPLES) -> Reviser:
    """The model with our words: a critique and a revision, two calls, for each principle, by name or as a TOML file."""
    parts = load_principles(principles).of
    return Reviser(model, CRITIQUES["ours"], tuple(Principles((part,)).text for part in parts))


def published_critique(model: ChatModel, *, rounds: int = 1) -> Reviser:
    """The model with the published words, which name a principle of their own."""
    if rounds < 1:
        raise MisuseError(f"critique and revision take 1 round or more, not {rounds}")
    return Reviser(model, CRITIQUES["published"], ("",) * rounds)


def load(name: str) -> Reviser:
    """The model `critique:MODEL`, or `critique:published:MODEL`."""
    wording, _, rest = name.partition(":")
    published = wording == "published"
    model = rest if published else name
    if not model:
        raise MisuseError(f'"critique:{name}" needs a model: critique:MODEL, or critique:published:MODEL')
    return (published_critique if published else critique)(load_model(model))
