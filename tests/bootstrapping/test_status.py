"""Laws of the tree of a study: it can be read at any moment, and says what lies there."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pytest
from rich.console import Console

from aligner.bootstrapping.lineage import Lineage, Place
from aligner.bootstrapping.status import show_tree, tree
from aligner.bootstrapping.study import Study
from aligner.config import BootstrapArm, BootstrapConfig, BootstrapGuards
from aligner.errors import MisuseError

CONFIG = BootstrapConfig(
    upstream="demo",
    prompts="world:30",
    held_out="world:20",
    judge="world:",
    arms=(BootstrapArm(name="sft"), BootstrapArm(name="dpo")),
)


def shown(capsys: pytest.CaptureFixture[str], folder: Path) -> list[str]:
    """The lines of the tree, without its branches."""
    show_tree(folder)
    return [line.lstrip("│├└─ \u00a0").rstrip() for line in capsys.readouterr().out.splitlines()]


def write(content: object, place: Place) -> None:
    """Leave that as JSON."""
    place.path.write_bytes(orjson.dumps(content))


def evaluated(lineage: Lineage, good: list[float] | None, **found: Any) -> None:
    """Do a round's evaluation."""
    found = {"good": good, "net": {}, **found}
    inputs = {"upstream": "b" * 64, "round": lineage.folder.name}
    lineage.step("evaluation", inputs, lambda place: write({"found": found, "verdict": None}, place))


@pytest.mark.parametrize("place", ["none", "folder", "file"])
def test_where_no_study_is_that_is_said(capsys: pytest.CaptureFixture[str], tmp_path: Path, place: str) -> None:
    """A mistyped folder is misuse, and so is one with a configuration of something else."""
    (tmp_path / "folder" / "first").mkdir(parents=True)
    (tmp_path / "file").write_text("a")
    with pytest.raises(MisuseError) as caught:
        show_tree(tmp_path / place)
    assert str(caught.value) == f"{tmp_path / place}: no study here; it begins with aligner bootstrap CONFIG.toml"
    (tmp_path / "folder" / "config.toml").write_text('triples = "a.jsonl"')
    with pytest.raises(MisuseError, match=r'folder: no study here: unknown key in .*config\.toml "triples"'):
        show_tree(tmp_path / "folder")
    assert not capsys.readouterr().out


def test_a_study_that_has_just_begun_says_what_is_wanted(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """Its arms and seeds are there before their folders are."""
    with Study(replace(CONFIG, out=tmp_path, seeds=(0, 5))):
        lines = shown(capsys, tmp_path)
    seeds = [f"seed {seed}: no round done of 3 wanted" for seed in (0, 5)]
    first = ["seed 0: not begun", "seed 5: not begun"]
    assert lines == [str(tmp_path), "first", *first, "sft", *seeds, "dpo", *seeds]


def test_the_tree_says_how_far_each_round_is(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """Accepted, rolled back and why, at a step or after one; with its figure, and the hashes of what it came of."""
    with Study(replace(CONFIG, out=tmp_path)) as study:
        evaluated(study.first(0), [0.49, 0.46, 0.5201])
        one, two, three = (study.round("sft", 0, number) for number in (1, 2, 3))
        model = one.step("model", {"upstream": "a" * 64}, lambda place: place.path.mkdir())
        evaluated(one, [0.61234, 0.58, 0.64])
        one.finish({"accepted": True, "why": "All is well."})
        evaluated(two, None, net={"all": [-0.1, -0.2, 0.05]})
        two.finish({"accepted": False, "why": "It gains nothing [that is certain].\x1b[2J"})
        with pytest.raises(OSError, match="no space"):
            three.step("answers", {}, fail)
        other = study.round("dpo", 0, 10)
        other.step("held_out", {}, lambda place: write({}, place))
        lines = shown(capsys, tmp_path)
    assert lines == [
        str(tmp_path),
        "first",
        f"seed 0: measured; 49.0 % good [46.0, 52.0]; upstream {'b' * 12}",
        "sft",
        "seed 0: 1 accepted, 1 rolled back of 3 wanted",
        f"round 1: accepted; 61.2 % good [58.0, 64.0]; upstream {'a' * 12} → {model.sha256[:12]}",
        f"round 2: rolled back; net rate -10.0 % [-20.0, +5.0]; upstream {'b' * 12}",
        "It gains nothing [that is certain].␛[2J",
        "round 3: at answers",
        "dpo",
        "seed 0: no round done of 3 wanted",
        "round 10: after held out",
    ]


@pytest.mark.parametrize(("patience", "ended"), [(1, "; it has ended"), (2, ""), (0, "")])
def test_an_arm_that_has_ended_says_so(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, patience: int, ended: str
) -> None:
    """Rounds that are wanted of it will not come, as so many in a row were rolled back."""
    config = replace(CONFIG, out=tmp_path, guards=BootstrapGuards(patience=patience))
    with Study(config) as study:
        for number, accepted in enumerate([True, False], 1):
            evaluated(study.round("sft", 0, number), None)
            study.round("sft", 0, number).finish({"accepted": accepted, "why": "so"})
        lines = shown(capsys, tmp_path)
    assert f"seed 0: 1 accepted, 1 rolled back of 3 wanted{ended}" in lines


def test_no_more_is_done_than_was_wanted(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """A study that is asked for fewer rounds than before still has had them."""
    with Study(replace(CONFIG, out=tmp_path, rounds=2)) as study:
        for number in (1, 2):
            evaluated(study.round("sft", 0, number), None)
            study.round("sft", 0, number).finish({"accepted": True, "why": "so"})
    with Study(replace(CONFIG, out=tmp_path, rounds=1)):
        assert "seed 0: 2 accepted of 2 wanted" in shown(capsys, tmp_path)


def fail(place: Place) -> None:
    """Be stopped in the middle."""
    place.path.write_text("{")
    raise OSError("no space")


def test_a_folder_that_is_torn_can_still_be_read(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """Damaged or half-written files, and what others left there, are passed over; no configuration is needed."""
    folder = tmp_path / "sft" / "seed-0" / "round-01"
    evaluated(Lineage(folder), [0.5, 0.4, 0.6])
    next(folder.glob("evaluation-*")).write_text("{")
    (tmp_path / "sft" / "seed-0" / "round-02").mkdir()
    (tmp_path / "sft" / "seed-0" / "round-02" / "parents.json").write_text("[1")
    (tmp_path / "sft" / "seed-0" / "round-02" / "DONE").write_text("")
    (tmp_path / "sft" / "seed-x").mkdir()
    assert shown(capsys, tmp_path)[3:] == [
        "sft",
        "seed 0: no round done",
        f"round 1: after evaluation; upstream {'b' * 12}",
        "round 2: not begun",
    ]


def test_a_terminal_has_colours_and_a_pipe_has_none(tmp_path: Path) -> None:
    """The same tree is coloured where somebody looks at it."""
    lineage = Lineage(tmp_path / "sft" / "seed-0" / "round-01")
    evaluated(lineage, None)
    lineage.finish({"accepted": True})
    texts = list[str]()
    for terminal in (True, False):
        console = Console(force_terminal=terminal, color_system="standard" if terminal else "auto")
        with console.capture() as captured:
            console.print(tree(tmp_path))
        texts.append(captured.get())
    assert "\x1b[32maccepted" in texts[0]
    assert "\x1b" not in texts[1]
