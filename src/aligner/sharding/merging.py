"""All parts as one file, with the bytes of a single run."""

import hashlib
import shutil
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import orjson

from aligner.errors import AlignerError
from aligner.files.bad_rows import SkipBadRows
from aligner.files.output import OutputFile, replacing
from aligner.files.paths import beside
from aligner.files.writing import publish
from aligner.sharding.locking import holding
from aligner.sharding.plan import Plan, folder_of, found, remove_parts

_BLOCK = 1 << 20


def merge(plan: Plan) -> Mapping[str, Any]:
    """Make one file of all parts, once, and give what came out: rows, counts, and how many rows were skipped.

    Whoever comes second gets what the first made. Raises AlignerError where a part does not have the rows that were
    planned, or is not the file that was written.
    """
    with holding(folder_of(plan.out) / "lock"):
        now = found(plan.out) or plan
        if now.finished is None:
            facts = [_facts(now, number) for number in range(len(now.slices))]
            _check_aligners(now, facts)
            _join(now, facts)
            _join_skipped(now)
            now = replace(now, finished=_sum(facts))
            now.save()
        # The manifest stays, so that the same command knows that nothing is left to do.
        remove_parts(now)
    return now.finished or {}


def digest_of(path: Path) -> str:
    """The SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _facts(plan: Plan, number: int) -> Mapping[str, Any]:
    facts = cast(Mapping[str, Any], orjson.loads(plan.facts(number).read_bytes()))
    if facts["rows"] != plan.slices[number].rows:
        problem = f"has {facts['rows']} rows, and {plan.slices[number].rows} were planned"
        raise AlignerError(f"{plan.part(number)}: {problem}: the answers have changed; delete {folder_of(plan.out)}")
    return facts


def _check_aligners(plan: Plan, facts: Iterable[Mapping[str, Any]]) -> None:
    makers = sorted({str(fact["aligner"]) for fact in facts if fact["aligner"]})
    if len(makers) > 1:
        problem = f"the parts come from different Aligners ({', '.join(makers)})"
        raise AlignerError(f"{folder_of(plan.out)}: {problem}; delete it and begin again")


def _join(plan: Plan, facts: Iterable[Mapping[str, Any]]) -> None:
    lines = beside(plan.out, ".lines")
    with OutputFile(lines, "wb", out=plan.out) as file:
        for number, fact in enumerate(facts):
            _copy(plan.part(number), file, digest=fact["sha256"])
        file.sync()
    publish(lines, plan.out)


def _copy(part: Path, file: OutputFile, *, digest: str) -> None:
    seen = hashlib.sha256()
    with part.open("rb") as source:
        while block := source.read(_BLOCK):
            seen.update(block)
            file.write(block)
    if seen.hexdigest() != digest:
        raise AlignerError(f"{part}: is damaged; delete it, and the same command makes it again")


def _join_skipped(plan: Plan) -> None:
    """The rows that were skipped, in the order of the file, where a single run would have them."""
    path = SkipBadRows(plan.out).path
    skipped = [SkipBadRows(plan.part(number)).path for number in range(len(plan.slices))]
    found_ones = [one for one in skipped if one.is_file()]
    if not found_ones:
        path.unlink(missing_ok=True)
        return
    with replacing(path) as file:
        for one in found_ones:
            with one.open("rb") as source:
                shutil.copyfileobj(source, file, _BLOCK)


def _sum(facts: Iterable[Mapping[str, Any]]) -> Mapping[str, Any]:
    rows, counts, skipped = 0, Counter[str](), Counter[str]()
    for fact in facts:
        rows += fact["rows"]
        counts.update(fact["counts"])
        skipped.update(fact["skipped"])
    return {"rows": rows, "counts": dict(counts), "skipped": dict(skipped)}
