"""What the pages look like: templates and static files of this package, besides those of the playground."""

import hashlib
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from importlib.resources import files
from typing import Any

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined

from aligner.serving.pages.files import File, Templates, packaged
from aligner.serving.shadow.word_diff import Piece, pieces_of, shown

_KINDS = {"annotate.css": "text/css; charset=utf-8", "annotate.js": "text/javascript; charset=utf-8"}


def templates() -> Templates:
    """The pages' templates; the form for keys is the playground's own, in another frame."""
    ours, theirs = PackageLoader("aligner.building.reviewing", "templates"), PackageLoader("aligner.serving")
    environment = Environment(loader=ChoiceLoader([ours, theirs]), autoescape=True, undefined=StrictUndefined)
    environment.filters.update(_FILTERS)
    return Templates(version("aligner-llm"), environment)


def static_files() -> Mapping[str, File]:
    """The playground's static files, and two more."""
    folder = files("aligner.building.reviewing").joinpath("static")
    return {**packaged(), **{name: _file(folder.joinpath(name).read_bytes(), kind) for name, kind in _KINDS.items()}}


def _file(data: bytes, kind: str) -> File:
    return File(data, kind, f'"{hashlib.sha256(data).hexdigest()[:32]}"')


def _percent(share: float | None) -> str:
    return "none" if share is None else f"{share:.0%}"


def _changes(texts: Sequence[str]) -> list[Piece]:
    before, after = texts
    return joined(pieces_of(before, after))


def joined(pieces: Sequence[Piece]) -> list[Piece]:
    """The pieces with changes between which there is nothing but spaces as one: that reads better."""
    found: list[Piece] = []
    gone, new = "", ""
    for number, (kind, text) in enumerate(pieces):
        is_between = bool(gone or new) and number + 1 < len(pieces) and not text.strip(" \t")
        if kind == "gone" or (kind == "same" and is_between):
            gone += text
        if kind == "new" or (kind == "same" and is_between):
            new += text
        if kind == "cut" or (kind == "same" and not is_between):
            found += [*_change(gone, new), Piece(kind, text)]
            gone, new = "", ""
    return [*found, *_change(gone, new)]


def _change(gone: str, new: str) -> list[Piece]:
    pieces = Piece("gone", gone), Piece("new", new)
    return [piece for piece in pieces if piece.text]


_FILTERS: Mapping[str, Any] = {"shown": shown, "percent": _percent, "changes": _changes}
