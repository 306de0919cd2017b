"""What a pass costs: measured for this model on this machine when it is first used, and kept on disk."""

import hashlib
import os
import platform
import time
from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import orjson
import torch

from aligner.decoding.cache import RowCache
from aligner.decoding.packed import PackedModel, Segment
from aligner.files import write_text_atomic

SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256)
_MEMORY = 256
"""tokens that a row has in its cache when its passes are timed"""
_HEAD = 32
"""tokens of a pass whose logits are read: a pass that ends in an edit reads about so many"""
_REPEATS = 3
_SECONDS = 5.0
"""time for all of it; a big model is timed on fewer sizes"""


@dataclass(frozen=True, slots=True)
class Costs:
    """Seconds for a pass over some tokens, all rows together; between the measured sizes in straight lines."""

    sizes: Sequence[int]
    seconds: Sequence[float]

    def __call__(self, tokens: float) -> float:
        """The seconds of a pass."""
        if len(self.sizes) == 1:
            return self.seconds[0] * max(tokens / self.sizes[0], 1.0)
        place = min(max(bisect_left(self.sizes, tokens), 1), len(self.sizes) - 1)
        (x0, x1), (y0, y1) = (values[place - 1 : place + 1] for values in (self.sizes, self.seconds))
        return y0 + (y1 - y0) * (tokens - x0) / (x1 - x0)


def costs_of(model: PackedModel) -> Costs:
    """What passes of this model cost here, from disk where they were timed before."""
    path = _kept(model)
    if (found := _read(path)) is not None:
        return found
    costs = measure(model)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        text = orjson.dumps({"sizes": costs.sizes, "seconds": costs.seconds}, option=orjson.OPT_APPEND_NEWLINE)
        write_text_atomic(path, text.decode())
    except OSError:
        pass  # a home that cannot be written costs a second at every start, and no more
    return costs


def measure(model: PackedModel, *, seconds: float = _SECONDS) -> Costs:
    """Time passes of growing sizes, the best of three each, until the time is over."""
    sizes: list[int] = []
    best: list[float] = []
    memory = max(min(_MEMORY, _context(model) - SIZES[-1]), 0)
    row = RowCache(memory + SIZES[-1])
    started = time.perf_counter()
    if memory > 0:
        _pass(model, row, memory)
        row.length = memory
    for size in SIZES:
        if memory + size > _context(model) or (len(sizes) > 1 and time.perf_counter() - started > seconds):
            break
        took = min(_timed(lambda size=size: _pass(model, row, size)) for _ in range(_REPEATS))
        sizes.append(size)
        best.append(max([took, *best[-1:]]))
    return Costs(sizes, best)


def _pass(model: PackedModel, row: RowCache, tokens: int) -> None:
    """One pass as decoding makes it, waited for."""
    last = range(max(tokens - _HEAD, 0), tokens)
    logits = model.forward([Segment(row, [3] * tokens)], last)
    logits(torch.tensor(list(last), device=model.model.device)).argmax(dim=-1).tolist()


def _timed(run: Callable[[], None]) -> float:
    started = time.perf_counter()
    run()
    return time.perf_counter() - started


def _context(model: PackedModel) -> int:
    found: int | None = getattr(model.model.config.get_text_config(), "max_position_embeddings", None)
    return found or 1 << 20


def _read(path: Path) -> Costs | None:
    """What was kept there; None where that is nothing, or damaged."""
    try:
        found = orjson.loads(path.read_bytes())
        costs = Costs([int(size) for size in found["sizes"]], [float(seconds) for seconds in found["seconds"]])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    rising = costs.sizes and list(costs.sizes) == sorted(set(costs.sizes))
    return costs if rising and len(costs.sizes) == len(costs.seconds) and min(costs.seconds) > 0 else None


def _kept(model: PackedModel) -> Path:
    """The file for this kind of model, device and number of threads."""
    lm = model.model
    device = torch.cuda.get_device_name(lm.device) if lm.device.type == "cuda" else platform.processor()
    kind = (lm.config.to_json_string(), str(lm.dtype), device, torch.get_num_threads(), torch.__version__)
    name = hashlib.sha256(repr(kind).encode()).hexdigest()[:16]
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(home) / "aligner" / "costs" / f"{name}.json"
