"""Checkpoints that survive `kill -9`: a folder counts only when every file in it is whole."""

import json
import os
import time
from pathlib import Path
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from aligner.training.processes import is_main, wait

_MARK = "COMPLETE"


class CompleteMarker(TrainerCallback):
    """Marks each checkpoint when all of its files are on the disk, those of the other processes too.

    A checkpoint at which training is about to stop stays unmarked: the reason to stop is not saved with it, so going
    on from there would overshoot.
    """

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Mark the folder just written."""
        wait()
        if is_main() and not control.should_training_stop:
            mark_complete(Path(str(args.output_dir)) / f"checkpoint-{state.global_step}")


def mark_complete(folder: Path) -> None:
    """Record the size of every file of a checkpoint, after forcing all of them to the disk."""
    sizes = {str(path.relative_to(folder)): path.stat().st_size for path in folder.rglob("*") if path.is_file()}
    for name in sizes:
        _sync(folder / name)
    partial = folder / f"{_MARK}.partial"
    partial.write_text(json.dumps(sizes))
    _sync(partial)
    partial.replace(folder / _MARK)


def newest_complete(folder: Path) -> Path | None:
    """The newest whole checkpoint; torn ones are renamed out of the way, and kept."""
    numbered = [path for path in folder.glob("checkpoint-*") if path.name.rpartition("-")[2].isdigit()]
    for path in sorted(numbered, key=lambda path: int(path.name.rpartition("-")[2]), reverse=True):
        if _is_complete(path):
            return path
        path.rename(path.with_name(f"torn-{path.name}-{time.time_ns()}"))
    return None


def _is_complete(folder: Path) -> bool:
    try:
        sizes = json.loads((folder / _MARK).read_text())
        return all((folder / name).stat().st_size == size for name, size in sizes.items())
    except (OSError, ValueError):
        return False


def _sync(path: Path) -> None:
    with path.open("rb") as handle:
        os.fsync(handle.fileno())
