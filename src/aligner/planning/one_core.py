"""A program that prints how fast one core multiplies matrices: `python one_core.py WIDTH INNER`.

A program of its own, since numpy settles how many threads it uses when it is loaded, and on several busy cores a
product waits for the slowest.
"""

import os
import sys
import time

_ROWS = 512
_LARGEST = 1024
"""a product is no faster beyond"""
_SECONDS = 0.1


def rate(width: int, inner: int) -> float:
    """Operations a second in float32, at best: whatever else the machine does can only make it slower."""
    import numpy as np

    width, inner = min(width, _LARGEST), min(inner, _LARGEST)
    left, right = np.ones((_ROWS, width), np.float32), np.ones((width, inner), np.float32)
    best, until = float("inf"), time.perf_counter() + _SECONDS
    while (start := time.perf_counter()) < until:
        np.matmul(left, right)
        best = min(best, time.perf_counter() - start)
    return 2 * _ROWS * width * inner / best


if __name__ == "__main__":
    os.environ.update(dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1"))
    print(rate(int(sys.argv[1]), int(sys.argv[2])))  # noqa: T201  # what it is for
