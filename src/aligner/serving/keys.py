"""Who asks, and what each key allows."""

import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, get_args

from aligner.config import Role
from aligner.errors import MisuseError, unknown
from aligner.serving.journal import key_hash
from aligner.serving.wire import WireError

ROLES: tuple[Role, ...] = get_args(Role)
"""each may do what those before it may"""


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks."""

    name: str
    """of the key; none where no key is asked for"""
    role: Role = "client"
    owner: str = ""
    """what the log knows of the key: rows with this are the caller's own"""

    def may(self, role: Role) -> bool:
        """Whether this is such a caller, or one who may do more."""
        return ROLES.index(self.role) >= ROLES.index(role)

    @property
    def is_operator(self) -> bool:
        """Whether everything is allowed."""
        return self.may("operator")


def caller_of(scope: Any) -> Caller:
    """Who sent a request that was admitted."""
    return scope["state"]["caller"]


def require(scope: Any, role: Role) -> Caller:
    """Who sent a request that was admitted; raises WireError, 403, for a caller that may not do so much."""
    caller = caller_of(scope)
    if not caller.may(role):
        raise WireError(403, f"this needs a key with the role {role}", "role_needed")
    return caller


@dataclass(slots=True)
class Keys:
    """The keys that let somebody in: the operator's own, and those of a file, of which only hashes are known.

    The file is read again once it has changed, so that a line taken out of it takes effect at once.
    """

    operator: str = field(default="", repr=False)
    file: Path | None = None
    _hashes: Mapping[str, Caller] = field(default_factory=dict[str, Caller], repr=False)
    _read: int = -1

    def __post_init__(self) -> None:
        self._refresh()

    @property
    def are_needed(self) -> bool:
        """Whether a key is asked for at all."""
        return bool(self.operator) or self.file is not None

    def caller(self, authorization: str) -> Caller:
        """Who sent a header; raises WireError, 401, for a key that is missing or unknown."""
        owner = key_hash([("authorization", authorization)])
        if not self.are_needed:
            return Caller("", "operator", owner)
        found = self.holder(digest_of(authorization.removeprefix("Bearer ")))
        if found is None or not authorization.startswith("Bearer "):
            raise WireError(401, "the key is missing or wrong", "invalid_api_key")
        return replace(found, owner=owner)

    def holder(self, digest: str) -> Caller | None:
        """Whose key has that SHA-256, as the keys are now."""
        self._refresh()
        known = dict(self._hashes)
        if self.operator:
            known[digest_of(self.operator)] = Caller("operator", "operator")
        found: Caller | None = None
        # All are compared, whichever it is: the time that it takes tells nothing.
        for one, caller in known.items():
            if hmac.compare_digest(digest, one):
                found = caller
        return found

    def _refresh(self) -> None:
        """Read the file again if it has changed; one that is gone or broken lets nobody in."""
        if self.file is None:
            return
        try:
            changed = self.file.stat().st_mtime_ns
            if changed != self._read:
                self._hashes, self._read = read_keys(self.file), changed
        except (OSError, MisuseError):
            self._hashes, self._read = {}, -1


def digest_of(key: str) -> str:
    """What is kept of a key: its SHA-256. Keys are long and random, so that none can be guessed from it."""
    return hashlib.sha256(key.encode()).hexdigest()


def line_of(name: str, key: str, role: Role = "client") -> str:
    """The line of a key in a file of keys."""
    return f"{name} sha256:{digest_of(key)}{'' if role == 'client' else f' {role}'}\n"


def read_keys(path: Path) -> Mapping[str, Caller]:
    """Callers by the SHA-256 of their keys, from lines `name sha256:…` and perhaps a role; raises MisuseError."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise MisuseError(f"{path}: the keys cannot be read: {error}") from error
    found: dict[str, Caller] = {}
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.startswith("#"):
            continue
        name, _, rest = line.partition(" sha256:")
        digest, _, role = rest.rstrip().partition(" ")
        if not name.strip() or len(digest) != 64 or not set(digest) <= set("0123456789abcdef"):
            raise MisuseError(f"{path}:{number}: not like `name sha256:…`; `aligner grant NAME` writes such lines")
        if (role := role.strip() or "client") not in ROLES:
            raise unknown(f"role in {path}:{number}", role, ROLES)
        found[digest] = Caller(name.strip(), role)
    return found
