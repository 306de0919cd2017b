"""What `aligner ablate` reads."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class AblateConfig:
    """aligner ablate: train with one thing changed at a time, and say what it did."""

    tables: tuple[Path, ...]
    """TOML files, each of which makes one table"""
    out: Path = Path("runs/ablations")
    """folder of all runs; what is finished there is not done again"""
    jobs: int = 1
    """runs at a time, which share the processor's cores"""


@dataclass(frozen=True, slots=True, kw_only=True)
class AblationRow:
    """One row of a table: what is different in it."""

    name: str
    """what the row is called"""
    set: tuple[str, ...] = ()
    """keys of the training configuration with their values, as in "correction.edit_weight = 3.0" """


@dataclass(frozen=True, slots=True, kw_only=True)
class Ablation:
    """A table: a training configuration, and rows that change it."""

    title: str
    """what the table is about"""
    training: Path
    """the training configuration, beside this file"""
    rows: tuple[AblationRow, ...]
    """the rows: tables [[rows]]"""
    against: str
    """the row that the others are compared with"""
    seeds: tuple[int, ...] = (0, 1, 2)
    """each row is trained with each of them: another split, another order, other initial weights, and other data"""
    triples: Path | None = None
    """what is learnt from, measured by held-out rows; the closed world in place of it"""
    world: int = 0
    """rows of the closed world that are learnt from"""
    answers: int = 60
    """of the closed world, held-out answers of each upstream on which a row is measured"""
