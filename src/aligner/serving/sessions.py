"""Who is logged in: a browser holds a random token, and the server its hash and what it stands for."""

import hashlib
import hmac
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from starlette.requests import cookie_parser

from aligner.serving.wire import WireError

COOKIE = "aligner_session"
_MOST = 10_000
"""sessions at a time; beyond that, the one that was used least lately ends"""


@dataclass(frozen=True, slots=True)
class Session:
    """What a token stands for."""

    digest: str
    """SHA-256 of the key that was logged in with"""
    owner: str
    """what the log knows of that key"""
    csrf: str
    """what a page has to send with everything that changes something"""
    ends: float
    """by the clock of the sessions"""

    def check(self, given: str) -> None:
        """Raises WireError, 403, where this is not the token that only our own pages know."""
        # Headers may hold letters that cannot be compared as they are.
        if not hmac.compare_digest(self.csrf.encode(), given.encode()):
            raise WireError(403, "no x-csrf-token of this session was sent: load the page again", "csrf_token")


@dataclass(slots=True)
class Sessions:
    """The sessions of this process, kept in memory alone; one that is idle for `seconds` ends."""

    seconds: float = 12 * 3600.0
    most: int = _MOST
    clock: Callable[[], float] = time.monotonic
    _by_hash: OrderedDict[str, Session] = field(default_factory=OrderedDict[str, Session], repr=False)
    """by the SHA-256 of their tokens, so that nobody who reads the memory can use one"""

    def __len__(self) -> int:
        return len(self._by_hash)

    def open(self, digest: str, owner: str) -> str:
        """The token of a new session for a key, 256 random bits."""
        token = secrets.token_urlsafe(32)
        csrf = secrets.token_urlsafe(32)
        self._by_hash[_hash(token)] = Session(digest, owner, csrf, self.clock() + self.seconds)
        if len(self._by_hash) > self.most:
            self._by_hash.popitem(last=False)
        return token

    def find(self, token: str) -> Session | None:
        """The session of a token, which is now used; None where there is none any more."""
        name = _hash(token)
        found, now = self._by_hash.pop(name, None), self.clock()
        if found is None or now >= found.ends:
            return None
        self._by_hash[name] = found = replace(found, ends=now + self.seconds)
        return found

    def close(self, token: str) -> None:
        """End a session."""
        self._by_hash.pop(_hash(token), None)


def cookie_in(header: str, name: str) -> str:
    """The value of a cookie in a Cookie header, or nothing."""
    # Other servers of this machine set cookies, too, at which the standard library would give up.
    return cookie_parser(header).get(name, "")


def cookie_of(name: str, value: str, *, secure: bool, path: str = "/", ends: bool = False) -> tuple[str, str]:
    """A header that sets a cookie which no script and no other site can use, or takes it away."""
    parts = [f"{name}={value}", f"Path={path}", "HttpOnly", "SameSite=Strict"]
    return "set-cookie", "; ".join([*parts, *(["Secure"] if secure else []), *(["Max-Age=0"] if ends else [])])


def _hash(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()
