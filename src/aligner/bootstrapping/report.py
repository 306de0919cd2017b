"""The report of a study: one page that loads nothing, and the same figures as JSON and Markdown."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from aligner.bootstrapping.gains import Told, told_of
from aligner.bootstrapping.page import page, picture
from aligner.bootstrapping.rounds import ArmShown, RoundShown, arms_of, mean_curve
from aligner.bootstrapping.tables import tables_of
from aligner.bootstrapping.wording import Table, markdown
from aligner.config.bootstrapping import BootstrapConfig
from aligner.evaluating.figures import finite
from aligner.evaluating.figures import plain as as_plain
from aligner.evaluating.tables import CLOSED_WORLD
from aligner.files import write_json_atomic, write_text_atomic
from aligner.training.model_card import plain

__all__ = ["RoundShown", "write_report"]

_SETTINGS = (
    "upstream",
    "aligners",
    "prompts",
    "held_out",
    "judge",
    "audit_judge",
    "oracle",
    "rounds",
    "seeds",
    "guards",
)


def write_report(folder: Path, config: BootstrapConfig, rounds: Sequence[RoundShown]) -> None:
    """Write report.html, report.json, report.md and curves.svg; the same rounds give the same bytes.

    Raises OutputFileError.
    """
    arms, oracle = arms_of(config, rounds), any(one.found.good is not None for one in rounds)
    told = [told_of(shown, oracle=oracle) for shown in arms]
    tables = tables_of(arms, config.guards, oracle=oracle)
    write_json_atomic(folder / "report.json", _as_json(config, arms, told, oracle=oracle))
    write_text_atomic(folder / "report.md", _as_markdown(config, told, tables))
    write_text_atomic(folder / "curves.svg", picture(config, arms, oracle=oracle))
    write_text_atomic(folder / "report.html", page(config, arms, told, tables, oracle=oracle))


def _as_json(
    config: BootstrapConfig, arms: Sequence[ArmShown], told: Sequence[Told], *, oracle: bool
) -> Mapping[str, Any]:
    """All that the report tells."""
    firsts = {run.seed: run.first for shown in arms for run in shown.runs if run.first}
    rounds = [("", one) for one in firsts.values()] + [(a.arm.name, one) for a in arms for one in a.rounds]
    found = {
        "closed_world": config.oracle == "world",
        "settings": as_plain({name: getattr(config, name) for name in _SETTINGS}),
        "verdict": as_plain(told),
        "curves": [_curve(shown, config.guards.patience, oracle=oracle) for shown in arms],
        "rounds": [_round(arm, one) for arm, one in rounds],
    }
    return cast(Mapping[str, Any], finite(found))


def _curve(shown: ArmShown, patience: int, *, oracle: bool) -> Mapping[str, Any]:
    points = [
        {"round": mean.number, "seeds": mean.seeds, "figure": as_plain(mean.figure)}
        for mean in mean_curve(shown, patience, oracle=oracle)
    ]
    return {"arm": shown.arm.name, "of": "good" if oracle else "net_first", "points": points}


def _round(arm: str, one: RoundShown) -> Mapping[str, Any]:
    told = {name: value for name, value in as_plain(one).items() if name != "number"}
    return {**told, "arm": arm, "round": one.number}


def _as_markdown(config: BootstrapConfig, told: Sequence[Told], tables: Sequence[Table]) -> str:
    is_world = config.oracle == "world"
    head = [f"## Corrections teach the upstream{' (closed world)' if is_world else ''}"]
    head += [f"> {CLOSED_WORLD}"] if is_world else []
    verdicts = "\n".join(line for one in told for line in _lines(one))
    return "\n\n".join([*head, verdicts, *map(markdown, tables)]) + "\n"


def _lines(told: Told) -> Iterator[str]:
    yield f"- {plain(told.arm)}: {told.text}"
    yield from (f"  - {plain(caught)}" for caught in told.caught)
