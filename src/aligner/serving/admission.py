"""Whom the proxy answers: by a key, or by the session that somebody logged in to with one."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from urllib.parse import urlsplit

from aligner.serving.keys import Caller, Keys
from aligner.serving.limits import Places, Rates
from aligner.serving.sessions import COOKIE, Session, Sessions, cookie_in
from aligner.serving.wire import WireError

ADMITS = (b"host", b"authorization", b"cookie", b"origin", b"x-forwarded-host", b"x-csrf-token", b"content-type")
"""headers that say who asks, and whether a page from elsewhere could have"""
_LOGINS_A_MINUTE = 30.0
_HARMLESS = frozenset({"GET", "HEAD", "OPTIONS"})
"""methods that change nothing"""


@dataclass(frozen=True, slots=True)
class Admission:
    """Whom the proxy answers."""

    keys: Keys
    rates: Rates
    places: Places
    hosts: Collection[str]
    """names by which it may be called where no key is asked for: those of other machines' pages are not among them"""
    sessions: Sessions = field(default_factory=Sessions)
    logins: Rates = field(default_factory=lambda: Rates(_LOGINS_A_MINUTE))

    def admit(self, headers: Mapping[str, str], method: str, path: str) -> Caller:
        """Who asks; raises WireError, 401, 403 or 429."""
        if not self.keys.are_needed:
            self._check_place(headers, method, path)
        caller = self._caller(headers, method)
        self.rates.take(caller.name or caller.owner)
        return caller

    def session(self, headers: Mapping[str, str]) -> Session | None:
        """The session that a browser has, as long as its key is one."""
        token = cookie_in(headers.get("cookie", ""), COOKIE)
        found = self.sessions.find(token) if token and self.keys.are_needed else None
        if found is not None and self.keys.holder(found.digest) is None:
            self.sessions.close(token)
            return None
        return found

    def _caller(self, headers: Mapping[str, str], method: str) -> Caller:
        """A key that is sent counts; a browser's session only where there is none."""
        if "authorization" in headers or not self.keys.are_needed:
            return self.keys.caller(headers.get("authorization", ""))
        session = self.session(headers)
        holder = self.keys.holder(session.digest) if session else None
        if session is None or holder is None:
            return self.keys.caller("")
        if method not in _HARMLESS:
            session.check(headers.get("x-csrf-token", ""))
        return replace(holder, owner=session.owner)

    def _check_place(self, headers: Mapping[str, str], method: str, path: str) -> None:
        """Where no key is asked for, pages from elsewhere could ask through the browser of whoever reads them."""
        if "host" in headers and _host(headers["host"]) not in self.hosts:
            raise WireError(403, "not called by a name of this machine: see --hosts, or set a key", "wrong_host")
        is_ours = path.startswith("/v1/aligner/") or not path.startswith("/v1/")
        # Before a page from elsewhere may send JSON, browsers ask the upstream.
        is_json = headers.get("content-type", "").partition(";")[0].strip().lower() == "application/json"
        if method not in _HARMLESS and (is_ours or not is_json):
            check_origin(headers)


def check_origin(headers: Mapping[str, str]) -> None:
    """Raises WireError, 403, for a request that a page from elsewhere made."""
    # No page from elsewhere can name a host of its own there: browsers ask the server first whether they may.
    ours = {headers[name].lower() for name in ("host", "x-forwarded-host") if name in headers}
    if "origin" in headers and _netloc(headers["origin"]) not in ours:
        raise WireError(403, "another site's page asked for this", "wrong_origin")


def _host(header: str) -> str:
    """The name or address in a header, without its port."""
    try:
        return urlsplit(f"//{header}").hostname or ""
    except ValueError:
        return ""


def _netloc(origin: str) -> str:
    """Name and port of an origin; nothing where it is none."""
    try:
        return urlsplit(origin).netloc.lower()
    except ValueError:
        return ""
