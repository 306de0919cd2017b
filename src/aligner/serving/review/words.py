"""The words by which corrections are searched for: the same for every database, and for text and search alike."""

import re
import unicodedata
from collections.abc import Iterable

# Where words are not set apart by spaces, every sign is one; what is longer than a word is several.
_WORD = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]|[^\W\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]{1,24}")
_LETTERS = 24
_NO_WORD = {code: " " for code in range(128) if not (chr(code).isalnum() or chr(code) == "_")}
_READ = 100_000
"""characters of a text that are indexed"""
_MOST = 8_000
"""words of a row: more than PostgreSQL takes of one might otherwise come together"""


def words_of(texts: Iterable[str]) -> list[str]:
    """The distinct words of some texts; of a very long text, its beginning."""
    whole = "\n".join([text[:_READ] for text in texts])
    if whole.isascii():
        # Thrice as fast as to look for words, and as many rows as are logged are taken apart.
        found = dict.fromkeys(whole.lower().translate(_NO_WORD).split())
        if found and len(max(found, key=len)) > _LETTERS:
            found = dict.fromkeys(_WORD.findall(" ".join(found)))
    else:
        found = dict.fromkeys(_WORD.findall(unicodedata.normalize("NFKC", whole).casefold()))
    return list(found)[:_MOST]
