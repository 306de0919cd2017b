"""Who answers in batches, what a batch file may hold, and how far the batches are."""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple, Self

from aligner.building.spending import Prices
from aligner.errors import MisuseError
from aligner.models.openai import hosted
from aligner.models.server import Server

Say = Callable[[str], None]
"""takes one line for the user"""


@dataclass(frozen=True, slots=True, kw_only=True)
class FileLimits:
    """What one batch file may hold; the defaults are those of OpenAI."""

    requests: int = 50_000
    size: int = 200_000_000
    """bytes"""


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchEndpoint:
    """A server with a Batch API, as OpenAI's."""

    name: str
    """of the upstream or annotator, as the ledger has it"""
    model: str
    """what the server calls it"""
    server: Server
    """its URL is the base URL, often ending in /v1"""
    prices: Prices
    """what a batch costs: with the share of the full price"""
    limits: FileLimits = FileLimits()
    path: str = "/v1/chat/completions"
    """what each line of a file asks for"""
    wait: float = 0.0
    """seconds to wait for batches that are not done; 0 looks once"""
    poll: float = 30.0
    """seconds between two looks"""
    settle: float = 5.0
    """seconds until a batch that a server has taken can be found in its list"""
    attempts: int = 6
    """of one call, where what went wrong may pass"""

    @classmethod
    def of(cls, name: str, model: str, prices: Prices, environ: Mapping[str, str] = os.environ) -> Self:
        """The endpoint of `openai:MODEL[@BASE_URL]`; MisuseError for any other model.

        What else it has is set by `dataclasses.replace`.
        """
        kind, _, told = model.partition(":")
        if kind != "openai":
            raise MisuseError(f'{name}: only "openai:" models have a Batch API, not "{kind}:"; use calling = "files"')
        served, server = hosted(told, environ, path="")
        return cls(name=name, model=served, server=server, prices=prices)


@dataclass(frozen=True, slots=True, kw_only=True)
class FilesEndpoint:
    """An offline engine that reads batch files, as `vllm run-batch`."""

    name: str
    """of the upstream or annotator, as the ledger has it"""
    model: str
    """what the engine calls it"""
    prices: Prices
    limits: FileLimits = FileLimits()
    path: str = "/v1/chat/completions"
    """what each line of a file asks for"""

    @classmethod
    def of(cls, name: str, model: str, prices: Prices) -> Self:
        """The endpoint of `KIND:MODEL[@BASE_URL]`: the engine is asked for MODEL."""
        told = model.partition(":")[2] or model
        return cls(name=name, model=told.partition("@http")[0], prices=prices)


class Progress(NamedTuple):
    """How far the batches of one endpoint are; requests are counted."""

    todo: int = 0
    """in no batch, since no more may be spent, or since another process is at it"""
    waiting: int = 0
    """in batches that are not done"""
    done: int = 0
    """collected in this run"""
    failed: int = 0
    """collected in this run, without a reply"""
    files: int = 0
    """batch files that are not done"""
    unpaid: bool = False
    """whether what is todo costs more than may be spent"""
