"""Settings of a study that contradict themselves or one another, told before anything is loaded."""

from collections.abc import Iterator, Mapping
from pathlib import Path

from aligner.bootstrapping.arms import of_arms
from aligner.bootstrapping.naming import folder_of_judge, model_of
from aligner.bootstrapping.questions import WORLD
from aligner.config import BootstrapConfig
from aligner.correcting.writers import WRITERS
from aligner.errors import MisuseError, unknown
from aligner.planning.checking import JUDGES, above, check_file, is_path, least, of_lora, shares

_NEEDED = {
    "upstream": "who is taught",
    "prompts": "what is asked",
    "held_out": "on what it is measured",
    "judge": "who decides",
}
_LEAST = {
    **dict.fromkeys(("rounds", "passes", "batch", "save_every"), 1),
    **dict.fromkeys(("prompts_per_round", "audit", "max_overlap"), 0),
    "max_length": 2,
}
_MOST_ROUNDS, _MOST_SEED = 999, 4_294_966
"""1,000 seeds are each seed's own, one for each of its rounds, and numpy takes none from 2**32 on"""
_BOUNDS = ("chosen", "shortest", "longest", "kl", "refusals", "patience")


def check(config: BootstrapConfig) -> None:
    """Raise MisuseError for the first setting that cannot be meant, with what it would have to be."""
    for problem in _problems(config):
        raise MisuseError(problem)
    for name in config.aligners:
        _check_aligner(name)
    for judge in filter(None, (config.judge, config.audit_judge)):
        _check_judge(judge)
    for source in (config.prompts, config.held_out, config.mix.original):
        if source and not str(source).startswith(WORLD):
            check_file(Path(source))


def upstream_of(config: BootstrapConfig, seed: int) -> str:
    """The name of the first upstream of a seed."""
    return config.upstream.replace("{seed}", str(seed))


def _problems(config: BootstrapConfig) -> Iterator[str]:
    for name, what in _NEEDED.items():
        if not getattr(config, name):
            yield f"--{name.replace('_', '-')} is missing: say {what}"
    yield from _of_numbers(config)
    yield from _of_sampling(config)
    yield from _of_learning(config)
    yield from _of_guards(config)
    yield from of_arms(config.arms, config.sampling)
    yield from _of_seeds(config)
    yield from _of_judges(config)


def _of_numbers(config: BootstrapConfig) -> Iterator[str]:
    for name, bound in _LEAST.items():
        yield from least(bound, _flagged("", {name: getattr(config, name)}))
    if config.rounds > _MOST_ROUNDS:
        yield f"--rounds is {config.rounds}; it must be at most {_MOST_ROUNDS}"
    if not isinstance(config.aligner_gate, str):
        yield from shares({"--aligner-gate": config.aligner_gate})


def _of_sampling(config: BootstrapConfig) -> Iterator[str]:
    how = config.sampling
    yield from least(0, _flagged("sampling.", {"temperature": how.temperature, "top_k": how.top_k}))
    yield from above(0, {"--sampling.top-p": how.top_p})
    yield from shares({"--sampling.top-p": how.top_p})
    yield from least(1, {"--sampling.max-tokens": how.max_tokens})


def _of_learning(config: BootstrapConfig) -> Iterator[str]:
    """What is learnt, and with which weights."""
    gate, mix = config.gate, config.mix
    if not gate.qualities or len(set(gate.qualities)) < len(gate.qualities):
        yield "--gate.qualities are one or more that differ"
    yield from shares({"--gate.min-edit": gate.min_edit})
    yield from least(0, _flagged("mix.", {"earlier": mix.earlier, "original_share": mix.original_share}))
    if mix.original_share and not mix.original:
        yield f"--mix.original-share is {mix.original_share:g}, but of what? Give --mix.original"
    yield from of_lora(config.lora)
    if config.lora.bits != 16:
        yield "--lora.bits is 4: an upstream is taught in full precision, as it is merged after each round; choose 16"


def _of_guards(config: BootstrapConfig) -> Iterator[str]:
    guards = config.guards
    yield from least(0, _flagged("guards.", {name: getattr(guards, name) for name in _BOUNDS}))
    if guards.shortest and guards.longest and not guards.shortest <= guards.longest:
        yield f"--guards.shortest is {guards.shortest:g}, more than --guards.longest, {guards.longest:g}"


def _of_seeds(config: BootstrapConfig) -> Iterator[str]:
    if not config.seeds or len(set(config.seeds)) < len(config.seeds):
        yield "--seeds are one or more numbers that differ"
    for seed in config.seeds:
        if not 0 <= seed <= _MOST_SEED:
            yield f"--seeds: {seed} is none; each is from 0 to {_MOST_SEED:,}"
        name = upstream_of(config, seed)
        if is_path(name) and not Path(name).expanduser().is_dir():
            yield f"--upstream {name}: no such directory"


def _of_judges(config: BootstrapConfig) -> Iterator[str]:
    if not config.aligners:
        yield "--aligners are none: nobody would correct"
    judges = {"--judge": config.judge, "--audit-judge": config.audit_judge}
    annotators = {model_of(name) for name in config.aligners}
    for flag, name in judges.items():
        if name and model_of(name) in annotators:
            yield f"{flag} {name}: who corrects cannot be who judges; choose another"
    if config.audit_judge and model_of(config.judge) == model_of(config.audit_judge):
        yield f"--audit-judge {config.audit_judge}: is the judge itself; choose another"


def _check_aligner(name: str) -> None:
    kind, colon, rest = name.partition(":")
    place = Path(name).expanduser()
    if colon and not place.exists():
        if kind not in WRITERS:
            raise unknown("kind of Aligner", kind, WRITERS)
        if kind == "rules" and not Path(rest).is_file():
            raise MisuseError(f"--aligners {name}: no such file")
    elif is_path(name) and not place.is_dir():
        raise MisuseError(f"--aligners {name}: no such directory")


def _check_judge(name: str) -> None:
    kind, colon, rest = name.partition(":")
    if not colon or kind not in JUDGES:
        raise unknown("judge", name, [f"{known}:" for known in JUDGES])
    is_local = kind == "truth" or (kind in ("hf", "reward") and is_path(rest.partition("?")[0]))
    if is_local and folder_of_judge(name) is None:
        raise MisuseError(f"the judge {name}: no such directory")


def _flagged(prefix: str, values: Mapping[str, float]) -> Mapping[str, float]:
    """Values by their flags."""
    return {f"--{prefix}{name}".replace("_", "-"): value for name, value in values.items()}
