"""The upstreams and Aligners that are there by name, and what each pair of them does with a request."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from aligner.config import Mode
from aligner.serving.aliases import Models
from aligner.serving.breaker import State
from aligner.serving.client import Client
from aligner.serving.proxy import Proxy
from aligner.serving.served import Served
from aligner.serving.upstream import Headers
from aligner.serving.wire import WireError

DEFAULT = "default"
"""the name of the first upstream and of the first Aligner"""
Answering = Callable[[Client, Served, Headers], Awaitable[None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """An upstream and an Aligner."""

    upstream: str
    aligner: str
    proxy: Proxy
    models: Models
    """the upstream's"""
    modes: Mapping[Mode, Answering]
    """what is done with a request in each mode"""
    asks: Mapping[Mode, Answering]
    """the same for the playground, which sees both texts"""


@dataclass(frozen=True, slots=True)
class Named:
    """All pairs; the first is the default."""

    pairs: Mapping[tuple[str, str], Pair]

    @property
    def default(self) -> Pair:
        """Who answers when nobody is named."""
        return next(iter(self.pairs.values()))

    @property
    def upstreams(self) -> Mapping[str, Pair]:
        """Each upstream by its name, with the first Aligner."""
        return {pair.upstream: pair for pair in self.pairs.values() if pair.aligner == DEFAULT}

    @property
    def aligners(self) -> Mapping[str, Pair]:
        """Each Aligner by its name, with the first upstream."""
        return {pair.aligner: pair for pair in self.pairs.values() if pair.upstream == DEFAULT}

    def pair(self, upstream: object, aligner: object) -> Pair:
        """Those of these names, or else the first; raises WireError, 400, for what is no name here, such as a URL."""
        if upstream is None and aligner is None:
            return self.default
        for kind, name, known in (("upstream", upstream, self.upstreams), ("aligner", aligner, self.aligners)):
            if name is not None and (not isinstance(name, str) or name not in known):
                raise WireError(400, f'"{kind}" is none of {", ".join(known)}', f"unknown_{kind}", param=kind)
        return self.pairs[str(upstream or DEFAULT), str(aligner or DEFAULT)]

    @property
    def waiting(self) -> int:
        """Answers that wait for their corrections."""
        return sum(pair.proxy.engine.waiting for pair in self.aligners.values())

    @property
    def alive(self) -> bool:
        """Whether every Aligner is there."""
        return all(pair.proxy.engine.alive for pair in self.aligners.values())

    @property
    def breakers(self) -> Mapping[str, State]:
        """The state of each breaker, by what it is before."""
        upstreams = {_told("upstream", name): pair.proxy.upstream.breaker for name, pair in self.upstreams.items()}
        aligners = {_told("aligner", name): pair.proxy.breaker for name, pair in self.aligners.items()}
        return {name: breaker.state for name, breaker in {**upstreams, **aligners}.items()}


def _told(kind: str, name: str) -> str:
    return kind if name == DEFAULT else f"{kind} {name}"
