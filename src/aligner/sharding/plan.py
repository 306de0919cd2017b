"""The manifest of a job in parts: what it is, where its parts begin, and in the end what came out."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import orjson

from aligner.errors import AlignerError, MisuseError
from aligner.files.output import naming, write_json_atomic
from aligner.files.paths import beside
from aligner.files.reading import Place
from aligner.sharding.cutting import Slice
from aligner.sharding.locking import holding


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A job in parts; all processes that work on it find the same one in `<out>.parts/manifest.json`."""

    out: Path
    job: Mapping[str, object]
    """what work this is, as JSON"""
    slices: Sequence[Slice]
    finished: Mapping[str, Any] | None = None
    """what came out, once the parts are one file"""

    def part(self, number: int) -> Path:
        """The file of a part; it is there when the part is done, and not before."""
        return folder_of(self.out) / f"{name_of(number, len(self.slices))}.jsonl"

    def facts(self, number: int) -> Path:
        """What is to be known of a part; it is there before the part is."""
        return folder_of(self.out) / f"{name_of(number, len(self.slices))}.json"

    def left(self) -> list[int]:
        """The numbers of the parts that are not done."""
        return [number for number in range(len(self.slices)) if not self.part(number).is_file()]

    def beside(self, number: int, ending: str) -> Path:
        """A file for the time in which the part is made."""
        return folder_of(self.out) / f"{name_of(number, len(self.slices))}.{ending}"

    def save(self) -> None:
        """Write the manifest."""
        slices = [{"line": s.begin.line, "byte": s.begin.byte, "end": s.end, "rows": s.rows} for s in self.slices]
        value = {"job": self.job, "parts": slices, "finished": self.finished}
        write_json_atomic(folder_of(self.out) / _MANIFEST, value)


_MANIFEST = "manifest.json"


def folder_of(out: Path) -> Path:
    """The folder of a job's parts, which stays when they are gone, for the manifest."""
    return beside(out, ".parts")


def name_of(number: int, count: int) -> str:
    """The name of a part, counted from 0, as Spark and the hub name theirs."""
    return f"part-{number:05d}-of-{count:05d}"


def planned(out: Path, job: Mapping[str, object], cut: Callable[[], Sequence[Slice]], *, parts: int) -> Plan:
    """The plan of a job, which the first process to ask makes while the others wait.

    `parts` is how many are wanted, 0 for any number. Raises MisuseError where the folder belongs to another job, or
    has another number of parts. A finished job whose output is gone begins anew.
    """
    folder = folder_of(out)
    with naming(out):
        folder.mkdir(exist_ok=True)
    with holding(folder / "lock"):
        plan = found(out)
        if plan is None or (plan.finished and not _is_same(plan, job, parts)) or (plan.finished and not out.is_file()):
            plan = Plan(out=out, job=job, slices=cut())
            # A kill may have left those of the job before, which would be taken for this one's.
            remove_parts(plan)
            plan.save()
        _check(plan, job, parts)
        return plan


def remove_parts(plan: Plan) -> None:
    """Remove all files of parts; the manifest stays."""
    for path in folder_of(plan.out).glob("part-*"):
        path.unlink(missing_ok=True)


def found(out: Path) -> Plan | None:
    """The plan of the job whose parts stand beside this output, if there is one."""
    path = folder_of(out) / _MANIFEST
    try:
        value = cast(Mapping[str, Any], orjson.loads(path.read_bytes()))
        slices = [Slice(Place(part["line"], part["byte"]), part["end"], part["rows"]) for part in value["parts"]]
        return Plan(out=out, job=value["job"], slices=slices, finished=value["finished"])
    except FileNotFoundError:
        return None
    except (orjson.JSONDecodeError, KeyError, TypeError) as error:
        raise AlignerError(f"{path}: is no manifest of a job in parts; delete {path.parent}") from error


def is_finished(out: Path, job: Mapping[str, object], *, parts: int) -> Plan | None:
    """The plan of this very job, where all of it is done and its output is there."""
    plan = found(out) if folder_of(out).is_dir() else None
    return plan if plan and plan.finished and out.is_file() and _is_same(plan, job, parts) else None


def _is_same(plan: Plan, job: Mapping[str, object], parts: int) -> bool:
    return plan.job == job and parts in (0, len(plan.slices))


def _check(plan: Plan, job: Mapping[str, object], parts: int) -> None:
    folder = folder_of(plan.out)
    cure = f"delete {folder}, or choose another output"
    if plan.job != job:
        names = [name for name in sorted({*plan.job, *job}) if plan.job.get(name) != job.get(name)]
        changes = "; ".join(
            f"{name} was {plan.job.get(name, 'nothing')}, now {job.get(name, 'nothing')}" for name in names
        )
        raise MisuseError(f"{folder}: belongs to another job ({changes}); {cure}")
    if parts not in (0, len(plan.slices)):
        raise MisuseError(f"{folder}: the job was begun in {len(plan.slices)} parts, not in {parts}; {cure}")
