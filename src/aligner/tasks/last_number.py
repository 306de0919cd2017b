"""The number on which an answer settles; imports nothing but the standard library."""

import re
from decimal import Decimal, InvalidOperation

_NUMBER = r"-?\$?-?(?:\d[\d,]*\.?\d*|\.\d+)"
_MARKED = (
    re.compile(rf"####[ \t]{{0,9}}\**[ \t]{{0,9}}({_NUMBER})"),
    re.compile(rf"\\boxed\{{[ \t]{{0,9}}\\?({_NUMBER})"),
    re.compile(rf"\banswer(?: is|:| ?=)[\s*:]{{0,9}}\\?({_NUMBER})", re.IGNORECASE),
    re.compile(rf"^A: ?({_NUMBER})", re.MULTILINE),
)
_ANY = re.compile(_NUMBER)


def number_in(answer: str) -> str:
    """The last number that is marked as the result, or else the last one, or ""."""
    for form in (*_MARKED, _ANY):
        if found := form.findall(answer):
            return plain(found[-1])
    return ""


def is_right(gold: str, read: str) -> bool:
    """Whether two numbers are the same, however they are written; what is no number is not right."""
    wanted, found = value(gold), value(read)
    return found is not None and found == wanted


def plain(number: str) -> str:
    """A number without signs that only people need."""
    return number.strip().replace(",", "").replace("$", "").rstrip(".")


def value(number: str) -> Decimal | None:
    """What a number is worth, if it is one."""
    try:
        return Decimal(plain(number))
    except InvalidOperation:
        return None
