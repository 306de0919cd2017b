"""How many figures are spread, in the memory of a few hundred."""

import math
from collections import Counter
from dataclasses import dataclass, field

_WIDTH = math.log(1.02)
_LEAST = 1e-6
"""what is smaller counts as zero"""


@dataclass(slots=True)
class Sketch:
    """Quantiles of numbers from zero on, each within one percent of the true one, whatever their order."""

    count: int = 0
    _buckets: Counter[int | None] = field(default_factory=Counter[int | None])

    def add(self, value: float) -> None:
        """Take one more; what is no number is passed over."""
        if not math.isfinite(value):
            return
        self.count += 1
        # Bucket i holds what lies between 1.02 to the i-1 and 1.02 to the i.
        self._buckets[math.ceil(math.log(value) / _WIDTH) if value > _LEAST else None] += 1

    def quantile(self, share: float) -> float | None:
        """The least figure that this share of all does not exceed; none where there are no figures."""
        wanted, seen = max(math.ceil(share * self.count), 1), 0
        for bucket in sorted(self._buckets, key=lambda bucket: -math.inf if bucket is None else bucket):
            seen += self._buckets[bucket]
            if seen >= wanted:
                return 0.0 if bucket is None else math.exp((bucket - 0.5) * _WIDTH)
        return None
