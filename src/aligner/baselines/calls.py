"""The calls of a model that are made for one request: how each is drawn, and what they took together."""

from collections.abc import Iterable
from dataclasses import astuple, replace
from random import Random

from aligner.records import Completion, SamplingParams, Usage

_BITS = 31
"""of a seed; some servers take no more"""


def sampling_of(sampling: SamplingParams, call: int) -> SamplingParams:
    """How the call of that number, from 0, is drawn: the first as the request says, the others by seeds of their own.

    These come of the request's seed by a hash, since whoever asks many questions counts their seeds up: added up, they
    would be the seeds of the next questions. Without a seed none has one.
    """
    if call == 0 or sampling.seed is None:
        return sampling
    return replace(sampling, seed=Random(f"{sampling.seed} {call}").getrandbits(_BITS))


def usage_of(completions: Iterable[Completion]) -> Usage:
    """The tokens and passes of all of them, added up."""
    return Usage(*map(sum, zip(*(astuple(one.usage) for one in completions), strict=True)))
