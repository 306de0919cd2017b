"""`OUT/dataset`: the finished data set, which takes its place whole or not at all."""

import ctypes
import os
import shutil
from collections.abc import Generator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from aligner.building import funnel
from aligner.building.card import card
from aligner.building.exports import Export
from aligner.building.funnel_chart import chart
from aligner.building.ledger import Ledger
from aligner.building.manifest import NAME, Counts, files_of, manifest
from aligner.building.questions import check_overlap, rows_read
from aligner.building.shards_out import Lines, Shards, row_from
from aligner.building.store import Store
from aligner.config import BuildConfig
from aligner.errors import MisuseError
from aligner.files import write_json_atomic, write_text_atomic
from aligner.files.output import naming
from aligner.files.paths import beside
from aligner.sharding.locking import take
from aligner.templates import template_named

_EXCHANGE = 2
"""RENAME_EXCHANGE of Linux, renameat2(2)"""
_HERE = -100
"""AT_FDCWD: paths are taken from the working folder"""


def write(config: BuildConfig, store: Store, ledger: Ledger, facts: Mapping[str, Any]) -> Path:
    """Write the data set and give its folder; the same store, configuration and facts give the same bytes.

    `facts` is what is known besides (of sources, agreement, review, overlaps), as JSON holds it, and stands in the
    manifest. Rows are streamed. A data set that is there is replaced at once, or, where writing is cut short, not at
    all. Raises MisuseError while another process writes it, OverlapError where more rows than may overlap with
    evaluation sets, and OutputFileError.
    """
    out = config.out / "dataset"
    template_named(config.filters.template)
    check_overlap(config, store, "questions", rows_read(store))
    check_overlap(config, store, "verdicts", store.kept("annotated"))
    with _alone(config.out), _replacing(out) as folder:
        counts, rows = _write_rows(config, store, folder)
        _write_dropped(store, folder)
        steps = funnel.exported(funnel.steps(config, store), sum(counts.of("splits").values()))
        told = manifest(config, store, ledger, facts, steps, counts)
        write_text_atomic(folder / "funnel.svg", chart(steps))
        write_text_atomic(folder / "README.md", card(told))
        files = files_of(folder)
        write_json_atomic(folder / NAME, {**told, "files": _with_rows(files, rows)})
    return out


def _write_rows(config: BuildConfig, store: Store, folder: Path) -> tuple[Counts, Mapping[str, int]]:
    """Write each row into its shard and all exports; the rows by what they are, and of each file."""
    template = template_named(config.filters.template)
    counts, shards = Counts(), Shards(folder, config.rows_per_shard)
    exports = [Export(_made(folder / "exports"), name, template) for name in dict.fromkeys(config.formats)]
    with ExitStack() as opened:
        for writer in (shards, *exports):
            opened.callback(writer.close)
        for checked in store.checked():
            counts.add(checked)
            shards.add(checked.split, row_from(checked))
            for export in exports:
                export.add(checked)
    rows = dict(shards.finish())
    for export in exports:
        rows |= {f"exports/{name}": count for name, count in export.finish().items()}
    return counts, rows


def _write_dropped(store: Store, folder: Path) -> None:
    lines = Lines(folder / "dropped.jsonl")
    try:
        for dropped in store.dropped():
            # Folders of one machine say nothing elsewhere.
            told = {**dropped._asdict(), "place": dropped.place.rpartition("/")[2]}
            lines.add({name: value for name, value in told.items() if value or name not in {"source", "place"}})
    finally:
        lines.close()


def _with_rows(files: Mapping[str, dict[str, Any]], rows: Mapping[str, int]) -> dict[str, dict[str, Any]]:
    return {name: {**told, **({"rows": rows[name]} if name in rows else {})} for name, told in files.items()}


def _made(folder: Path) -> Path:
    folder.mkdir(exist_ok=True)
    return folder


@contextmanager
def _alone(folder: Path) -> Generator[None]:
    """Hold the folder, so that no other process writes the data set; a process that ends lets go of it."""
    with naming(folder):
        handle = os.open(folder, os.O_RDONLY)
    try:
        if not take(handle):
            raise MisuseError(f"{folder / 'dataset'}: another process is writing it; wait for its end")
        yield
    finally:
        os.close(handle)


@contextmanager
def _replacing(out: Path) -> Generator[Path]:
    """A folder that takes the place of `out` once it is whole; what an earlier process left of one goes first."""
    made, old = beside(out, ".writing"), beside(out, ".old")
    with naming(out):
        _mend(out, old)
        shutil.rmtree(made, ignore_errors=True)
        made.mkdir()
        try:
            yield made
            for folder in (*(path for path in made.iterdir() if path.is_dir()), made):
                _sync(folder)
            _place(made, out, old)
            _sync(out.parent)
        finally:
            shutil.rmtree(made, ignore_errors=True)


def _mend(out: Path, old: Path) -> None:
    """Undo a replacement that was cut short where a file system cannot exchange two folders."""
    if old.exists():
        shutil.rmtree(old) if out.exists() else old.rename(out)


def _place(made: Path, out: Path, old: Path) -> None:
    """Put the new folder in its place; the old one, if there was one, then bears the new one's name."""
    if not out.exists():
        made.rename(out)
    elif not _exchanged(made, out):
        out.rename(old)
        made.rename(out)
        old.rename(made)


def _exchanged(one: Path, other: Path) -> bool:
    """Let two folders change places at once, where system and file system can."""
    rename = getattr(ctypes.CDLL(None), "renameat2", None)
    return bool(rename) and rename(_HERE, os.fsencode(one), _HERE, os.fsencode(other), _EXCHANGE) == 0


def _sync(folder: Path) -> None:
    """Wait until the disk has the names in a folder."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
