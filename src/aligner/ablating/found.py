"""What became of each held-out answer in one run, as it is kept."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple, Self

import orjson

from aligner.errors import InputFileError
from aligner.files import write_json_atomic


class Fate(NamedTuple):
    """One answer before and after."""

    good: bool
    """before"""
    right: bool
    """after"""
    kept: bool
    """byte for byte"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """The fates of all answers of one run, in the same order in every run of a table."""

    row: str
    seed: int
    steps: int
    """of all stages together"""
    seconds: float
    """that training and measuring took"""
    parameters: int
    fates: Sequence[Fate]

    @property
    def fixed(self) -> list[bool]:
        """For each flawed answer, whether it became good."""
        return [fate.right for fate in self.fates if not fate.good]

    @property
    def broken(self) -> list[bool]:
        """For each good answer, whether it became flawed."""
        return [not fate.right for fate in self.fates if fate.good]

    @property
    def copied(self) -> list[bool]:
        """For each good answer, whether it came back byte for byte."""
        return [fate.kept for fate in self.fates if fate.good]

    def save(self, path: Path) -> None:
        """Write it down; three signs for each answer."""
        signs = ["".join(str(int(part)) for part in fate) for fate in self.fates]
        write_json_atomic(path, {**asdict(self), "fates": signs})

    @classmethod
    def load(cls, path: Path) -> Self:
        """What was written down; raises InputFileError where it is damaged."""
        try:
            fields: dict[str, Any] = orjson.loads(path.read_bytes())
            fates = [Fate(*(sign == "1" for sign in signs)) for signs in fields.pop("fates")]
            return cls(fates=fates, **fields)
        except (ValueError, TypeError, AttributeError) as error:
            raise InputFileError(f"{path}: damaged: {error}; delete it, and it is made again") from error


def rate(hits: Iterable[bool]) -> float:
    """The share of hits; not a number where there is nothing to share."""
    seen = list(hits)
    return sum(seen) / len(seen) if seen else float("nan")
