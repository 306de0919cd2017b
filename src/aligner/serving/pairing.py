"""All upstreams and Aligners of a configuration, in pairs."""

from collections.abc import Mapping
from dataclasses import replace
from itertools import product
from typing import TypeVar, get_args

from aligner.config import Mode, NamedAligner, NamedUpstream, ServeConfig
from aligner.errors import MisuseError
from aligner.objectives import instruction_from
from aligner.serving.aliases import PREFIXES, Models
from aligner.serving.asking import Asking
from aligner.serving.breaker import Breaker
from aligner.serving.engine import Cause, Engine, EngineOptions, Gate
from aligner.serving.named import DEFAULT, Answering, Pair
from aligner.serving.proxy import Proxy
from aligner.serving.served import Policy
from aligner.serving.upstream import Upstream, Waits

P = TypeVar("P", bound=Proxy)
_CAUSES: tuple[Cause, ...] = get_args(Cause)
FAILS_OPEN: Mapping[str, Mapping[str, bool]] = {
    "helpful": dict.fromkeys(_CAUSES, True),
    "safety": dict.fromkeys(_CAUSES, False),
}
"""For each profile and cause of a failure, whether the original is sent, and not an error."""


def upstreams_of(config: ServeConfig, environ: Mapping[str, str], *, keys_are_ours: bool) -> Mapping[str, Upstream]:
    """All by their names, the first one first."""
    first = NamedUpstream(name=DEFAULT, url=config.upstream, key_env="ALIGNER_UPSTREAM_KEY")
    return {
        each.name: Upstream(
            each.url.rstrip("/"),
            environ.get(each.key_env, ""),
            # Where clients send a key of ours, it is none of the upstream's business.
            takes_client_key=not keys_are_ours,
            waits=Waits(between=config.patience),
            breaker=Breaker(config.failures, config.rest),
        )
        for each in (first, *config.upstreams)
    }


def engines_of(config: ServeConfig) -> Mapping[str, Engine]:
    """All by their names, the first one first."""
    first = NamedAligner(
        name=DEFAULT, aligner=config.aligner, instruction=config.instruction, objective=config.objective
    )
    return {
        each.name: Engine(
            EngineOptions(
                aligner=each.aligner,
                instruction=instruction_from(each.instruction, each.objective),
                device=config.device,
                rows=config.rows,
                waiting=config.waiting,
                seconds=config.seconds,
            )
        )
        for each in (first, *config.aligners)
    }


def pairs_of(
    config: ServeConfig, upstreams: Mapping[str, Upstream], aligners: Mapping[str, tuple[Engine, Breaker]]
) -> Mapping[tuple[str, str], Pair]:
    """Each upstream with each Aligner; raises MisuseError where one lacks the gate that is asked for."""
    allowed: list[Mode] = [mode for mode in PREFIXES.values() if mode in config.allow]
    models = {name: Models(upstream, allowed) for name, upstream in upstreams.items()}
    policy, timing = _policy(config), (config.open_after, config.heartbeat)
    pairs: dict[tuple[str, str], Pair] = {}
    for (upstream, one), (aligner, (engine, breaker)) in product(upstreams.items(), aligners.items()):
        gate = _gate(config, aligner, engine)
        proxy = Proxy(one, engine, policy, *timing, breaker)
        asking = Asking(
            one, engine, replace(policy, doubt=True), *timing, breaker, (upstream, aligner), logs=bool(config.log)
        )
        pairs[upstream, aligner] = Pair(
            upstream=upstream,
            aligner=aligner,
            proxy=proxy,
            models=models[upstream],
            modes=_modes(proxy, gate),
            asks=_asks(asking, gate),
        )
    return pairs


def _gate(config: ServeConfig, name: str, engine: Engine) -> Gate | None:
    """The gate of an Aligner, where there is mode gate: the one that is given, or else its own."""
    if "gate" not in {config.mode, *config.allow}:
        return None
    if config.gate is not None:
        return config.gate
    if engine.threshold is None:
        which = "the Aligner" if name == DEFAULT else f"the Aligner {name}"
        cure = "give --gate, a probability, or fit one by `aligner calibrate`"
        raise MisuseError(f"mode gate: {which} has no gate of its own; {cure}")
    return "own"


def _policy(config: ServeConfig) -> Policy:
    return Policy(
        truncated=config.truncated == "correct",
        json=config.json == "correct",
        broken=config.profile == "helpful",
        fails_open=FAILS_OPEN[config.profile].__getitem__,
    )


def _modes(proxy: Proxy, gate: Gate | None) -> Mapping[Mode, Answering]:
    return {"off": proxy.off, "shadow": proxy.shadow, "correct": proxy.correct, "gate": _gated(proxy, gate).correct}


def _asks(asking: Asking, gate: Gate | None) -> Mapping[Mode, Answering]:
    """The playground's modes; with no gate to speak of, there is none."""
    asks: Mapping[Mode, Answering] = {"off": asking.uncorrected, "shadow": asking.both, "correct": asking.both}
    return asks if gate is None else {**asks, "gate": _gated(asking, gate).both}


def _gated(proxy: P, gate: Gate | None) -> P:
    return replace(proxy, policy=replace(proxy.policy, gate=gate))
