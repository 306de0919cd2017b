"""Laws of the lineage: nothing is made twice, nothing torn is trusted, and a kill changes nothing."""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from aligner.bootstrapping.artefacts import content_hash, link
from aligner.bootstrapping.lineage import Lineage, Place
from aligner.bootstrapping.nouns import Guard, Step
from aligner.bootstrapping.parents import STEPS, Shelf
from aligner.errors import MisuseError

KILLED_STEPS = Path(__file__).with_name("killed_steps.py")
MODEL = {"config.json": "{}", "weights.bin": "abc", "more/words.txt": "a b"}


@dataclass
class Maker:
    """Makes a file, or a folder of files, and counts how often it was asked to."""

    what: str | Mapping[str, str] = "{}\n"
    asked: int = 0

    def __call__(self, place: Place) -> None:
        self.asked += 1
        files = {"": self.what} if isinstance(self.what, str) else self.what
        for name, text in files.items():
            path = place.path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)


def parents_of(folder: Path) -> dict[str, Any]:
    """What parents.json says."""
    return json.loads((folder / "parents.json").read_text())


def files_of(folder: Path) -> dict[str, bytes]:
    """All that lies in a folder, hidden or not."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def rounds_of(study: Path) -> tuple[Lineage, Lineage]:
    """Two rounds of a study, each of which may take from the other."""
    shelf = Shelf(study)
    folders = [study / arm / "seed-0" / "round-01" for arm in ("a", "b")]
    first, second = (Lineage(folder, partial(shelf.find, but=folder)) for folder in folders)
    return first, second


def test_a_step_of_the_same_inputs_is_made_once(tmp_path: Path) -> None:
    """The second time, and in another process, the artefact is there; it is named by its hash."""
    make = Maker('{"question":"Why?"}\n')
    made = Lineage(tmp_path / "r").step("prompts", {"seed": 1, "out": Path("a")}, make)
    again = Lineage(tmp_path / "r").step("prompts", {"out": "a", "seed": 1}, make)
    assert made == again
    assert make.asked == 1
    assert made.sha256 == sha256(b'{"question":"Why?"}\n').hexdigest()
    assert made.path == tmp_path / "r" / f"prompts-{made.sha256[:12]}.jsonl"
    assert sorted(files_of(tmp_path / "r")) == ["parents.json", made.path.name]


def test_parents_say_what_an_artefact_came_of(tmp_path: Path) -> None:
    """Each has its inputs, its hash and its size, and all of them the versions that they were made with."""
    lineage = Lineage(tmp_path)
    asked = lineage.step("prompts", {"count": 1}, Maker())
    model = lineage.step(
        "model", {"prompts": asked.sha256, "guard": Guard("kl", 1.0, "", tripped=False, why="")}, Maker(MODEL)
    )
    told = parents_of(tmp_path)
    assert set(told) == {"prompts", "model", "made_with"}
    assert told["model"]["from"]["prompts"] == asked.sha256 == told["prompts"]["sha256"]
    assert told["model"]["from"]["guard"]["name"] == "kl"
    assert (told["model"]["artefact"], told["model"]["files"], told["model"]["bytes"]) == (model.path.name, 3, 8)
    assert set(told["made_with"]) == {"aligner", "python", "packages"}


def test_other_inputs_make_it_anew(tmp_path: Path) -> None:
    """What was made of the old ones is gone, and so is what was begun of them."""
    lineage = Lineage(tmp_path)
    old = lineage.step("answers", {"seed": 1}, Maker("old\n"))
    with pytest.raises(ZeroDivisionError):
        lineage.step("answers", {"seed": 2}, lambda _: 1 // 0)
    assert old.path.exists()
    new = lineage.step("answers", {"seed": 3}, make := Maker("new\n"))
    assert make.asked == 1
    assert sorted(files_of(tmp_path)) == [new.path.name, "parents.json"]


def test_steps_of_different_names_differ_also_of_the_same_inputs(tmp_path: Path) -> None:
    """No step gets what another made, and each has the ending of its kind."""
    lineage = Lineage(tmp_path)
    kinds = {"evaluation": ".json", "model": "", "reward": ""}
    for name in STEPS:
        maker = Maker(MODEL if kinds.get(name) == "" else f"{name}\n")
        assert lineage.step(name, {}, maker).path.suffix == kinds.get(name, ".jsonl")
        assert maker.asked == 1
    assert all(lineage.artefact(name) for name in STEPS)


def truncate(path: Path) -> None:
    """Cut off the end of a file."""
    path.write_bytes(path.read_bytes()[:-1])


def change(path: Path) -> None:
    """Change a letter of a file."""
    path.write_bytes(b"x" + path.read_bytes()[1:])


@pytest.mark.parametrize("tear", [truncate, change, Path.unlink])
def test_a_torn_file_is_made_again(tmp_path: Path, tear: Callable[[Path], object]) -> None:
    """Rows that are cut short, changed or gone are not trusted, and come out the same."""
    make = Maker("one\ntwo\n")
    made = Lineage(tmp_path).step("gate", {}, make)
    tear(made.path)
    assert Lineage(tmp_path).artefact("gate") is None
    assert Lineage(tmp_path).step("gate", {}, make) == made
    assert made.path.read_text() == "one\ntwo\n"
    assert make.asked == 2


@pytest.mark.parametrize(
    "tear", [shutil.rmtree, lambda path: (path / "config.json").unlink(), lambda path: truncate(path / "weights.bin")]
)
def test_a_torn_model_is_made_again(tmp_path: Path, tear: Callable[[Path], object]) -> None:
    """A model that lacks a file, or a part of one, is not trusted."""
    make = Maker(MODEL)
    made = Lineage(tmp_path).step("model", {}, make)
    tear(made.path)
    assert Lineage(tmp_path).step("model", {}, make) == made
    assert files_of(made.path) == {name: text.encode() for name, text in MODEL.items()}
    assert make.asked == 2


def test_a_damaged_parents_json_costs_work_and_nothing_else(tmp_path: Path) -> None:
    """The steps are made again, to the same artefacts."""
    make = Maker()
    made = Lineage(tmp_path).step("prompts", {}, make)
    (tmp_path / "parents.json").write_text("{")
    assert Lineage(tmp_path).step("prompts", {}, make) == made
    assert make.asked == 2


def test_unfinished_work_is_kept_for_the_same_inputs_only(tmp_path: Path) -> None:
    """The scratch folder outlives a failure; a folder that was half filled does not, for its maker would trust it."""
    lineage = Lineage(tmp_path)

    def fail(place: Place) -> None:
        (place.scratch / "step-1").touch()
        Maker(MODEL)(place)
        raise OSError("no space")

    def go_on(place: Place) -> None:
        assert (place.scratch / "step-1").exists()
        assert not place.path.exists()
        Maker(MODEL)(place)

    def anew(place: Place) -> None:
        assert not any(place.scratch.iterdir())
        Maker(MODEL)(place)

    for inputs, make in (({}, go_on), ({"seed": 1}, anew)):
        with pytest.raises(OSError, match="no space"):
            lineage.step("model", {}, fail)
        lineage.step("model", inputs, make)
        shutil.rmtree(tmp_path)


def test_what_another_round_has_made_is_taken_over(tmp_path: Path) -> None:
    """Rows and models of the same inputs are the same files on the disk, and are not made again."""
    first, second = rounds_of(tmp_path)
    kinds: Mapping[Step, str | Mapping[str, str]] = {"prompts": "rows\n", "model": MODEL}
    for name, what in kinds.items():
        mine = first.step(name, {"seed": 1}, Maker(what))
        theirs = second.step(name, {"seed": 1}, make := Maker("other"))
        assert make.asked == 0
        assert mine.sha256 == theirs.sha256 == content_hash(theirs.path)
        assert mine.path.name == theirs.path.name
        word = "" if isinstance(what, str) else "more/words.txt"
        assert (mine.path / word).samefile(theirs.path / word)
    assert parents_of(first.folder) == parents_of(second.folder)
    assert not list(second.folder.glob(".*"))


def test_what_is_damaged_elsewhere_is_not_taken_over(tmp_path: Path) -> None:
    """An artefact that is not what its name says is made again, and the other round's is left alone."""
    first, second = rounds_of(tmp_path)
    mine = first.step("model", {}, Maker(MODEL))
    change(mine.path / "weights.bin")
    theirs = second.step("model", {}, make := Maker(MODEL))
    assert make.asked == 1
    assert (theirs.path / "weights.bin").read_text() == "abc"
    assert (mine.path / "weights.bin").read_text() == "xbc"


def test_where_there_are_no_links_there_are_copies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a file system without hard links what is taken over is the same, but for its place on the disk."""
    Maker(MODEL)(Place(tmp_path / "a", tmp_path))
    monkeypatch.setattr(os, "link", lambda *_, **__: (_ for _ in ()).throw(OSError("not supported")))
    link(tmp_path / "a", tmp_path / "b")
    assert files_of(tmp_path / "a") == files_of(tmp_path / "b")
    assert not (tmp_path / "a/config.json").samefile(tmp_path / "b/config.json")


def test_hidden_files_and_locks_do_not_count(tmp_path: Path) -> None:
    """The hash of a folder is of names and contents, whatever else a library leaves there."""
    Maker(MODEL)(Place(tmp_path / "a", tmp_path))
    Maker({**MODEL, ".cache": "1", "more/.lock": "", "model.lock": "2", ".git/config": "3"})(
        Place(tmp_path / "b", tmp_path)
    )
    Maker({**MODEL, "more/word.txt": "a b"})(Place(tmp_path / "c", tmp_path))
    assert content_hash(tmp_path / "a") == content_hash(tmp_path / "b") != content_hash(tmp_path / "c")


def test_done_is_the_last_word(tmp_path: Path) -> None:
    """A verdict is read as it was written, and what it is about is not made of anything else any more."""
    lineage = Lineage(tmp_path)
    assert lineage.verdict is None
    made = lineage.step("model", {"seed": 1}, make := Maker(MODEL))
    lineage.finish({"accepted": False, "why": "It is longer.", "guards": [Guard("kl", 2.0, "", tripped=True, why="")]})
    verdict = Lineage(tmp_path).verdict
    assert verdict is not None
    assert (verdict["accepted"], verdict["guards"][0]["figure"]) == (False, 2.0)
    with pytest.raises(MisuseError, match=r"the round is done, but its model came of something else; choose another"):
        lineage.step("model", {"seed": 2}, make)
    shutil.rmtree(made.path)
    assert Lineage(tmp_path).step("model", {"seed": 1}, make) == made
    assert make.asked == 2


def test_a_damaged_verdict_is_one_clear_line(tmp_path: Path) -> None:
    """It is not taken for none: the round may have been accepted."""
    (tmp_path / "DONE").write_text("{")
    with pytest.raises(MisuseError, match=r"DONE: damaged; remove it"):
        _ = Lineage(tmp_path).verdict


@pytest.mark.parametrize("kills", [6, pytest.param(100, marks=pytest.mark.slow)])
def test_a_kill_at_any_operation_on_a_file_changes_nothing(tmp_path: Path, kills: int) -> None:
    """Killed before any of them, the same steps again leave the same folder, byte for byte, and nothing besides."""
    seed = int(os.environ.get("KILL_SEED", time.time_ns() % 10**6))
    print(f"KILL_SEED={seed}")
    command = [sys.executable, str(KILLED_STEPS), str(tmp_path), str(kills), str(seed)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    whole = files_of(tmp_path / "undisturbed")
    killed = [files_of(folder) for folder in tmp_path.glob("killed-*")]
    assert len(killed) == kills + 1
    assert all(one == whole for one in killed)
