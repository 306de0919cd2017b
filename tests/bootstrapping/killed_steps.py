"""Two rounds of made-up steps, the second of which may take from the first; killed at one operation on a file."""

import os
import signal
import sys
from functools import partial
from pathlib import Path
from random import Random

from aligner.bootstrapping.lineage import Lineage, Place
from aligner.bootstrapping.parents import Shelf

_OPERATIONS = frozenset({"open", "os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.link", "os.scandir"})


def main(folder: Path, kills: int, seed: int) -> None:
    """Do the steps undisturbed, and again in other folders, with a kill each before going on to their end."""
    two_rounds(folder / "undisturbed")
    count = _operations_of(folder / "killed-counted")
    for at in sorted(Random(seed).sample(range(count), kills)):
        if os.waitstatus_to_exitcode(_begun(folder / f"killed-{at}", at)) != -signal.SIGKILL:
            raise AssertionError(at)
        _begun(folder / f"killed-{at}", count)


def two_rounds(study: Path) -> None:
    """Three steps each: rows and a model that come of the same in both, and rows that do not."""
    shelf = Shelf(study)
    for arm in ("a", "b"):
        folder = study / arm / "seed-0" / "round-01"
        lineage = Lineage(folder, partial(shelf.find, but=folder))
        prompts = lineage.step("prompts", {"count": 3}, _write)
        model = lineage.step("model", {"prompts": prompts.sha256}, _train)
        lineage.step("answers", {"model": model.sha256, "arm": arm}, partial(_go_on, arm))
        lineage.finish({"accepted": True})


def _write(place: Place) -> None:
    """Rows, written where they stay, one by one."""
    with place.path.open("w") as file:
        file.writelines('{"question":"?"}\n' for _ in range(3))


def _train(place: Place) -> None:
    """A model with a folder in it, and files that do not count."""
    (place.path / "more").mkdir(parents=True)
    for name in ("config.json", "weights.bin", "more/vocabulary.txt", ".cache"):
        (place.path / name).write_text(name)


def _go_on(arm: str, place: Place) -> None:
    """Rows that are kept in the scratch folder until all are there."""
    for number in range(4):
        part = place.scratch / str(number)
        if not part.exists():
            (place.scratch / "torn").write_text(f"{arm}{number}\n")
            (place.scratch / "torn").rename(part)
    place.path.write_text("".join((place.scratch / str(number)).read_text() for number in range(4)))


def _operations_of(study: Path) -> int:
    seen = list[str]()
    sys.addaudithook(lambda event, _: seen.append(event) if event in _OPERATIONS else None)
    two_rounds(study)
    return len(seen)


def _begun(study: Path, at: int) -> int:
    """Do the steps in a process of their own that ends before that operation; how it ended."""
    if child := os.fork():
        return os.waitpid(child, 0)[1]
    left = [at]

    def kill(event: str, _: object) -> None:
        if event in _OPERATIONS:
            left[0] -= 1
            if left[0] < 0:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(kill)
    two_rounds(study)
    os._exit(0)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
