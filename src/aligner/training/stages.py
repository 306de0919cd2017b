"""The stages of a training in their order, each known by a hash of all that it comes from."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from aligner.config import Optimisation, TrainConfig
from aligner.training import lessons
from aligner.training.adapter import Fit, fit, prefer
from aligner.training.encode import EncodedRow
from aligner.training.kept_lessons import kept_lesson
from aligner.training.lessons import Bench
from aligner.training.pairs import EncodedPair


@dataclass(frozen=True, slots=True)
class Stage:
    """One stage: what is read, how it is learnt, and what it is called."""

    name: str
    how: Optimisation
    lesson: Callable[[Bench], Sequence[Any]]
    """the rows, or the pairs, in their order"""
    teach: Callable[[Any, Any, Sequence[Any], Fit], Any] = fit
    """a model, its tokenizer and the lesson in, the model that has learnt out"""
    shown: Callable[[Any], EncodedRow] = lambda row: row
    """one of the rows as people see it"""
    until: float = 1.0
    """share of held-out answers that are copied exactly, which is enough"""
    check_every: int = 0
    """steps between two looks whether it is; 0 never looks"""
    may_be_empty: bool = False
    """whether there may be nothing to learn, and the model stays as it is"""
    is_kept: bool = False
    """whether what is read is written down: it was sampled and judged, and might come out otherwise another time"""
    may_keep_best: bool = True
    """whether its best weights are those that fix most and break least; a stage that only copies fixes nothing"""

    def read(self, bench: Bench, folder: Path) -> Sequence[Any]:
        """The lesson, from the stage's folder where it was kept."""
        make = partial(self.lesson, bench)
        return kept_lesson(folder, make) if self.is_kept else make()


class Origin(NamedTuple):
    """What a finished stage came from: hashes that tell it from all others."""

    stage: str
    key: str
    parent: str
    """the key of the stage before, or the hash of the model that training began with"""
    steps: int


def stages_of(config: TrainConfig) -> list[Stage]:
    """The stages that have something to do."""
    found = [
        _copying(config),
        _identity(config),
        _correction(config),
        _preference(config),
        *(_on_policy(config, number) for number in range(1, config.on_policy.rounds + 1)),
    ]
    return [stage for stage in found if stage.how.begins]


def key_of(stage: Stage, parent: str, shared: Mapping[str, Any]) -> str:
    """What names a stage among all others: its parent, its settings, and the settings that all stages share."""
    told = {"parent": parent, "stage": stage.name, "how": asdict(stage.how), **shared}
    return hashlib.sha256(orjson.dumps(told, option=orjson.OPT_SORT_KEYS)).hexdigest()


def _copying(config: TrainConfig) -> Stage:
    return Stage("copying", config.copying, partial(lessons.copying, config.copying), may_keep_best=False)


def _identity(config: TrainConfig) -> Stage:
    how = config.identity
    return Stage(
        "identity",
        how,
        partial(lessons.identity, how),
        until=how.until,
        check_every=how.check_every,
        may_keep_best=False,
    )


def _correction(config: TrainConfig) -> Stage:
    return Stage("correction", config.correction, partial(lessons.correction, config.correction))


def _preference(config: TrainConfig) -> Stage:
    how = config.preference
    read = partial(lessons.preference, how)
    return Stage("preference", how, read, partial(prefer, how=how), _chosen, is_kept="sampled" in how.rejected)


def _on_policy(config: TrainConfig, number: int) -> Stage:
    how = config.on_policy
    read = partial(lessons.on_policy, number, how)
    return Stage(f"on-policy-{number}", how, read, may_be_empty=True, is_kept=True)


def _chosen(pair: EncodedPair) -> EncodedRow:
    return EncodedRow((*pair.prompt, *pair.chosen), len(pair.prompt))
