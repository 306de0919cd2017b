"""Personal data in texts, found by rule and replaced by stand-ins: alike in all texts of a row.

Names and addresses of streets are not found: no rule knows them.
"""

import ipaddress
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple


class Found(NamedTuple):
    """One piece of personal data as it stands in a text."""

    kind: str
    raw: str
    key: str
    """equal for two ways to write the same"""


class Rule(NamedTuple):
    """What one kind looks like."""

    kind: str
    pattern: re.Pattern[str]
    """its group `it` is what would be replaced"""
    known: Callable[[str], tuple[str, str] | None]
    """what of it is replaced, from its first character on, and its key; None where it is something else"""


def replace(texts: Sequence[str]) -> tuple[list[str], Mapping[str, int]]:
    """The texts with stand-ins such as [EMAIL-1], and how many different ones of each kind there were.

    What is found in one text is replaced in all of them, the same by the same, however it is written: the digits of
    a phone number, a card or an IBAN may be parted in any way, and the code of the country may be there or not. Found
    are keys of services, e-mail addresses (but those of example.com and other reserved domains, RFC 2606), IBANs
    (ISO 13616, with their check digits), payment cards (by issuer and the check digit of ISO/IEC 7812), public IP
    addresses and phone numbers; digits in a row are a phone number only behind a word such as "call". Stand-ins that
    the texts hold already are left alone and not used again.
    """
    found = {each.raw: each for text in texts for each in find(text)}
    if not found:
        return list(texts), {}
    taken = {match[0] for text in texts for match in _STAND_IN.finditer(text)}
    stand_ins = _stand_ins(found.values(), taken)
    elsewhere = _elsewhere(found.values(), "\n".join(texts))
    pattern, names = _any_of(found, elsewhere), [stand_ins[same] for same in elsewhere.values()]

    def named(match: re.Match[str]) -> str:
        # What is written elsewhere has a group of its own.
        return names[match.lastindex - 1] if match.lastindex else stand_ins[_same(found[match[0]])]

    replaced = [pattern.sub(named, text) for text in texts]
    return replaced, Counter(kind for kind, _ in stand_ins)


def find(text: str) -> Iterator[Found]:
    """The personal data of one text, by kind; where two kinds would take the same characters, the first has them."""
    rest = text
    for kind, pattern, known in _RULES:
        for match in pattern.finditer(rest):
            named = known(match["it"])
            if named:
                raw, key = named
                start = match.start("it")
                # A private-use character is part of no kind.
                rest = rest[:start] + "\ue000" * len(raw) + rest[start + len(raw) :]
                yield Found(kind, raw, key)


# ---- stand-ins -------------------------------------------------------------------------------------------------------

_STAND_IN = re.compile(r"\[[A-Z]+-\d+\]")


def _same(found: Found) -> tuple[str, str]:
    return found.kind, found.key


def _stand_ins(found: Iterable[Found], taken: Collection[str]) -> dict[tuple[str, str], str]:
    """A stand-in for each kind and key, numbered from 1 in their order."""
    stand_ins, last = dict[tuple[str, str], str](), Counter[str]()
    for each in found:
        if _same(each) in stand_ins:
            continue
        last[each.kind] += 1
        while f"[{each.kind}-{last[each.kind]}]" in taken:
            last[each.kind] += 1
        stand_ins[_same(each)] = f"[{each.kind}-{last[each.kind]}]"
    return stand_ins


def _any_of(raws: Iterable[str], elsewhere: Iterable[str]) -> re.Pattern[str]:
    """Finds all of them, the longest first, and then those patterns, but no part of a longer word or number."""
    longest_first = sorted(raws, key=lambda raw: (-len(raw), raw))
    found = [*map(re.escape, longest_first), *(f"({each})" for each in elsewhere)]
    return re.compile(rf"(?<![^\W_])(?:{'|'.join(found)})(?![^\W_])")


_PARTED = r"[ \xa0./()\u2011\u2013-]{0,3}"
_SEPARATORS = re.compile(r"[ \xa0./()\u2011\u2013-]")
_OPENED = r"(?:\((?=\d{1,5}\)))?"


def _elsewhere(found: Collection[Found], text: str) -> dict[str, tuple[str, str]]:
    """Patterns for those that are written in yet another way somewhere."""
    joined, seen = _SEPARATORS.sub("", text).upper(), Counter[tuple[str, str]]()
    for each in found:
        seen[_same(each)] += text.count(each.raw)
    # Most numbers are written in one way, and many patterns with optional parts would take long.
    others = (each for each in found if each.kind in _SPELLINGS and joined.count(each.key) != seen[_same(each)])
    return {_spelling(each): _same(each) for each in others}


def _spelling(found: Found) -> str:
    return _SPELLINGS[found.kind](found)


def _in_parts(found: Found) -> str:
    return f"(?i:{_PARTED.join(found.key)})"


def _phone_in_parts(found: Found) -> str:
    """With the code of the country, where it is known, with the 0 that is dialled within it, or with neither."""
    code = _code_of(found.raw)
    abroad = rf"(?:(?:(?:\+|00){_PARTED})?{code}{_PARTED})?" if code else ""
    return rf"{abroad}{_OPENED}(?:0\)?{_PARTED})?{_OPENED}{_PARTED.join(found.key)}"


_SPELLINGS: Mapping[str, Callable[[Found], str]] = {"PHONE": _phone_in_parts, "CARD": _in_parts, "IBAN": _in_parts}

# ---- what the kinds look like ----------------------------------------------------------------------------------------

_KEYS = re.compile(
    r"""(?<![\w-])(?P<it>
      sk-(?:ant-|proj-|or-)?[A-Za-z0-9_-]{20,200}
    | (?:AKIA|ASIA)[A-Z0-9]{16}
    | gh[pousr]_[A-Za-z0-9]{36,255} | github_pat_[A-Za-z0-9_]{22,255} | glpat-[A-Za-z0-9_-]{20,64}
    | xox[abprs]-[A-Za-z0-9-]{10,250} | hf_[A-Za-z]{30,64} | AIza[A-Za-z0-9_-]{35}
    | [rs]k_(?:live|test)_[A-Za-z0-9]{16,128}
    | eyJ[A-Za-z0-9_-]{8,2000}\.eyJ[A-Za-z0-9_-]{8,4000}\.[A-Za-z0-9_-]{16,2000}
    | -----BEGIN[ ](?:[A-Z]{1,20}[ ]){0,3}PRIVATE[ ]KEY-----[^-]{1,8000}-----END[ ](?:[A-Z]{1,20}[ ]){0,3}PRIVATE[ ]KEY-----
    )(?![A-Za-z0-9_])""",  # noqa: E501
    re.VERBOSE,
)
_EMAIL = re.compile(
    r"(?<![\w.+%-])(?P<it>[^\W_][\w.+%-]{0,63}@(?:[^\W_](?:[\w-]{0,61}[^\W_])?\.){1,8}[^\W\d_]{2,24})(?![^\W_])"
)
_IBAN = re.compile(r"(?<![^\W_])(?P<it>[A-Z]{2}\d{2}(?:[ -]?[A-Z0-9]{4}){2,7}(?:[ -]?[A-Z0-9]{1,3})?)(?![^\W_])")
_CARD = re.compile(r"(?<![\w.,$€£-])(?P<it>[23456]\d(?:[ -]?\d){11,17})(?![^\W_]|[.,-]\d)")
_IPV4 = re.compile(r"(?<![\w.-])(?P<it>(?:\d{1,3}\.){3}\d{1,3})(?![^\W_]|\.\d|-\d)")
_IPV6 = re.compile(r"(?<![\w:.])(?P<it>[23][0-9A-Fa-f]{3}(?::[0-9A-Fa-f]{0,4}){2,7})(?![\w:])")
_PHONE = re.compile(
    r"""(?<![\w)\].,/+-])(?<!\d[ -])(?P<it>
      (?:\+|00[ ]?)[1-9]\d{0,2}(?:[ ]?\(0\))?(?:[ ./-]?\(?\d{1,6}\)?){1,7}(?<=\d)
    | (?:1[ .-])?(?:\([2-9]\d\d\)[ ]?|[2-9]\d\d[.-])[2-9]\d\d[.-]\d{4}
    | \(?0\d{1,5}\)?[ /-][1-9]\d{2,4}(?:[ -]?\d{2,5}){1,3}
    )(?![^\W_]|[.,:/-]\d)""",
    re.VERBOSE,
)
_CALLED = re.compile(
    r"""(?<![^\W_])(?:(?:(?:call|phone|telephone|mobile|cell|cellphone|fax|whatsapp|dial)|tel\.?)
    (?:[ ](?:me|us|him|her|them))?(?:[ ](?:number|nr\.?|no\.?))?(?:[ ](?:at|on|is))?
    |(?:my|his|her|our|your|their)[ ]number[ ]is):?[ ]{1,2}
    (?P<it>\+?\(?\d{1,5}(?:[ /()-]{0,2}\d{2,14}){1,6}|\d{2,4}(?:\.\d{2,4}){2,4})(?![^\W_]|[.,:/-]\d)""",
    re.VERBOSE | re.IGNORECASE,
)


def _as_it_is(raw: str) -> tuple[str, str]:
    return raw, raw


_RESERVED = re.compile(r"[@.]example\.(?:com|net|org)|\.(?:example|test|invalid|localhost)")


def _email(raw: str) -> tuple[str, str] | None:
    key = raw.casefold()
    return None if any(match.end() == len(key) for match in _RESERVED.finditer(key)) else (raw, key)


def _iban(raw: str) -> tuple[str, str] | None:
    """The longest beginning whose check digits are right: a word in capital letters may follow."""
    ends = (len(raw), *(match.start() for match in reversed(list(re.finditer(r"[ -]", raw)))))
    for end in ends:
        key = re.sub(r"[ -]", "", raw[:end])
        if 15 <= len(key) <= 34 and int("".join(str(int(c, 36)) for c in key[4:] + key[:4])) % 97 == 1:
            return raw[:end], key
    return None


_ISSUERS = re.compile(
    r"4(?:\d{12}|\d{15}|\d{18})|5[1-5]\d{14}|2(?:22[1-9]|2[3-9]\d|[3-6]\d\d|7[01]\d|720)\d{12}|3[47]\d{13}"
    r"|6(?:011|4[4-9]\d|5\d\d)\d{12}|3(?:0[0-5]|[68]\d)\d{11}|35(?:2[89]|[3-8]\d)\d{12}|62\d{14,17}"
)
"""Visa, Mastercard twice, American Express, Discover, Diners Club, JCB, UnionPay"""


def _card(raw: str) -> tuple[str, str] | None:
    key = re.sub(r"\D", "", raw)
    doubled = (sum(divmod(2 * int(digit), 10)) for digit in key[-2::-2])
    right = (sum(map(int, key[-1::-2])) + sum(doubled)) % 10 == 0
    return (raw, key) if right and _ISSUERS.fullmatch(key) else None


def _ip(raw: str) -> tuple[str, str] | None:
    """A public address; 127.0.0.1 and such stand in every manual and belong to nobody."""
    try:
        address = ipaddress.ip_address(raw)
    except ValueError:
        return None
    return (raw, str(address)) if address.is_global and not address.is_multicast else None


_CODES = re.compile(r"(?:1|7|2[07]|3[0-469]|4[013-9]|5[1-8]|6[0-6]|8[1246]|9[0-58]|\d{3})")
"""of countries; ITU-T E.164, list of assigned codes"""
_ABROAD = re.compile(r"\s*(?:\+|00)")
_NORTH_AMERICAN = 10
"""digits; with a 1 before them the same number is meant"""


def _code_of(raw: str) -> str:
    """The code of the country that a number says, or nothing."""
    digits = re.sub(r"\D", "", raw)
    if _ABROAD.match(raw):
        match = _CODES.match(digits.removeprefix("00"))
        return match[0] if match else ""
    return "1" if len(digits.removeprefix("1")) == _NORTH_AMERICAN and digits[0] != "0" else ""


def _phone(raw: str) -> tuple[str, str] | None:
    """The key is the number within its country, without the 0 that is dialled before it."""
    digits = re.sub(r"\D", "", raw.replace("(0)", ""))
    digits = digits.removeprefix("00") if _ABROAD.match(raw) else digits
    if not 7 <= len(digits) <= 15 or raw.count("(") != raw.count(")"):
        return None
    return raw, digits.removeprefix(_code_of(raw)).removeprefix("0")


_RULES = (
    Rule("KEY", _KEYS, _as_it_is),
    Rule("EMAIL", _EMAIL, _email),
    Rule("IBAN", _IBAN, _iban),
    Rule("CARD", _CARD, _card),
    Rule("IP", _IPV4, _ip),
    Rule("IP", _IPV6, _ip),
    Rule("PHONE", _PHONE, _phone),
    Rule("PHONE", _CALLED, _phone),
)
