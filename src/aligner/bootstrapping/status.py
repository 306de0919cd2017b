"""How far a study is, as a tree; that it is being written meanwhile does not matter."""

import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console
from rich.text import Text
from rich.tree import Tree

from aligner.bootstrapping.lineage import DONE
from aligner.bootstrapping.parents import json_in, records_in
from aligner.bootstrapping.rounds import has_ended
from aligner.config import BootstrapConfig, read_config
from aligner.errors import MisuseError, visible

_FIRST = "first"
_AT_WORK = re.compile(r"\.([a-z_]+)-[0-9a-f]{12}")
_ROUND = re.compile(r"round-([0-9]+)")
_STYLES = {"accepted": "green", "measured": "green", "rolled back": "red"}
_SHORT = 12
_UNBROKEN = 10_000
"""a width that no line has"""


class State(NamedTuple):
    """How far a round is: accepted, rolled back, measured (round 0), not begun, or where it is."""

    name: str
    why: str = ""


class Planned(NamedTuple):
    """What is wanted of a study, and what else lies in its folder."""

    arms: Iterable[str]
    seeds: Iterable[int]
    rounds: int | None
    patience: int
    """rounds rolled back in a row after which an arm ends; 0: it never does"""


def show_tree(folder: Path) -> None:
    """Print the tree; where standard output is no terminal, without colours and one line for each round.

    Raises MisuseError where no study is.
    """
    Console(highlight=False, width=None if sys.stdout.isatty() else _UNBROKEN).print(tree(folder))


def tree(folder: Path) -> Tree:
    """The study, its arms, their seeds, and their rounds: how far each is, what it found, and of what it came."""
    planned, shown = _planned(folder), Tree(_text(str(folder)))
    for name in (_FIRST, *planned.arms):
        arm = shown.add(_text(name))
        for seed in planned.seeds:
            _add_seed(arm, folder / name / f"seed-{seed}", planned)
    return shown


def state_of(folder: Path) -> State:
    """How far a round is."""
    verdict, records = json_in(folder / DONE), records_in(folder)
    if folder.parent.name == _FIRST and "evaluation" in records:
        return State("measured")
    if "accepted" in verdict:
        return State("accepted") if verdict["accepted"] else State("rolled back", str(verdict.get("why", "")))
    at_work = [found[1] for name in _names_in(folder) if (found := _AT_WORK.fullmatch(name))]
    if at_work:
        return State(f"at {_words(at_work[0])}")
    return State(f"after {_words(list(records)[-1])}" if records else "not begun")


def _planned(folder: Path) -> Planned:
    """What config.toml wants, and what lies there besides."""
    config = _config_in(folder)
    found = [path for path in folder.glob("*/seed-*") if path.name.removeprefix("seed-").removeprefix("-").isdecimal()]
    if config is None and not found:
        raise MisuseError(f"{folder}: no study here; it begins with aligner bootstrap CONFIG.toml")
    arms = [arm.name for arm in config.arms] if config else []
    seeds = {int(path.name.removeprefix("seed-")) for path in found}
    return Planned(
        arms=list(dict.fromkeys([*arms, *sorted({path.parent.name for path in found} - {_FIRST})])),
        seeds=list(dict.fromkeys([*(config.seeds if config else ()), *sorted(seeds)])),
        rounds=config.rounds if config else None,
        patience=config.guards.patience if config else 0,
    )


def _config_in(folder: Path) -> BootstrapConfig | None:
    path = folder / "config.toml"
    try:
        return read_config(BootstrapConfig, path) if path.is_file() else None
    except MisuseError as error:
        raise MisuseError(f"{folder}: no study here: {error}") from error


def _add_seed(arm: Tree, folder: Path, planned: Planned) -> None:
    label = folder.name.replace("-", " ", 1)
    if folder.parent.name == _FIRST:
        _add_round(arm, label, folder)
        return
    numbered = sorted((int(found[1]), found[0]) for name in _names_in(folder) if (found := _ROUND.fullmatch(name)))
    states = [state_of(folder / name).name for _, name in numbered]
    counts = [f"{states.count(name)} {name}" for name in ("accepted", "rolled back") if name in states]
    wanted = "" if planned.rounds is None else f" of {planned.rounds} wanted"
    ended = "; it has ended" if has_ended([name != "rolled back" for name in states], planned.patience) else ""
    seed = arm.add(_text(f"{label}: {', '.join(counts) or 'no round done'}{wanted}{ended}"))
    for number, name in numbered:
        _add_round(seed, f"round {number}", folder / name)


def _add_round(above: Tree, label: str, folder: Path) -> None:
    state, records = state_of(folder), records_in(folder)
    line = _text(f"{label}: ").append(state.name, _STYLES.get(state.name, ""))
    for told in (*_figures(folder, records), *_hashes(records)):
        line.append_text(_text(f"; {told}"))
    one = above.add(line)
    if state.why:
        one.add(_text(state.why))


def _figures(folder: Path, records: Mapping[Any, Mapping[str, Any]]) -> Iterator[str]:
    """The oracle's share of good answers, and where there is no oracle the judge's net rate."""
    kept = json_in(folder / records["evaluation"]["artefact"]) if "evaluation" in records else {}
    found: Mapping[str, Any] = kept.get("found", {})
    net: Mapping[str, Any] = found.get("net", {})
    if found.get("good"):
        yield _percent(found["good"], "{:.1f} % good [{:.1f}, {:.1f}]")
    elif "all" in net:
        yield _percent(net["all"], "net rate {:+.1f} % [{:+.1f}, {:+.1f}]")


def _percent(ends: Iterable[float], words: str) -> str:
    return words.format(*(100 * end for end in ends))


def _hashes(records: Mapping[Any, Mapping[str, Any]]) -> Iterator[str]:
    """The upstream that went in, and the one that came out."""
    given = (str(record["from"]["upstream"]) for record in records.values() if "upstream" in record["from"])
    upstream = next(given, "")[:_SHORT]
    model = records["model"]["sha256"][:_SHORT] if "model" in records else ""
    if upstream or model:
        yield " → ".join(part for part in (f"upstream {upstream}" if upstream else "", model) if part)


def _names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []


def _words(step: str) -> str:
    return step.replace("_", " ")


def _text(line: str) -> Text:
    return Text(visible(line))
