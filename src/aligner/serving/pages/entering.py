"""Logging in and out."""

import hmac
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import parse_qs

from starlette.routing import Route

from aligner.serving.admission import Admission, check_origin
from aligner.serving.client import Client, Receive
from aligner.serving.endpoint import Endpoint, Scope, body_of, headers_of
from aligner.serving.keys import Caller, digest_of
from aligner.serving.pages.files import START, Templates, lead
from aligner.serving.sessions import COOKIE, cookie_in, cookie_of
from aligner.serving.wire import WireError

_FORM_COOKIE = "aligner_login"
_LARGEST_FORM = 2**16
_PROBLEMS = {
    401: "No such key is known here.",
    403: "This key is for the API alone.",
    429: "Too many attempts. Please wait a minute.",
}


@dataclass(frozen=True, slots=True)
class Entering:
    """How people come in and leave."""

    admission: Admission
    templates: Templates

    @property
    def routes(self) -> list[Route]:
        """What is answered where."""
        return [
            Route("/login", Endpoint(self.ask_for_key, None), methods=["GET"]),
            Route("/login", Endpoint(self.log_in, None), methods=["POST"]),
            Route("/logout", Endpoint(self.log_out, None), methods=["POST"]),
        ]

    async def ask_for_key(self, scope: Scope, _: Receive, client: Client) -> None:
        """GET /login: the form."""
        wanted = local(first(parse_qs(scope["query_string"].decode("latin-1")), "next"))
        if not self.admission.keys.are_needed:
            await lead(client, wanted)
            return
        await self._form(scope, client, wanted=wanted)

    async def log_in(self, scope: Scope, receive: Receive, client: Client) -> None:
        """POST /login: a session for a key with the role viewer or more."""
        headers = dict(headers_of(scope))
        form = _form_in(await body_of(scope, receive, _LARGEST_FORM))
        wanted = local(first(form, "next"))
        if not self.admission.keys.are_needed:
            await lead(client, wanted)
            return
        self._check_form(headers)
        sent, kept = first(form, "token"), cookie_in(headers.get("cookie", ""), _FORM_COOKIE)
        if not kept or not hmac.compare_digest(sent.encode(), kept.encode()):
            await self._form(scope, client, wanted=wanted, problem="The form was too old. Please try again.")
            return
        try:
            self.admission.logins.take("")
            key = first(form, "key").strip()
            caller = self._viewer(key)
        except WireError as error:
            problem = _PROBLEMS[error.status]
            await self._form(scope, client, wanted=wanted, problem=problem, status=error.status)
            return
        self.admission.sessions.close(cookie_in(headers.get("cookie", ""), COOKIE))
        token = self.admission.sessions.open(digest_of(key), caller.owner)
        await lead(client, wanted, cookie_of(COOKIE, token, secure=is_secure(scope)))

    async def log_out(self, scope: Scope, receive: Receive, client: Client) -> None:
        """POST /logout: end the session; the token comes as a header or in the form."""
        headers = dict(headers_of(scope))
        form = _form_in(await body_of(scope, receive, _LARGEST_FORM))
        self._check_form(headers)
        if (session := self.admission.session(headers)) is not None:
            session.check(headers.get("x-csrf-token") or first(form, "csrf"))
            self.admission.sessions.close(cookie_in(headers["cookie"], COOKIE))
        await lead(client, "/login", cookie_of(COOKIE, "", secure=is_secure(scope), ends=True))

    def _check_form(self, headers: Mapping[str, str]) -> None:
        """A form that was sent with keys has a token, too: there, a browser may leave out on whose page it stood."""
        if headers.get("origin") != "null" or not self.admission.keys.are_needed:
            check_origin(headers)

    def _viewer(self, key: str) -> Caller:
        """Whose key it is; raises WireError, 401 or 403."""
        caller = self.admission.keys.caller(f"Bearer {key}")
        if not caller.may("viewer"):
            raise WireError(403, "this key is for the API alone", "role_needed")
        return caller

    async def _form(
        self, scope: Scope, client: Client, *, wanted: str, problem: str = "", status: int | None = None
    ) -> None:
        """The form, with a token that its cookie holds, too: no other site can know both."""
        token = secrets.token_urlsafe(32)
        cookie = cookie_of(_FORM_COOKIE, token, secure=is_secure(scope), path="/login")
        status = status or (400 if problem else 200)
        told = {"next": wanted, "token": token, "error": problem or None}
        await self.templates.show(client, "login", cookie, status=status, caller=None, csrf="", **told)


def local(path: str) -> str:
    r"""The path where it leads to a page of ours, or else the first page's.

    Browsers take `\` for `/`, and leave out tabs and line ends, so that only plain signs are let through.
    """
    plain = path.startswith("/") and not path.startswith("//") and path.isascii() and path.isprintable()
    return path if plain and "\\" not in path and " " not in path else START


def is_secure(scope: Scope) -> bool:
    """Whether the browser speaks TLS, with us or with a proxy before us."""
    forwarded = dict(headers_of(scope)).get("x-forwarded-proto", "")
    return scope.get("scheme") == "https" or forwarded.partition(",")[0].strip() == "https"


def _form_in(body: bytes) -> Mapping[str, list[str]]:
    """The fields of a form; raises WireError, 400."""
    try:
        return parse_qs(body.decode("latin-1"), keep_blank_values=True, max_num_fields=20)
    except ValueError:
        raise WireError(400, "the form has too many fields", "wrong_value") from None


def first(form: Mapping[str, list[str]], name: str) -> str:
    """The first value of that name in a form or a query, or nothing."""
    return form.get(name, [""])[0]
