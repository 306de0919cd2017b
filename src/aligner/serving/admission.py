"""Who may ask, how often, and how many at a time."""

import asyncio
import hashlib
import hmac
import math
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from aligner.errors import MisuseError
from aligner.serving.wire import WireError

_MOST_CALLERS = 10_000
"""whose rates are remembered at a time"""


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks."""

    name: str
    is_operator: bool = False


@dataclass(slots=True)
class Keys:
    """The keys that let somebody in: the operator's own, and those of a file, of which only hashes are known.

    The file is read again once it has changed, so that a line taken out of it takes effect at once.
    """

    operator: str = field(default="", repr=False)
    file: Path | None = None
    _hashes: Mapping[str, str] = field(default_factory=dict[str, str], repr=False)
    _read: int = -1
    _operators: str = field(default="", repr=False)

    def __post_init__(self) -> None:
        self._operators = digest_of(self.operator)
        self._refresh()

    @property
    def are_needed(self) -> bool:
        """Whether a key is asked for at all."""
        return bool(self.operator) or self.file is not None

    def caller(self, authorization: str) -> Caller:
        """Who sent a header; raises WireError, 401, for a key that is missing or unknown."""
        given = digest_of(authorization.removeprefix("Bearer "))
        if not self.are_needed:
            return Caller(given, is_operator=True)
        self._refresh()
        found: Caller | None = None
        # All are compared, whichever it is: the time that it takes tells nothing.
        for digest, name in self._hashes.items():
            if hmac.compare_digest(given, digest):
                found = Caller(name)
        if self.operator and hmac.compare_digest(given, self._operators):
            found = Caller("operator", is_operator=True)
        if found is None or not authorization.startswith("Bearer "):
            raise WireError(401, "the key is missing or wrong", "invalid_api_key")
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


def line_of(name: str, key: str) -> str:
    """The line of a key in a file of keys."""
    return f"{name} sha256:{digest_of(key)}\n"


def read_keys(path: Path) -> Mapping[str, str]:
    """Names by the SHA-256 of their keys, from lines `name sha256:…`; raises MisuseError."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise MisuseError(f"{path}: the keys cannot be read: {error}") from error
    found: dict[str, str] = {}
    for number, line in enumerate(lines, 1):
        name, _, digest = line.partition(" sha256:")
        if not line.strip() or line.startswith("#"):
            continue
        if not name.strip() or len(digest) != 64 or not set(digest) <= set("0123456789abcdef"):
            raise MisuseError(f"{path}:{number}: not like `name sha256:…`; `aligner grant NAME` writes such lines")
        found[digest] = name.strip()
    return found


@dataclass(slots=True)
class Rates:
    """At most so many requests a minute from each caller, in bursts of no more than that; 0 is no limit."""

    a_minute: float
    clock: Callable[[], float] = time.monotonic
    _full: OrderedDict[str, float] = field(default_factory=OrderedDict[str, float])
    """when each caller will have all of its requests again"""

    def take(self, caller: str) -> None:
        """Count a request; raises WireError, 429, for one too many."""
        if not self.a_minute:
            return
        now, each = self.clock(), 60 / self.a_minute
        full = max(self._full.pop(caller, now), now) + each
        wait = full - now - 60
        self._full[caller] = full - each if wait > 1e-9 else full
        if len(self._full) > _MOST_CALLERS:
            self._full.popitem(last=False)
        if wait > 1e-9:
            raise WireError(
                429,
                f"more than {self.a_minute:g} requests a minute",
                "rate_limit_exceeded",
                "rate_limit_error",
                headers=(("retry-after", str(math.ceil(wait))),),
            )


@dataclass(slots=True)
class Places:
    """So many requests at a time; as many again may wait, for some seconds."""

    most: int
    seconds: float = 5.0
    _waiting: int = 0
    _free: asyncio.Semaphore = field(init=False)

    def __post_init__(self) -> None:
        self._free = asyncio.Semaphore(self.most)

    async def take(self) -> None:
        """Take a place, which has to be given back; raises WireError, 503, where there is none."""
        if self._free.locked():
            await self._wait()
        else:
            await self._free.acquire()

    def give_back(self) -> None:
        """Leave a place to the next."""
        self._free.release()

    async def _wait(self) -> None:
        full = WireError(
            503, "too many requests at a time", "overloaded", "server_error", headers=(("retry-after", "1"),)
        )
        if self._waiting >= self.most:
            raise full
        self._waiting += 1
        try:
            async with asyncio.timeout(self.seconds):
                await self._free.acquire()
        except TimeoutError:
            raise full from None
        finally:
            self._waiting -= 1
