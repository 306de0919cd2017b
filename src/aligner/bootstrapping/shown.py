"""What a study has found so far, read from its folder."""

from collections.abc import Iterator, Mapping
from math import nan
from pathlib import Path
from typing import Any

from aligner.bootstrapping.auditing import audited_by_people
from aligner.bootstrapping.gating import fates, gated_in
from aligner.bootstrapping.guarding import verdict_of
from aligner.bootstrapping.lineage import Artefact, Lineage
from aligner.bootstrapping.measuring import found_of
from aligner.bootstrapping.nouns import Found
from aligner.bootstrapping.parents import json_in, records_in
from aligner.bootstrapping.rounds import RoundShown
from aligner.bootstrapping.study import Study
from aligner.bootstrapping.weighing import audit_file
from aligner.errors import InputFileError

_NOTHING = Found(None, None, {}, {}, nan, nan, nan, nan, nan)
"""of a round in which nothing was learnt"""


def shown_in(study: Study) -> list[RoundShown]:
    """The rounds that are done, of all arms and seeds that the study ever had; round 0 of each seed first."""
    return [*_firsts(study), *_rounds(study)]


def _firsts(study: Study) -> Iterator[RoundShown]:
    for seed in study.known.seeds:
        yield from _shown(study.first(seed), "", seed, 0)


def _rounds(study: Study) -> Iterator[RoundShown]:
    for arm in study.known.arms:
        for seed in study.known.seeds:
            for number in range(1, study.known.rounds + 1):
                lineage = study.round(arm, seed, number)
                if lineage.verdict:
                    yield from _shown(lineage, arm.name, seed, number)


def _shown(lineage: Lineage, arm: str, seed: int, number: int) -> Iterator[RoundShown]:
    evaluation, records = lineage.artefact("evaluation"), records_in(lineage.folder)
    if evaluation is None and not number:
        return
    kept, gate = json_in(evaluation.path) if evaluation else {}, lineage.artefact("gate")
    yield RoundShown(
        arm=arm,
        seed=seed,
        number=number,
        found=found_of(kept["found"]) if kept else _NOTHING,
        verdict=verdict_of(lineage.verdict or kept["verdict"]),
        fates={**fates(gated_in(gate.path))} if gate else {},
        audit=_audited(gate, kept.get("audit", {})) if gate else "",
        model=_sha256(records, "model"),
        upstream=records["answers" if number else "held_out"]["from"]["upstream"],
    )


def _audited(gate: Artefact, by_judge: Mapping[str, Any]) -> str:
    """What another judge says of the gate, and what people say, or that the sample waits for them."""
    path = audit_file(gate.path.parent, gate.sha256)
    has_judge = bool(by_judge.get("agreement"))
    told = [by_judge["told"]] if has_judge else []
    return " ".join([*told, *_by_people(path, waits=not has_judge)])


def _by_people(path: Path, *, waits: bool) -> Iterator[str]:
    """What people have written; where they have not yet, how much waits for them, if it is said at all."""
    if not path.exists():
        return
    try:
        people = audited_by_people(path)
    except InputFileError as error:  # a slip of the pen, for which no study stops
        yield str(error).replace(str(path), path.name)
        return
    if people.agreement:
        yield people.told
    elif waits and people.rows:
        yield f"{people.rows:,} decisions of the gate wait for people in {path.name}."


def _sha256(records: Mapping[Any, Mapping[str, Any]], name: str) -> str:
    return records[name]["sha256"] if name in records else ""
