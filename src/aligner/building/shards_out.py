"""Rows into files of a data set: JSONL as they come, Parquet of one schema at the end, in shards of a given size."""

from collections.abc import Iterator, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import orjson

from aligner.building.nouns import Checked, Split
from aligner.data.fields import row_of
from aligner.errors import OutputFileError
from aligner.files.output import OutputFile
from aligner.files.writing import encode
from aligner.records import Triple

# They come without types.
pa: Any = import_module("pyarrow")
pq: Any = import_module("pyarrow.parquet")
SCHEMA = "1"
"""version of the columns, in the metadata of every Parquet file and in the manifest"""
_BATCH = 1024
_ROW_GROUP = 8 << 20
"""bytes of JSONL that make one row group"""
_TURN = pa.struct([("role", pa.string()), ("content", pa.string())])
_COLUMNS = pa.schema(
    [
        ("id", pa.string()),
        ("question", pa.string()),
        ("messages", pa.list_(_TURN)),
        ("answer", pa.string()),
        ("correction", pa.string()),
        ("sources", pa.list_(pa.string())),
        ("kind", pa.string()),
        ("cluster", pa.string()),
    ]
)


def row_from(checked: Checked) -> dict[str, Any]:
    """A triple as a row that training takes as it is; its facts are columns of their own, in alphabetical order.

    Of the place in a source only the file's name and the line are kept: folders of one machine say nothing elsewhere.
    """
    facts = {name: checked.facts[name] for name in sorted(checked.facts)}
    told = [str(facts.get(name) or "") for name in ("source", "upstream", "annotator")]
    triple = Triple(checked.question, checked.answer, checked.correction, (told[0], told[1], told[2]))
    columns = {"id": checked.id, **row_of(triple), "kind": checked.kind, "cluster": checked.cluster}
    for name in ("place", "answer_place"):
        if isinstance(place := facts.get(name), str):
            facts[name] = place.rpartition("/")[2]
    return {**columns, **{name: value for name, value in facts.items() if name not in _COLUMNS.names}}


class Lines:
    """A JSONL file that grows row by row; closing it waits until the disk has the rows."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rows = 0
        self._waiting: list[Mapping[str, Any]] = []
        self._file = OutputFile(path, "wb", out=path)

    def add(self, row: Mapping[str, Any]) -> None:
        """Write a row, now or with those that follow."""
        self._waiting.append(row)
        self.rows += 1
        if len(self._waiting) == _BATCH:
            self._flush()

    def close(self) -> None:
        """Write what is left; closing it again does nothing."""
        if not self._file.closed:
            self._flush()
            self._file.sync()
            self._file.close()

    def _flush(self) -> None:
        self._file.write(encode(self._waiting, self.path, first=self.rows - len(self._waiting) + 1))
        self._waiting.clear()


class Shards:
    """The rows of a data set, by split, in files of `size` rows; the training split is always there."""

    def __init__(self, folder: Path, size: int) -> None:
        self._folder, self._size = folder, size
        self._written: dict[Split, list[Lines]] = {"train": [self._begin("train", 0)]}
        self._facts: dict[str, Any] = {}
        self._waiting: list[Mapping[str, Any]] = []

    def add(self, split: Split, row: Mapping[str, Any]) -> None:
        """Write a row into the last shard of its split."""
        shards = self._written.setdefault(split, [])
        if not shards or shards[-1].rows == self._size:
            if shards:
                shards[-1].close()
            shards.append(self._begin(split, len(shards)))
        shards[-1].add(row)
        self._waiting.append(row)
        if len(self._waiting) == _BATCH:
            self._learn()

    def close(self) -> None:
        """Close what is open."""
        for shards in self._written.values():
            for lines in shards[-1:]:
                lines.close()

    def finish(self) -> Mapping[str, int]:
        """Name the shards, whose number is known only now, and make a Parquet file of each; the rows of each file."""
        self._learn()
        self.close()
        schema, rows = self._schema(), dict[str, int]()
        for split, shards in self._written.items():
            for number, lines in enumerate(shards):
                named = self._folder / f"{split}-{number:05d}-of-{len(shards):05d}.jsonl"
                lines.path.rename(named)
                parquet = _parquet_from(named, schema)
                rows |= {named.name: lines.rows, parquet.name: lines.rows}
        return rows

    def _begin(self, split: Split, number: int) -> Lines:
        return Lines(self._folder / f"{split}-{number:05d}.jsonl")

    def _learn(self) -> None:
        """Widen the types of the facts by the rows that wait."""
        names = dict.fromkeys(name for row in self._waiting for name in row if name not in _COLUMNS.names)
        for name in names:
            values = [_flat(row.get(name)) for row in self._waiting]
            self._facts[name] = _wider(name, self._facts.get(name, pa.null()), values)
        self._waiting.clear()

    def _schema(self) -> Any:
        facts = [(name, _known(self._facts[name])) for name in sorted(self._facts)]
        return pa.schema([*_COLUMNS, *(pa.field(name, kind) for name, kind in facts)], {"aligner.schema": SCHEMA})


def _wider(name: str, known: Any, values: Sequence[object]) -> Any:
    try:
        found = pa.array(values).type
        both = [pa.schema([(name, kind)]) for kind in (known, found)]
        return pa.unify_schemas(both, promote_options="permissive").field(name).type
    except (pa.ArrowException, OverflowError) as error:
        problem = str(error).partition("\n")[0]
        raise OutputFileError(f'the fact "{name}" is of different types in different rows: {problem}') from error


def _known(kind: Any) -> Any:
    """The type of a column, where a column in which nothing ever stood is one of texts."""
    if pa.types.is_null(kind):
        return pa.string()
    return pa.list_(_known(kind.value_type)) if pa.types.is_list(kind) else kind


def _flat(value: object) -> object:
    """A value for Parquet, where an object, whose fields differ from row to row, is JSON."""
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS).decode() if isinstance(value, dict) else value


def _parquet_from(lines: Path, schema: Any) -> Path:
    out = lines.with_suffix(".parquet")
    with OutputFile(out, "wb", out=out) as file:
        with pq.ParquetWriter(file, schema, compression="zstd") as writer:
            for rows in _batches(lines):
                flat = [{name: _flat(row.get(name)) for name in schema.names} for row in rows]
                writer.write_batch(pa.RecordBatch.from_pylist(flat, schema=schema))
        file.sync()
    return out


def _batches(lines: Path) -> Iterator[list[dict[str, Any]]]:
    """The rows in groups of some megabytes, each of which becomes one row group."""
    rows: list[dict[str, Any]] = []
    size = 0
    with lines.open("rb") as file:
        for line in file:
            rows.append(orjson.loads(line))
            size += len(line)
            if size >= _ROW_GROUP:
                yield rows
                rows, size = [], 0
    if rows:
        yield rows
