"""A breaker before something that may fail: after some failures in a row it is left alone for a while."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

State = Literal["closed", "open", "half-open"]
End = Literal["good", "bad", "neutral"]
"""how an attempt went; neutral where nothing was learnt"""


class BreakerOpenError(Exception):
    """Nothing is tried just now; `seconds` says for how long."""

    def __init__(self, seconds: float) -> None:
        super().__init__(f"left alone for another {seconds:.0f} s after its failures")
        self.seconds = seconds


@dataclass(slots=True)
class Breaker:
    """Closed while things go well, open after `failures` in a row; after `seconds`, a single attempt decides.

    With `failures` 0 it never opens.
    """

    failures: int = 5
    seconds: float = 10.0
    clock: Callable[[], float] = time.monotonic
    _in_a_row: int = field(default=0, init=False)
    _opened: float | None = field(default=None, init=False)
    _probe: "Attempt | None" = field(default=None, init=False)

    @property
    def state(self) -> State:
        """Whether attempts are made: all, none, or a single one."""
        if self._opened is None:
            return "closed"
        return "open" if self.clock() < self._opened + self.seconds else "half-open"

    def admit(self) -> "Attempt":
        """An attempt, which has to be settled; raises BreakerOpenError where none may be made."""
        attempt = Attempt(self)
        if self._opened is None:
            return attempt
        left = self._opened + self.seconds - self.clock()
        if left > 0 or self._probe is not None:
            raise BreakerOpenError(max(left, 1.0))
        self._probe = attempt
        return attempt

    def settle(self, attempt: "Attempt", end: End) -> None:
        """Take over how an attempt went."""
        if self._probe is attempt:
            self._probe = None
        if end == "good":
            self._in_a_row, self._opened = 0, None
        elif end == "bad":
            self._in_a_row += 1
            if 0 < self.failures <= self._in_a_row:
                self._opened = self.clock()


@dataclass(frozen=True, slots=True, eq=False)
class Attempt:
    """One attempt at what is behind a breaker."""

    breaker: Breaker

    def settle(self, end: End) -> None:
        """Say how it went; what fails later may be settled again."""
        self.breaker.settle(self, end)
