"""Who is there: by the session of a key, or, on this machine alone, by the name that somebody gives."""

import asyncio
import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import parse_qs, quote, unquote

from aligner.config import Role
from aligner.serving.admission import Admission
from aligner.serving.client import Client, Receive
from aligner.serving.endpoint import Scope, body_of, headers_of
from aligner.serving.keys import Caller
from aligner.serving.pages.entering import first, is_secure
from aligner.serving.pages.files import lead
from aligner.serving.sessions import cookie_in, cookie_of
from aligner.serving.wire import WireError

Form = Mapping[str, list[str]]
ANNOTATES: Role = "viewer"
INSPECTS: Role = "reviewer"
_COOKIE = "aligner_annotator"
SMALL_FORM = 2**16
"""bytes that a form may have"""
LARGE_FORM = 2**20
"""one with a text"""
_LONGEST_NAME = 60
_MOST_FIELDS = 40


@dataclass(frozen=True, slots=True)
class Visitor:
    """Who is there."""

    name: str
    caller: Caller
    csrf: str
    """what the forms of this session have to send; empty where there are no keys"""


async def visitor(admission: Admission, scope: Scope, client: Client) -> Visitor | None:
    """Who is there, by the headers alone; where that is not known, the browser is led to where it can be told.

    None then. A form has yet to show the session's token: see `sent_by`. Raises WireError, 403, for keys that are for
    the API alone and for pages from elsewhere.
    """
    headers = dict(headers_of(scope))
    session = None if "authorization" in headers else admission.session(headers)
    csrf = session.csrf if session else ""
    try:
        caller = admission.admit({**headers, "x-csrf-token": csrf}, scope["method"], scope["path"])
    except WireError as error:
        if error.status != 401:
            raise
        await lead(client, f"/login?next={_page_of(scope)}")
        return None
    if not caller.may(ANNOTATES):
        raise WireError(403, f"this needs a key with the role {ANNOTATES}", "role_needed")
    name = caller.name or named(unquote(cookie_in(headers.get("cookie", ""), _COOKIE)))
    if not name:
        await lead(client, f"/name?next={_page_of(scope)}")
        return None
    return Visitor(name, caller, csrf)


async def sent_by(
    admission: Admission, scope: Scope, receive: Receive, client: Client, largest: int
) -> tuple[Visitor, Form] | None:
    """Who sends a form, and the form, which is read only once it is known who that is.

    Where the form is not one of this session's pages, the browser is led to a new one, and None is given. Raises
    WireError as `visitor` and `form_of` do.
    """
    if (who := await visitor(admission, scope, client)) is None:
        return None
    form = await form_of(scope, receive, largest)
    # What was sent may hold letters that cannot be compared as they are.
    if who.csrf and not hmac.compare_digest(first(form, "csrf").encode(), who.csrf.encode()):
        await lead(client, f"{_page_of(scope)}?note=old")
        return None
    return who, form


def _page_of(scope: Scope) -> str:
    """The page whose forms are sent to a path."""
    return "/" + scope["path"].split("/")[1]


def named(text: str) -> str:
    """A text as the name of a person: one line, without signs that nobody sees; empty where nothing is left of it."""
    return " ".join("".join(sign if sign.isprintable() else " " for sign in text).split())[:_LONGEST_NAME].strip()


def name_cookie(name: str, scope: Scope) -> tuple[str, str]:
    """The header by which a browser keeps the name that somebody gave."""
    return cookie_of(_COOKIE, quote(name, safe=""), secure=is_secure(scope))


async def form_of(scope: Scope, receive: Receive, largest: int) -> Form:
    """The fields of a form of so many bytes at the most; raises WireError, 400, 408 or 413."""
    body = await body_of(scope, receive, largest)
    # A long text takes long enough to keep others waiting.
    return _fields_of(body) if len(body) <= SMALL_FORM else await asyncio.to_thread(_fields_of, body)


def _fields_of(body: bytes) -> Form:
    try:
        return parse_qs(body.decode("latin-1"), keep_blank_values=True, max_num_fields=_MOST_FIELDS)
    except ValueError:
        raise WireError(400, "the form has too many fields", "wrong_value") from None
