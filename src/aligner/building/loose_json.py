r"""An annotator's object in the text of a reply, whatever models usually do to JSON.

The first reader is exact. It knows single quotes, raw line ends, commas behind the last item, backslashes that escape
nothing, Python's words, and talk around. The second takes quotation marks that stand unescaped in the last field, which
it reads letter by letter too; the small fields before it json_repair may guess.
"""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, cast

import json_repair

Fields = Mapping[str, object]
LAST = "correction"
"""the field that stands last, and is a long text"""
_NAMES = rf"(?:verdict|reasons|{LAST})"
_QUOTE = r"""["'\u201c\u201d\u2018\u2019]"""
_MOST = 16
"""objects that are looked at in one reply"""
_LONGEST = 4000
"""characters that json_repair is given, whose time grows by their square: verdict and reasons are shorter"""
_START = re.compile(rf"\{{\s*{_QUOTE}?{_NAMES}{_QUOTE}?\s*:", re.IGNORECASE)
_KEY = re.compile(rf"{_QUOTE}?{LAST}{_QUOTE}?\s*+:", re.IGNORECASE)
_TEXT = re.compile(r"""\s*+(?:"(.*)"|'(.*)'|\u201c(.*)\u201d|\u2018(.*)\u2019)\s*+(?:,\s*+)?\}\Z""", re.DOTALL)
_STRAY = re.compile(
    rf"""\\.|(?P<end>{_QUOTE})\s*+(?:[}}\]]|(?:,\s*+)?(?:{_QUOTE}|[^\W\d]\w*+\s*+:))""",
    re.DOTALL,
)
"""a quotation mark behind which the object seems to go on: with another field, another text, or its end"""
_TOKEN = re.compile(
    r"""(?P<text>"[^"\\]*+(?:\\.[^"\\]*+)*+"|'[^'\\]*+(?:\\.[^'\\]*+)*+')"""
    r"|(?P<space>\s+)|(?P<mark>[{}\[\],:])|(?P<word>[\w.+-]+)",
    re.DOTALL,
)
_ESCAPE = re.compile(r'\\(u[0-9a-fA-F]{4}|.)|"', re.DOTALL)
_WORDS = {"None": "null", "True": "true", "False": "false"}


def objects_in(said: str) -> Iterator[Fields]:
    """The objects with fields of ours, none of them inside another; names and values are as the reply has them.

    An object that names a field twice counts as one that has none. Nothing is raised for any text.
    """
    end = 0
    guessed = False
    for start in [found.start() for found in _START.finditer(said)][:_MOST]:
        if start < end:
            continue
        exact = _exact(said, start)
        if exact is not None:
            end = exact[1]
            yield exact[0]
        elif not guessed:
            guessed = True
            rest = said[start : said.rfind("}") + 1]
            if fields := _with_raw_quotes(rest):
                end = start + len(rest)
                yield fields


def _exact(said: str, start: int) -> tuple[Fields, int] | None:
    """The object that begins there and where it ends; None where more is wrong with it than is usual."""
    tokens: list[str] = []
    depth = 0
    while token := _TOKEN.match(said, start):
        start = token.end()
        if token.lastgroup == "space":
            continue
        if token[0] in "]}" and tokens[-1:] == [","]:
            tokens.pop()
        tokens.append(_strict(token))
        depth += (token[0] in "{[") - (token[0] in "}]")
        if depth == 0:
            fields = _loaded("".join(tokens))
            return None if fields is None else (fields, start)
    return None


def _with_raw_quotes(said: str) -> Fields | None:
    """An object whose last field, if it has that one, ends where the object does; None where it may end before."""
    keys = list(_KEY.finditer(said))
    if not keys:
        return _repaired(said)
    text = _TEXT.match(said, keys[0].end())
    if text is None or len(keys) > 1 or _START.search(said, 1):
        return None
    inner = next(filter(None, text.groups()), "")
    if any(stray["end"] for stray in _STRAY.finditer(inner)):
        return None
    last = _loaded(f'{{"{LAST}":{_quoted(inner)}}}')
    before = said[: keys[0].start()] + "}"
    exact = _exact(before, 0)
    head = exact[0] if exact else _repaired(before)
    return {**head, **last} if head is not None and last is not None else None


def _repaired(said: str) -> Fields | None:
    if len(said) > _LONGEST:
        return None
    try:
        found: Any = json_repair.loads(said, skip_json_loads=True)
    except Exception:  # noqa: BLE001  # whatever a repairer of hostile text trips over: then the reply is not read
        return None
    return cast("Fields", found) if isinstance(found, dict) else None


def _strict(token: re.Match[str]) -> str:
    """A token as JSON has it."""
    return _quoted(token[0][1:-1]) if token.lastgroup == "text" else _WORDS.get(token[0], token[0])


def _quoted(inner: str) -> str:
    """A text between its quotation marks, as JSON has it."""
    return f'"{_ESCAPE.sub(_escape, inner)}"'


def _escape(found: re.Match[str]) -> str:
    """An escape as JSON has it; one that escapes nothing is a backslash, as in LaTeX."""
    what: str | None = found[1]
    if what is None:
        return '\\"'
    if what == "'":
        return "'"
    return found[0] if what in tuple('"\\/bfnrt') or len(what) > 1 else f"\\\\{what}"


def _loaded(text: str) -> Fields | None:
    try:
        found: object = json.loads(text, strict=False, object_pairs_hook=_without_doubles)
    except (ValueError, RecursionError):
        return None
    return cast("Fields", found) if isinstance(found, dict) else None


def _without_doubles(pairs: list[tuple[str, object]]) -> Fields:
    """A text with quotation marks of its own can name a field again, and nothing tells which one is meant."""
    fields = dict(pairs)
    return fields if len(fields) == len(pairs) else {}
