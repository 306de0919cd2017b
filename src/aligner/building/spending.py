"""What calls cost, and a limit to it."""

from dataclasses import dataclass
from math import inf

from aligner.building.ledger import Ledger
from aligner.errors import AlignerError

_MILLION = 1_000_000


class BudgetError(AlignerError):
    """As much was spent as may be."""


@dataclass(frozen=True, slots=True)
class Prices:
    """What a model costs, for a million tokens."""

    price_in: float = 0.0
    price_out: float = 0.0
    share: float = 1.0
    """of these prices that is paid: a batch costs less"""

    def cost(self, prompt: int, completion: int) -> float:
        """Of a call that read and wrote so many tokens."""
        return self.share * (prompt * self.price_in + completion * self.price_out) / _MILLION

    @property
    def are_nothing(self) -> bool:
        """Whether calls are free."""
        return not self.share * (self.price_in + self.price_out)


@dataclass(frozen=True, slots=True)
class Purse:
    """What may be spent on a build, by all its workers together."""

    ledger: Ledger
    max_cost: float | None = None
    """nothing sets no limit"""
    currency: str = "USD"

    def may_spend(self) -> bool:
        """Whether another call may be paid for."""
        return self.left() > 0

    def left(self) -> float:
        """What may still be promised; infinite without a limit. Open batch files count as if they were paid."""
        return self.unspent() - self.ledger.promised()

    def unspent(self) -> float:
        """What is not paid yet, open batch files not counted; infinite without a limit."""
        return inf if self.max_cost is None else self.max_cost - self.ledger.spent()

    def error(self, left: int) -> BudgetError:
        """That no more may be spent, with so many calls left."""
        spent, limit = f"{self.ledger.spent():,.4g} {self.currency}", f"{self.max_cost:g}"
        promised = self.ledger.promised()
        open_files = f" and {promised:,.4g} for open batches" if promised else ""
        return BudgetError(
            f"stopped: {spent} spent{open_files} of --max-cost {limit}, {left:,} calls are left;"
            " the same command with a greater --max-cost goes on"
        )
