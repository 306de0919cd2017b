"""Words of a text, and the language that they are in, as far as script and common words tell."""

import re
import tomllib
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from functools import lru_cache
from importlib.resources import files
from typing import Any

_APART = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
)
"""scripts that put no space between words: there, each character is taken for a word"""
_ASCII = bytes(ord(chr(i).lower()) if i < 128 and chr(i).isalnum() else 32 for i in range(256))
"""small letters and digits as they are, all else as a space"""
_ANY_WORD = re.compile(rf"[{_APART}]|[^\W_{_APART}]+")
_INVISIBLE = dict.fromkeys(map(ord, "'\u2018\u2019\u02bc\u00ad\u200b\u200c\u200d\u200e\u200f\u2060\ufeff"))
"""apostrophes, so that don't is one word with or without, and what nobody sees"""


def words(text: str) -> list[str]:
    """The words of a text: the same whatever the letter case, the punctuation and white space between them.

    Compatible forms are one (NFKC), apostrophes and invisible characters are left out, "_" parts words.
    """
    if text.isascii():
        return text.encode("ascii").translate(_ASCII, b"'").decode().split()
    return _ANY_WORD.findall(normalised(text))


def normalised(text: str) -> str:
    """Small letters in compatible forms, without apostrophes and invisible characters."""
    small = unicodedata.normalize("NFKC", text).casefold()
    return unicodedata.normalize("NFKC", small).translate(_INVISIBLE)


def language_of(text: str) -> str | None:
    """The language of a text as an ISO 639-1 code, or None where that cannot be told.

    Most letters are of one script; where several languages share it, three different common words of one decide, if
    its words are half as many again as those of any other. Names and code hold few such words.
    """
    script = _script_of(text)
    if script is None or script not in _known()["words"]:
        return script
    found = Counter(words(text[:_LONGEST]))
    hits = {name: sum(found[word] for word in common) for name, common in _common(script).items()}
    best, second = sorted(hits, key=lambda name: hits[name], reverse=True)[:2]
    enough = len(_common(script)[best] & found.keys()) >= _LEAST_HITS
    return best if enough and hits[best] >= _LEAD * hits[second] else None


def other_scripts(first: str, second: str) -> bool:
    """Whether two texts are in different scripts, which needs no word to be known."""
    scripts = _script_of(first), _script_of(second)
    return None not in scripts and scripts[0] != scripts[1]


def names_of(language: str) -> Sequence[str]:
    """What a language is called, in small letters, in English and in itself."""
    return _known()["names"].get(language, "").split()


# ---- scripts ---------------------------------------------------------------------------------------------------------

_LEAST_LETTERS = 8
_LEAST_SHARE = 0.6
_LEAST_HITS = 3
_LEAD = 1.5
_SCRIPTS: Mapping[str, str] = {
    "latin": "A-Za-z\u00c0-\u024f\u1e00-\u1eff",
    "cyrillic": "\u0400-\u052f",
    "el": "\u0370-\u03ff\u1f00-\u1fff",
    "arabic": "\u0600-\u06ff\u0750-\u077f",
    "he": "\u0590-\u05ff",
    "hi": "\u0900-\u097f",
    "bn": "\u0980-\u09ff",
    "ta": "\u0b80-\u0bff",
    "te": "\u0c00-\u0c7f",
    "th": "\u0e00-\u0e7f",
    "ka": "\u10a0-\u10ff",
    "ko": "\u1100-\u11ff\uac00-\ud7af",
    "ja": "\u3040-\u30ff",
    "zh": "\u3400-\u4dbf\u4e00-\u9fff",
}
"""scripts by their ranges; those that one language has nearly for itself are called after it"""
_LETTERS = {name: re.compile(f"[{letters}]") for name, letters in _SCRIPTS.items()}
_NOT_LATIN = re.compile(r"[^\x00-\u024f\u1e00-\u1eff\u2000-\u2bff]")
_LEAST_KANA = 0.1
"""of kana and ideographs together: from so many on, it is Japanese"""
_LONGEST = 20_000
"""characters that are looked at"""


def _script_of(text: str) -> str | None:
    text = text[:_LONGEST]
    candidates = _LETTERS if _NOT_LATIN.search(text) else ("latin",)
    counts = {name: len(_LETTERS[name].findall(text)) for name in candidates}
    kana, ideographs = counts.get("ja", 0), counts.get("zh", 0)
    if kana + ideographs:
        counts |= {"ja": 0, "zh": 0, ("ja" if kana >= _LEAST_KANA * (kana + ideographs) else "zh"): kana + ideographs}
    # An ideograph says as much as two letters.
    weights = {name: count * (2 if name in ("ja", "zh", "ko") else 1) for name, count in counts.items()}
    best = max(weights, key=lambda name: weights[name])
    enough = weights[best] >= max(_LEAST_LETTERS, _LEAST_SHARE * sum(weights.values()))
    return best if enough else None


# ---- common words ----------------------------------------------------------------------------------------------------


@lru_cache
def _common(script: str) -> Mapping[str, AbstractSet[str]]:
    return {name: frozenset(common.split()) for name, common in _known()["words"][script].items()}


@lru_cache
def _known() -> Mapping[str, Any]:
    """`words` by script and language, and `names` by language."""
    return tomllib.loads(files("aligner.data").joinpath("languages.toml").read_text(encoding="utf-8"))
