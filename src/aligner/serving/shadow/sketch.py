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


def wilson(count: int, total: int) -> tuple[float, float] | None:
    """The 95 % interval of Wilson for a share; none of nothing."""
    # Four lines: the statistics of SciPy take a second to import, for which the proxy would answer nobody.
    if not total:
        return None
    z, share = 1.959963984540054, count / total
    centre, spread = share + z * z / (2 * total), z * math.sqrt(share * (1 - share) / total + (z / (2 * total)) ** 2)
    return (
        max((centre - spread) / (1 + z * z / total), 0.0) if count else 0.0,
        min((centre + spread) / (1 + z * z / total), 1.0) if count < total else 1.0,
    )
