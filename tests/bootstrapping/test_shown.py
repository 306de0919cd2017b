"""Laws of what a study's report is told: what lies in its folder, whatever became of a round, and what people wrote."""

from collections.abc import Iterator, Mapping, Sequence
from math import isnan
from pathlib import Path
from typing import Any, get_args

import orjson
import pytest

from aligner.bootstrapping.auditing import audit
from aligner.bootstrapping.gating import fates
from aligner.bootstrapping.guarding import verdict_to_json
from aligner.bootstrapping.lineage import Artefact, Lineage
from aligner.bootstrapping.measuring import found_to_json
from aligner.bootstrapping.nouns import Fate, Found, Gated, Verdict
from aligner.bootstrapping.rounds import RoundShown
from aligner.bootstrapping.shown import shown_in
from aligner.bootstrapping.study import Study
from aligner.bootstrapping.weighing import audit_file
from aligner.config import BootstrapConfig
from aligner.files import write_json_atomic, write_rows

GATED = [Gated(f"Q {i}?", "No.", "Yes.", fate, {"helpful": "b"}) for i, fate in enumerate(get_args(Fate) * 2)]
FOUND = Found(None, None, {}, {}, 0.0, 0.0, 1.0, 0.0, 0.0)
NOTHING = Verdict(accepted=False, guards=(), why="Nothing passed the gate.")
JUDGED = {
    "rows": 4,
    "agreement": [0.5, 0.1, 0.9],
    "kappa": None,
    "told": "On 50 % of 4 decisions J and the gate agree.",
}
WAITS = {"rows": 4, "agreement": None, "kappa": None, "told": "4 decisions of the gate wait for people in audit.jsonl."}


@pytest.fixture
def study(tmp_path: Path) -> Iterator[Study]:
    """A study in which round 0 is measured."""
    config = BootstrapConfig(
        out=tmp_path / "study", upstream="demo", prompts="world:60", held_out="world:20", judge="world:"
    )
    with Study(config) as found:
        first = found.first(0)
        first.step("held_out", {"upstream": "u"}, lambda place: write_rows(place.path, []))
        _weighed(first, {})
        yield found


def test_a_study_that_has_just_begun_has_nothing_to_show(tmp_path: Path) -> None:
    """Before round 0 is measured there is no round."""
    config = BootstrapConfig(out=tmp_path, upstream="demo", prompts="world:60", held_out="world:20", judge="world:")
    with Study(config) as begun:
        assert shown_in(begun) == []


def test_a_round_that_learnt_nothing_has_its_fates(study: Study) -> None:
    """What the gate made of corrections is told of every round, also where nothing was left to be measured."""
    lineage, _ = _round(study, GATED)
    assert [one.number for one in shown_in(study)] == [0]
    lineage.finish(verdict_to_json(NOTHING))
    first, one = shown_in(study)
    assert (first.number, first.upstream, first.fates, first.audit) == (0, "u", {}, "")
    assert (one.arm, one.seed, one.number, one.upstream, one.model) == ("sft", 0, 1, "v", "")
    assert one.fates == fates(GATED)
    assert one.verdict == NOTHING
    assert isnan(one.found.length)


@pytest.mark.parametrize("by_judge", [WAITS, JUDGED], ids=["no judge", "a judge"])
def test_people_are_heard(study: Study, by_judge: Mapping[str, Any]) -> None:
    """Decisions wait in the file that is there, until people have answered; a judge's word stays beside theirs."""
    _, path = _measured(study, by_judge)
    judge = f"{JUDGED['told']} " if by_judge is JUDGED else ""
    assert _last(study).audit == (judge.strip() or f"4 decisions of the gate wait for people in {path.name}.")
    _write(path, "correction")
    assert _last(study).audit.startswith(f"{judge}On 100\u00a0% of 1 decisions people and the gate agree")
    assert "wait" not in _last(study).audit


def test_a_slip_of_the_pen_stops_no_study(study: Study) -> None:
    """A word in the sample that means nothing is shown with its file and line; all else of the round is there."""
    _, path = _measured(study, WAITS)
    _write(path, "corection")
    one = _last(study)
    assert one.audit.startswith(f"{path.name}:")
    assert '"people" is none of answer, correction, tie' in one.audit
    assert str(path) not in one.audit
    assert one.verdict.accepted


def _round(study: Study, gated: Sequence[Gated]) -> tuple[Lineage, Artefact]:
    lineage = study.round("sft", 0, 1)
    lineage.step("answers", {"upstream": "v"}, lambda place: write_rows(place.path, []))
    rows = [row._asdict() for row in gated]
    return lineage, lineage.step("gate", {}, lambda place: write_rows(place.path, rows))


def _weighed(lineage: Lineage, told: Mapping[str, Any]) -> None:
    accepted = verdict_to_json(Verdict(accepted=True, guards=(), why="It gained."))
    kept = {"found": found_to_json(FOUND), "verdict": accepted, **told}
    lineage.step("evaluation", {"of": lineage.folder.name}, lambda place: write_json_atomic(place.path, kept))


def _measured(study: Study, by_judge: Mapping[str, Any]) -> tuple[Lineage, Path]:
    """A round that is accepted, and the sample that people write into."""
    lineage, gate = _round(study, GATED)
    _weighed(lineage, {"audit": by_judge})
    lineage.finish(verdict_to_json(Verdict(accepted=True, guards=(), why="It gained.")))
    path = audit_file(lineage.folder, gate.sha256)
    audit(None, GATED, count=4, seed=0, qualities=("helpful",), path=path)
    return lineage, path


def _write(path: Path, word: str) -> None:
    """A person's word on the first decision that was to learn."""
    rows = [orjson.loads(line) for line in path.read_bytes().splitlines()]
    next(row for row in rows if row["fate"] == "learnt")["people"] = word
    write_rows(path, rows)


def _last(study: Study) -> RoundShown:
    return shown_in(study)[-1]
