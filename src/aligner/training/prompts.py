"""Prompts that a model is sampled from while it learns, and whether the settings of that sampling go together."""

from typing import NamedTuple

from aligner.config.bootstrapping import RLArm, Sampling
from aligner.errors import MisuseError


class Prompt(NamedTuple):
    """What a model reads before it answers."""

    ids: tuple[int, ...]
    number: int
    """by which the reward knows the question"""


def check_sampled(how: RLArm, sampling: Sampling) -> None:
    """Raises MisuseError where answers cannot be compared with others to their prompt, or are never drawn."""
    if how.samples < 2:
        raise MisuseError(
            f"rl.samples = {how.samples}: an answer is compared with others to its prompt; choose 2 or more"
        )
    if how.batch < 1 or how.batch % how.samples:
        below = max(how.batch // how.samples, 1) * how.samples
        raise MisuseError(
            f"rl.batch = {how.batch}: a batch holds all {how.samples} answers to each of its prompts (rl.samples); "
            f"choose a multiple of {how.samples}, as {below}"
        )
    if sampling.temperature <= 0:
        raise MisuseError(
            f"sampling.temperature = {sampling.temperature:g}: all answers to a prompt are the same; choose one above 0"
        )
    if sampling.max_tokens < 1:
        raise MisuseError(
            f"sampling.max_tokens = {sampling.max_tokens}: an answer has a token at least; choose 1 or more"
        )
