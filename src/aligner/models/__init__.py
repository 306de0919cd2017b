"""Language models reached by name."""

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import cast

from aligner.errors import unknown
from aligner.records import ChatModel

BACK_ENDS: Mapping[str, str] = {
    "best-of": "aligner.baselines.best_of:load",
    "critique": "aligner.baselines.critique:load",
    "echo": "aligner.models.echo:load",
    "hf": "aligner.models.hf:load",
    "openai": "aligner.models.openai:load",
    "replay": "aligner.models.replay:load",
    "rules": "aligner.models.rules:load",
    "self-refine": "aligner.baselines.self_refine:load",
    "world": "aligner.world.upstream:load",
}
"""What stands before the colon of a model's name, and the function that makes a model of what stands after it."""


def load_model(name: str) -> ChatModel:
    """The model of that name, ready to answer.

    `echo:`                         says again what the user said
    `hf:PATH_OR_HUB_ID`             a Hugging Face causal language model, in this process
    `openai:MODEL[@BASE_URL]`       any OpenAI-compatible server, by default the one OPENAI_BASE_URL names
    `replay:FILE[?question=FIELD&answer=FIELD]`   recorded answers, dots reach inside a field
    `rules:FILE`                    what the user said, rewritten by regular expressions
    `world:PROFILE`                 a simulated model of the closed world
    `best-of:N?judge=JUDGE&model=MODEL[&temperature=T]`   the best of N answers of a model, as a judge finds
    `critique:[published:]MODEL`    a model that criticises its own answers, and revises them
    `self-refine:MODEL`             a model that refines its own answers until it has nothing more to say of them

    Raises MisuseError for any other name, and what the back end raises when it cannot load.
    """
    prefix, colon, rest = name.partition(":")
    if not colon or prefix not in BACK_ENDS:
        raise unknown("model", name, [f"{known}:" for known in BACK_ENDS])
    module, function = BACK_ENDS[prefix].split(":")
    return cast("Callable[[str], ChatModel]", getattr(import_module(module), function))(rest)
