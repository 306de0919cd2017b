"""Rows of sources: a question, and perhaps an answer and a correction, each with its place."""

import hashlib
import heapq
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, cast

from aligner.building.nouns import order_of
from aligner.config import BuildSource
from aligner.data.fields import as_asked
from aligner.data.readers import FORMATS, Fields, Given, NoTriple, giver_named
from aligner.data.tabular import ENDINGS, read
from aligner.errors import InputFileError, MisuseError, unknown
from aligner.files import RowError
from aligner.files.bad_rows import BadRow, StopAtBadRow

_HUB = "hub:"
_WORLD = "world:"
_LOG = "log"


class Unusable(NamedTuple):
    """Why a row gives nothing: it cannot be read, or holds no triple."""

    reason: str
    detail: str


class Found(NamedTuple):
    """A row of a source and its place, as file:line."""

    source: BuildSource
    place: str
    given: Given | Unusable


Reader = Callable[[Mapping[str, object]], Given | Unusable]


def named(sources: Sequence[BuildSource]) -> dict[str, BuildSource]:
    """The sources by their names; raises MisuseError for a name that stands there twice, or an unknown format."""
    found: dict[str, BuildSource] = {}
    for source in sources:
        name = name_of(source)
        if name in found:
            raise MisuseError(f'sources: the name "{name}" stands there twice; give each [[sources]] a name of its own')
        if source.format != _LOG and source.format not in FORMATS:
            raise unknown(f'format of the source "{name}"', source.format, (*FORMATS, _LOG))
        found[name] = source
    return found


def name_of(source: BuildSource) -> str:
    """What a source is called: its name, or that of its file."""
    if source.path.startswith(_WORLD):
        return source.name or _WORLD.rstrip(":")
    return source.name or Path(source.path.removeprefix(_HUB)).name.partition(".")[0]


def licences_of(sources: Sequence[BuildSource]) -> dict[str, str]:
    """The licence of each source, by its name."""
    return {name_of(source): source.licence for source in sources}


def rows(source: BuildSource, *, seed: int, skip: bool) -> Iterator[Found]:
    """The rows of a source, or its sample of them, in their order.

    A row that cannot be read is an InputFileError, unless bad rows are skipped: then it is one that is unusable.
    Raises MisuseError for a source that is not there.
    """
    found = _of_world(source, seed) if source.path.startswith(_WORLD) else _all(source, skip=skip)
    if not source.sample:
        return found
    # By a hash of each row's number: a larger sample of one seed holds the smaller one, on any machine.
    name = name_of(source)
    numbered = ((order_of(seed, f"{name} {number}"), number, row) for number, row in enumerate(found))
    drawn = heapq.nsmallest(source.sample, numbered)
    return (row for _, _, row in sorted(drawn, key=lambda item: item[1]))


def files_of(source: BuildSource) -> list[Path]:
    """The files that a source means, loaded from the hub where it is one of those; raises MisuseError.

    None are meant by the closed world, and by a log in a database.
    """
    if source.path.startswith(_WORLD):
        return []
    if "://" in source.path:
        if source.format != _LOG:
            cure = f"is read from files, folders and {_HUB}ORG/NAME/FILE; download it first"
            raise MisuseError(f'the source "{name_of(source)}" is an address, but format "{source.format}" {cure}')
        return []
    if source.path.startswith(_HUB):
        return [_from_hub(source.path.removeprefix(_HUB))]
    path = Path(source.path)
    if path.is_dir():
        found = sorted(file for file in path.iterdir() if file.name.lower().endswith(ENDINGS))
        if not found:
            raise MisuseError(f"{path}: the folder holds no file that can be read ({', '.join(ENDINGS)})")
        return found
    if not path.exists():
        raise MisuseError(f'{path}: no such file or folder, for the source "{name_of(source)}"')
    return [path]


def hash_of(files: Sequence[Path]) -> str:
    """SHA-256 over the bytes of some files, in their order."""
    found = hashlib.sha256()
    for path in files:
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                found.update(block)
    return found.hexdigest()


def _all(source: BuildSource, *, skip: bool) -> Iterator[Found]:
    if source.format == _LOG and "://" in source.path:
        yield from _database(source)
    for path in files_of(source):
        yield from _database(source) if _is_database(source, path) else _file(source, path, skip=skip)


def _file(source: BuildSource, path: Path, *, skip: bool) -> Iterator[Found]:
    kept = _Kept()
    place = path.name if source.path.startswith(_HUB) else str(path)
    for row, given in read(path, _reader(source), bad_rows=kept if skip else StopAtBadRow()):
        yield from _bad(source, kept, place)
        yield Found(source, f"{place}:{row.line}", given)
    yield from _bad(source, kept, place)


@dataclass(slots=True)
class _Kept:
    """Bad rows on their way to those who count them."""

    rows: list[BadRow]

    def __init__(self) -> None:
        self.rows = []

    @property
    def reasons(self) -> Mapping[str, int]:
        """None: they are counted elsewhere."""
        return {}

    def __call__(self, row: BadRow, /) -> None:
        """Keep it."""
        self.rows.append(row)

    def finish(self) -> None:
        """Nothing is left to do."""


def _bad(source: BuildSource, kept: _Kept, place: str) -> Iterator[Found]:
    waiting, kept.rows = kept.rows, []
    for row in waiting:
        yield Found(source, f"{place}:{row.line}", Unusable("unreadable", row.problem))


def _reader(source: BuildSource) -> Reader:
    if source.format == _LOG:
        return partial(_exported, source.takes)
    fields = Fields(question=source.question, answer=source.answer, correction=source.correction)
    return partial(_read, giver_named(source.format, source.takes, fields))


def _read(reader: Callable[[Mapping[str, object]], Given | NoTriple], row: Mapping[str, object]) -> Given | Unusable:
    found = reader(row)
    return Unusable("no_triple", found.reason) if isinstance(found, NoTriple) else found


# ---- the correction log of aligner serve -----------------------------------------------------------------------------


def _is_database(source: BuildSource, path: Path) -> bool:
    return source.format == _LOG and not path.name.lower().endswith(ENDINGS)


def _exported(takes: str, row: Mapping[str, object]) -> Given | Unusable:
    """A row that aligner export wrote with --kind log."""
    from aligner.serving.exporting.portable import read_logged
    from aligner.serving.logged import Logged

    logged = read_logged(row)
    return _of_log(takes, logged) if isinstance(logged, Logged) else Unusable("no_triple", "is feedback alone")


def _database(source: BuildSource) -> Iterator[Found]:
    from aligner.serving.database import place_of
    from aligner.serving.store import Store

    place = place_of(source.path)
    with closing(Store(place, writable=False)) as store:
        for number, logged in enumerate(store.rows(), 1):
            yield Found(source, f"{place.label}:{number}", _of_log(source.takes, logged))


def _of_log(takes: str, logged: Any) -> Given | Unusable:
    from aligner.data.fields import triple_of
    from aligner.serving.exporting.lessons import LeftOut, Wanted, judged, triple

    if takes == "triples":
        found = judged(logged, Wanted())
        made = found if isinstance(found, LeftOut) else triple(found)
        if isinstance(made, LeftOut):
            return Unusable("no_triple", made.reason)
        row = triple_of(made)
        return Given(row.question, row.answer, row.correction)
    if logged.content != "full":
        return Unusable("no_triple", f"stored without content (log_content {logged.content})")
    turns = [{"role": turn.role, "content": turn.content} for turn in logged.messages or ()]
    try:
        question = as_asked(turns or logged.question, "messages")
        return Given(question, None if takes == "questions" else logged.answer, None)
    except RowError as error:
        return Unusable("unreadable", str(error))


# ---- the closed world ------------------------------------------------------------------------------------------------


def _of_world(source: BuildSource, seed: int) -> Iterator[Found]:
    """So many questions of the closed world, of all its families in turn, with names that may be seen in training."""
    from random import Random

    from aligner.world.families import FAMILIES
    from aligner.world.questions import ask

    count = source.path.removeprefix(_WORLD)
    if not count.isdecimal() or source.takes != "questions":
        raise MisuseError(f'"{source.path}": the closed world gives questions alone, as in {_WORLD}2000')
    for number in range(int(count)):
        asked = ask(Random(f"build {seed} {number}"), FAMILIES[number % len(FAMILIES)], "seen")
        yield Found(source, f"world:{number + 1}", Given(asked.text))


# ---- the hub ---------------------------------------------------------------------------------------------------------


def _from_hub(name: str) -> Path:
    organisation, _, rest = name.partition("/")
    repository, _, file = rest.partition("/")
    if not (organisation and repository and file):
        raise MisuseError(f'"{_HUB}{name}": a file on the hub is named {_HUB}ORG/NAME/FILE')
    import huggingface_hub

    try:
        hub = cast("Any", huggingface_hub)
        return Path(hub.hf_hub_download(f"{organisation}/{repository}", file, repo_type="dataset"))
    except (OSError, ValueError) as error:
        line = str(error).partition("\n")[0]
        raise InputFileError(f"{_HUB}{name}: cannot be loaded from the hub: {line}") from error
