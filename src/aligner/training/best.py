"""The best weights of a stage: those with the highest fix rate less break rate on held-out rows."""

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from aligner.files import write_json_atomic
from aligner.training.checkpoints import mark_complete
from aligner.training.measuring import Measured

_FIGURES = "measured.json"
_STEP = "step-"


class Kept(NamedTuple):
    """Weights that were kept, and how they were measured."""

    step: int
    score: float
    folder: Path
    """a model with its tokenizer, and its figures in measured.json"""


@dataclass(frozen=True, slots=True)
class Best:
    """A folder that holds the best weights so far, each in a folder of its own that appears whole.

    Only a higher score takes the place of what is kept. So of equal steps the first one stays: it has gone the least
    way from where the stage began, and a step that is measured again after a kill changes nothing.
    """

    folder: Path
    """`best/` in the folder of a stage"""
    save: Callable[[Any, Path], object]
    """writes a model, and what it needs to be loaded, into a folder"""

    def consider(self, model: Any, step: int, measured: Measured) -> bool:
        """Keep the model if it is the best; returns whether it is.

        Killed at any moment, it leaves the best of all steps that were considered, this one or the one before.
        """
        best = self.found()
        if best and (best.step == step or measured.score <= best.score):
            return best.step == step
        self._keep(model, step, measured)
        self._remove_others(step)
        return True

    def found(self) -> Kept | None:
        """What is kept, or none where nothing was considered yet."""
        kept = [_kept(path) for path in self.folder.glob(f"{_STEP}*/{_FIGURES}")]
        # A kill between keeping the better and removing the worse leaves both.
        return max(kept, key=lambda one: (one.score, -one.step), default=None)

    def _keep(self, model: Any, step: int, measured: Measured) -> None:
        partial, whole = self.folder / f"partial-{step}", self.folder / f"{_STEP}{step}"
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        self.save(model, partial)
        write_json_atomic(partial / _FIGURES, {"step": step, "score": measured.score, "measured": measured.figures()})
        mark_complete(partial)
        shutil.rmtree(whole, ignore_errors=True)  # one that was worse, and that a kill kept from being removed
        partial.rename(whole)

    def _remove_others(self, step: int) -> None:
        for other in self.folder.iterdir():
            if other.name != f"{_STEP}{step}":
                shutil.rmtree(other)


@dataclass(frozen=True, slots=True)
class Watch:
    """Measures a model as it learns, logs the figures, and has the best weights kept where that is wanted.

    `Fit.measure` calls it with the model and the step; called twice for one step, it does the same.
    """

    measure: Callable[[Any], Measured]
    log: Callable[[int, Measured], object]
    best: Best | None = None

    def __call__(self, model: Any, step: int) -> None:
        """Measure now."""
        measured = self.measure(model)
        self.log(step, measured)
        if self.best:
            self.best.consider(model, step, measured)


def _kept(path: Path) -> Kept:
    figures = json.loads(path.read_bytes())
    return Kept(figures["step"], figures["score"], path.parent)
