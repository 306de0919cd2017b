"""What is asked of the review queue over HTTP, checked at the door."""

import math
import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypeVar, get_args

from aligner.errors import MisuseError
from aligner.serving.logged import State
from aligner.serving.moments import moment_of
from aligner.serving.review import cursors
from aligner.serving.review.paging import Filters, Place, Sort
from aligner.serving.wire import WireError

T = TypeVar("T")
Query = Mapping[str, str]
_MOST, _USUAL = 200, 50
_LONGEST_SEARCH = 500
_SECONDS = re.compile(r"\d{1,12}(\.\d{0,9})?")


class Asked(NamedTuple):
    """A page of the queue."""

    filters: Filters
    behind: Place | None
    limit: int


def page_asked(query: Query) -> Asked:
    """The page that a query asks for; what is empty is no filter. Raises WireError, 400."""
    unknown = sorted(set(query) - _READERS.keys() - {"limit", "cursor"})
    if unknown:
        raise WireError(400, f"there is no such filter; there are {', '.join(_READERS)}", "unknown_filter")
    given = {name: _read(query, name, reader) for name, reader in _READERS.items() if query.get(name, "").strip()}
    filters = Filters(**given)
    behind = _read(query, "cursor", lambda text: cursors.read(text, filters)) if query.get("cursor") else None
    return Asked(filters, behind, _read(query, "limit", _limit) if query.get("limit") else _USUAL)


def since_asked(query: Query) -> float | None:
    """The time from which on a query asks; raises WireError, 400."""
    return _read(query, "since", _moment) if query.get("since") else None


def _read(query: Query, name: str, reader: Callable[[str], T]) -> T:
    try:
        return reader(query[name])
    except (ValueError, MisuseError) as error:
        raise WireError(400, f'"{name}": {error}', "wrong_value", param=name) from None


def _one_of(known: tuple[Any, ...]) -> Callable[[str], Any]:
    def read(text: str) -> Any:
        if text not in known:
            raise ValueError(f"none of {', '.join(known)}")
        return text

    return read


def _truth(text: str) -> bool:
    return _one_of(("true", "false"))(text) == "true"


def _share(text: str) -> float:
    try:
        share = float(text)
    except ValueError:
        share = math.nan
    if not 0 <= share <= 1:
        raise ValueError("no share from 0 to 1")
    return share


def _moment(text: str) -> float:
    if _SECONDS.fullmatch(text):
        return float(text)
    return moment_of(text, "it") or 0.0


def _limit(text: str) -> int:
    if not re.fullmatch(r"\d{1,4}", text) or not 1 <= int(text) <= _MOST:
        raise ValueError(f"no number from 1 to {_MOST}")
    return int(text)


def _search(text: str) -> str:
    if len(text) > _LONGEST_SEARCH:
        raise ValueError(f"longer than {_LONGEST_SEARCH} characters")
    return text


_READERS: Mapping[str, Callable[[str], Any]] = {
    "changed": _truth,
    "edit_min": _share,
    "edit_max": _share,
    **dict.fromkeys(("upstream", "model", "aligner", "mode", "reason"), str),
    "since": _moment,
    "until": _moment,
    "state": _one_of(get_args(State)),
    "search": _search,
    "sort": _one_of(get_args(Sort)),
}
