"""The folder of a study: held by one process, and always by the same study; and what it asks."""

import os
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Self

from aligner.bootstrapping.checking import check, upstream_of
from aligner.bootstrapping.claiming import claim, known_in
from aligner.bootstrapping.lineage import Lineage
from aligner.bootstrapping.parents import Shelf
from aligner.bootstrapping.pool import Pool, pool_of
from aligner.bootstrapping.questions import drawn
from aligner.bootstrapping.stamping import stamps_of
from aligner.config import BootstrapArm, BootstrapConfig
from aligner.correcting.writers import shipped
from aligner.errors import MisuseError, OutputFileError, visible
from aligner.records import Question
from aligner.sharding.locking import take


class Study:
    """A folder with config.toml, first/seed-S/, ARM/seed-S/round-NN/ and report.html; to be used by `with`.

    Entering raises MisuseError for settings that cannot be meant, for a folder that another process works in or that
    holds another study, and for an upstream that is not there; CheckpointError for one that is no model; and
    InputFileError for questions that cannot be read. What it is refused for is not written down.
    """

    known: BootstrapConfig
    """the study with all arms and seeds that it has ever had, and the most rounds; `config` is what is wanted now"""
    stamps: Mapping[str, str]
    """what tells whether models are still the same: "aligner 0", "judge", "audit_judge", "upstream SEED" """

    def __init__(self, config: BootstrapConfig) -> None:
        self.config = self.known = config
        self.stamps = {}
        self.folder = config.out
        self._shelf = Shelf(config.out)
        self._pool = Pool((), ())
        self._upstreams: Mapping[int, Path] = {}
        self._lock = -1

    def __enter__(self) -> Self:
        """Hold the folder, find and read all that is needed, and only then write down what the study is."""
        check(self.config)
        self._hold()
        try:
            self.known = known_in(self.config)
            self._upstreams = {seed: _folder_of(upstream_of(self.config, seed)) for seed in self.config.seeds}
            self._pool = pool_of(self.config, self.say)
            self.stamps = stamps_of(self.config, self._upstreams)
            claim(self.known, {**self._pool.hashes, **self.stamps})
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *error: object) -> None:
        """Let go of the folder."""
        os.close(self._lock)

    @property
    def held_out(self) -> Sequence[Question]:
        """On what every round is measured."""
        return self._pool.held_out

    def prompts(self, seed: int, number: int) -> Sequence[Question]:
        """What the round of that number asks, counted from 1."""
        return drawn(self._pool.prompts, per_round=self.config.prompts_per_round, seed=seed, number=number)

    def upstream(self, seed: int) -> Path:
        """The folder of the first upstream."""
        return self._upstreams[seed]

    def first(self, seed: int) -> Lineage:
        """Round 0 of a seed, which all arms share."""
        return self._lineage(self.folder / "first" / f"seed-{seed}")

    def round(self, arm: BootstrapArm | str, seed: int, number: int) -> Lineage:
        """The round of that number, counted from 1."""
        name = arm if isinstance(arm, str) else arm.name
        return self._lineage(self.folder / name / f"seed-{seed}" / f"round-{number:02}")

    def say(self, line: str) -> None:
        """Tell the user something, on standard error."""
        sys.stderr.write(f"{visible(line)}\n")
        sys.stderr.flush()

    def _lineage(self, folder: Path) -> Lineage:
        return Lineage(folder, partial(self._shelf.find, but=folder))

    def _hold(self) -> None:
        """Hold the folder as long as this process lives; the system lets go of it however that ends."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._lock = os.open(self.folder / ".lock", os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            raise OutputFileError(f"{self.folder}: cannot be made: {error.strerror}") from error
        if not take(self._lock):
            os.close(self._lock)
            cure = "wait for it, or choose another --out"
            raise MisuseError(f"{self.folder}: another process works on this study; {cure}")


def _folder_of(name: str) -> Path:
    if name == "demo":
        return shipped("upstream")
    # It imports torch, which takes seconds.
    from aligner.models.hf import local_folder

    return local_folder(name)
