"""How often somebody may ask, and how many at a time."""

import asyncio
import math
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field

from aligner.serving.wire import WireError

_MOST_CALLERS = 10_000
"""whose rates are remembered at a time"""


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
