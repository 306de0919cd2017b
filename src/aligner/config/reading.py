"""Configurations from TOML: a value comes from the default, then from the file, then from the flag."""

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar, cast, get_args, get_origin

from aligner.errors import MisuseError, unknown

T = TypeVar("T")


def read_config(kind: type[T], path: Path, **given: object) -> T:
    """The configuration in a TOML file, with the fields in `given` set besides.

    Raises MisuseError for a file that cannot be read, and for a key that is unknown, missing or of a wrong type.
    """
    return config_of(kind, {**read_toml(path), **given}, str(path))


def read_toml(path: Path) -> dict[str, Any]:
    """The table in a file; raises MisuseError for one that cannot be read."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise MisuseError(f"{path}: {error.strerror if isinstance(error, OSError) else error}") from error


def config_of(kind: type[T], table: Mapping[str, object], where: str) -> T:
    """The configuration that a table describes; `where` tells its errors where the table stands."""
    return _from_table(kind, table, where)


def _from_table(kind: type[T], table: Mapping[str, object], where: str) -> T:
    known = {field.name: field for field in fields(cast("Any", kind))}
    for name in table:
        if name not in known:
            raise unknown(f"key in {where}", name, known)
    missing = [name for name, field in known.items() if field.default is MISSING and name not in table]
    if missing:
        raise MisuseError(f'{where}: no "{missing[0]}"')
    return kind(**{name: _from_value(known[name].type, value, f"{where} [{name}]") for name, value in table.items()})


def _from_value(kind: Any, value: object, where: str) -> object:
    """A value of that type: TOML has lists for tuples, texts for paths, and writes 1 also for 1.0."""
    parts = get_args(kind)
    fitting: Any = (float, int) if kind is float else kind
    if is_dataclass(kind) and isinstance(value, dict):
        return _from_table(cast("type[Any]", kind), cast("dict[str, object]", value), where)
    if choices := [part for part in parts if get_origin(kind) is not tuple and get_origin(part) is Literal]:
        others = [part for part in parts if part not in choices]  # a number, or one of a few words
        return _from_value(choices[0] if isinstance(value, str) else others[0], value, where)
    if get_origin(kind) is Literal:
        if value not in parts:
            raise unknown(f"value in {where}", str(value), parts)
        return value
    if get_origin(kind) is tuple:
        items = cast("Sequence[object]", value) if isinstance(value, list | tuple) else None
        kinds = parts[:1] * len(items or ()) if parts[-1] is Ellipsis else parts
        if items is not None and len(items) == len(kinds):
            return tuple(_from_value(part, item, where) for part, item in zip(kinds, items, strict=True))
    elif Path in (kind, *parts) and isinstance(value, str):
        return Path(value)
    elif isinstance(value, fitting) and (kind is bool or not isinstance(value, bool)):
        return value
    raise MisuseError(f"{where}: {value!r} is not {kind.__name__ if isinstance(kind, type) else kind}")


def read_tables(kind: Any, tables: Sequence[object], where: str) -> object:
    """Tables that stand under one name, as a field of that type, a tuple, has them; raises MisuseError."""
    return _from_value(kind, tables, where)


def packaged_config(name: str) -> Path:
    """The TOML file of that name that comes with the package."""
    beside = Path(__file__).parents[1] / "configs"
    folder = beside if beside.is_dir() else Path(__file__).parents[3] / "configs"
    return folder / f"{name}.toml"
