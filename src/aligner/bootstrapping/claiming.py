"""What a study is, written down in its folder, which then takes no other."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import tomli_w

from aligner.bootstrapping.arms import of_names
from aligner.bootstrapping.artefacts import plain
from aligner.bootstrapping.parents import has_begun
from aligner.config import BootstrapConfig, read_config, read_toml
from aligner.errors import MisuseError
from aligner.files import write_text_atomic

_CONFIG, _DATA = "config.toml", "data.toml"
_FREE = ("stage", "out", "rounds", "device", "batch", "save_every", "arms", "seeds")
"""fields that say how far and where a study goes, and not what it finds; arms and seeds are only ever added.

What is found depends on the batch no more than on the device: where two tokens are as likely but for rounding.
"""
_CHANGED = {
    "held_out": "--held-out has other questions now",
    "prompts": "--prompts has other questions now",
    "upstream": "--upstream is another model now",
    "aligner": "--aligners has another model now",
    "judge": "--judge is another model now",
    "audit_judge": "--audit-judge is another model now",
    "original": "--mix.original has other rows now",
}


def known_in(config: BootstrapConfig) -> BootstrapConfig:
    """The study that the folder will hold: all arms and seeds that it has had or gets now, and the most rounds.

    Nothing is written. Raises MisuseError where rounds of another study lie there, and for a foreign config.toml.
    """
    path, wanted = config.out / _CONFIG, replace(config, stage="run")
    if not path.exists():
        return wanted
    known = read_config(BootstrapConfig, path)
    if not has_begun(config.out):
        return wanted
    _check_same(path, known, config)
    arms = {arm.name: arm for arm in (*known.arms, *config.arms)}
    for problem in of_names(list(arms)):
        raise MisuseError(problem)
    return replace(
        wanted,
        arms=tuple(arms.values()),
        seeds=tuple(dict.fromkeys((*known.seeds, *config.seeds))),
        rounds=max(known.rounds, config.rounds),
    )


def claim(known: BootstrapConfig, stamps: Mapping[str, str]) -> None:
    """Write down what `known_in` found, and what tells whether questions and models are still the same.

    Raises MisuseError for one that is not what it was, and then writes nothing.
    """
    path = known.out / _CONFIG
    data = {**_same_in(known.out / _DATA, stamps), **stamps} if has_begun(known.out) else stamps
    if not path.exists() or read_config(BootstrapConfig, path) != known:
        write_text_atomic(path, tomli_w.dumps(_without_none(plain(known))))
    text = tomli_w.dumps(data)
    if not (known.out / _DATA).exists() or (known.out / _DATA).read_text(encoding="utf-8") != text:
        write_text_atomic(known.out / _DATA, text)


def _same_in(path: Path, stamps: Mapping[str, str]) -> Mapping[str, str]:
    """What a study began with; raises MisuseError for the first that is another now."""
    known = cast("dict[str, str]", read_toml(path)) if path.exists() else {}
    for name, stamp in stamps.items():
        if known.get(name, stamp) != stamp:
            kind, _, which = name.partition(" ")
            cure = "bring back what the study began with, or choose another --out"
            raise MisuseError(f"{path}: {_CHANGED[kind]}{f' ({name})' if which else ''}; {cure}")
    return known


def _check_same(path: Path, known: BootstrapConfig, config: BootstrapConfig) -> None:
    arms = {arm.name: arm for arm in config.arms}
    both = [(arm, arms[arm.name]) for arm in known.arms if arm.name in arms]
    changes = [*_differences(_claimed(known), _claimed(config), "")]
    for was, now in both:
        changes += _differences(_flat(plain(was), ""), _flat(plain(now), ""), f'arm "{was.name}": ')
    if changes:
        raise MisuseError(f"{path}: the folder holds another study ({'; '.join(changes)}); choose another --out")


def _differences(was: Mapping[str, object], now: Mapping[str, object], where: str) -> Iterator[str]:
    for name in sorted({*was, *now}):
        if was.get(name) != now.get(name):
            yield f"{where}{name} was {was.get(name)}, now {now.get(name)}"


def _claimed(config: BootstrapConfig) -> Mapping[str, object]:
    """Each setting of all arms that decides what a study finds, under its whole name."""
    return _flat({name: value for name, value in plain(config).items() if name not in _FREE}, "")


def _flat(table: Mapping[str, Any], prefix: str) -> Mapping[str, object]:
    found: dict[str, object] = {}
    for name, value in table.items():
        inner = cast("dict[str, Any]", value) if isinstance(value, dict) else None
        found |= {f"{prefix}{name}": value} if inner is None else _flat(inner, f"{prefix}{name}.")
    return found


def _without_none(table: Mapping[str, Any]) -> dict[str, Any]:
    """A table as TOML can hold it."""
    kept = {name: value for name, value in table.items() if value is not None}
    return {
        name: _without_none(cast("Any", value)) if isinstance(value, dict) else value for name, value in kept.items()
    }
