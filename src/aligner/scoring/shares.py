"""The interval of a share."""

import math


def wilson(count: int, total: int) -> tuple[float, float] | None:
    """The 95 % interval of Wilson for a share; none of nothing."""
    # The statistics of SciPy take a second to import, for which the proxy would answer nobody.
    if not total:
        return None
    z, share = 1.959963984540054, count / total
    centre, spread = share + z * z / (2 * total), z * math.sqrt(share * (1 - share) / total + (z / (2 * total)) ** 2)
    return (
        max((centre - spread) / (1 + z * z / total), 0.0) if count else 0.0,
        min((centre + spread) / (1 + z * z / total), 1.0) if count < total else 1.0,
    )
