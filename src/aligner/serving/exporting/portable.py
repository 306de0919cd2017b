"""Rows of the log as rows of a file, and back: nothing is lost, and any text comes through."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import MISSING, fields
from functools import cache, partial
from types import UnionType
from typing import Any, Literal, TypeVar, cast, get_args, get_origin, get_type_hints

from aligner.data.fields import kind_of
from aligner.files import RowError
from aligner.records import Message
from aligner.serving.database import escaped, unescaped
from aligner.serving.logged import Feedback, Lengths, Logged

T = TypeVar("T")
Row = dict[str, object]
Reader = Callable[[object, str], Any]
"""makes a value of JSON; what is wrong with it is a RowError that names it"""


def rows_of_feedback(logged: Logged) -> Iterator[Row]:
    """A row for each feedback on a correction."""
    for said in logged.feedback:
        yield _written(said)


def rows_of_log(logged: Logged) -> Iterator[Row]:
    """One row: a correction with its feedback."""
    yield _written(logged)


WRITERS: Mapping[str, Callable[[Logged], Iterator[Row]]] = {"log": rows_of_log, "feedback": rows_of_feedback}
"""how each kind of row is made"""


def read_logged(row: Mapping[str, object]) -> Logged | Feedback:
    """What a row of either kind holds; raises RowError for one that is neither, or is damaged."""
    if "verdict" in row:
        return _read(Feedback, row)
    if "outcome" in row:
        logged = _read(Logged, row)
        if any(said.id != logged.id for said in logged.feedback):
            raise RowError('"feedback" is on another correction')
        return logged
    raise RowError(
        "neither a correction nor feedback: `aligner export` writes those with --kind log and --kind feedback"
    )


def _written(value: Any) -> Any:
    """A value of the log as JSON has it."""
    if isinstance(value, str):
        return escaped(value)
    if isinstance(value, Mapping):
        return {escaped(name): _written(item) for name, item in cast("Mapping[str, Any]", value).items()}
    if isinstance(value, Lengths):
        return value._asdict()
    if isinstance(value, tuple | list):
        return [_written(item) for item in cast("tuple[Any, ...]", value)]
    if isinstance(value, Logged | Feedback | Message):
        return {field.name: _written(getattr(value, field.name)) for field in fields(value)}
    return value


def _read(kind: type[T], value: object, name: str = "the row") -> T:
    """A dataclass from JSON; what it has no field for was written by a newer version, and must not be lost."""
    given, known = _object(value, name), _readers_of(kind)
    if strange := sorted(map(str, given.keys() - known.keys())):
        raise RowError(f'unknown field "{strange[0]}": a newer aligner wrote it; update aligner-llm')
    try:
        return kind(**{key: known[key](item, key) for key, item in given.items()})
    except TypeError:
        missing = [f.name for f in fields(cast("Any", kind)) if f.default is MISSING and f.name not in given]
        raise RowError(f'no "{missing[0]}"' if missing else f"{name} is damaged") from None


@cache
def _readers_of(kind: type) -> Mapping[str, Reader]:
    """How each field of a dataclass is read."""
    hints = get_type_hints(kind)
    return {field.name: _reader(hints[field.name]) for field in fields(cast("Any", kind))}


def _reader(kind: Any) -> Reader:
    """Makes a value of that type of JSON; raises RowError for another one."""
    parts, origin = get_args(kind), get_origin(kind)
    if origin is Literal:
        return partial(_one_of, parts)
    if origin is UnionType:  # with None
        return partial(_perhaps, _reader(parts[0]))
    if origin is tuple:
        return partial(_each, _reader(parts[0]))
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return partial(_named, _reader(parts[1]))
    return _READERS[kind]


def _one_of(known: tuple[object, ...], value: object, name: str) -> object:
    if value not in known:
        raise RowError(f'"{name}" is none of {", ".join(map(str, known))}')
    return value


def _perhaps(read: Reader, value: object, name: str) -> object:
    return None if value is None else read(value, name)


def _each(read: Reader, value: object, name: str) -> tuple[object, ...]:
    return tuple(read(item, f"{name}.{i}") for i, item in enumerate(_list(value, name)))


def _named(read: Reader, value: object, name: str) -> dict[str, object]:
    # Where rows differ in their names, Parquet has null.
    held = {key: item for key, item in _object(value, name).items() if item is not None}
    return {unescaped(key): read(item, f"{name}.{key}") for key, item in held.items()}


def _expect(value: object, kind: type[T], name: str) -> T:
    if type(value) is not kind:
        raise RowError(f'"{name}" is {kind_of(value)}, not {_WORDS[kind]}')
    return value


def _object(value: object, name: str) -> dict[str, object]:
    return cast("dict[str, object]", _expect(value, dict, name))


def _list(value: object, name: str) -> list[object]:
    return cast("list[object]", _expect(value, list, name))


def _lengths(value: object, name: str) -> Lengths:
    given = _object(value, name)
    return Lengths(*(_expect(given.get(part), int, f"{name}.{part}") for part in Lengths._fields))


def _number(value: object, name: str) -> float:
    return float(value) if type(value) is int else _expect(value, float, name)


_WORDS: Mapping[type, str] = {
    str: "text",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    list: "a list",
    dict: "an object",
}
_READERS: Mapping[Any, Reader] = {
    str: lambda value, name: unescaped(_expect(value, str, name)),
    int: lambda value, name: _expect(value, int, name),
    float: _number,
    bool: lambda value, name: _expect(value, bool, name),
    Message: lambda value, name: _read(Message, value, name),
    Lengths: _lengths,
    Feedback: lambda value, name: _read(Feedback, value, name),
}
