"""What torchrun and accelerate tell each process that they start; without them there is one."""

import os
from collections.abc import Mapping


def processes(environ: Mapping[str, str] = os.environ) -> int:
    """How many processes train one model."""
    return max(int(environ.get("WORLD_SIZE") or 1), 1)


def is_main(environ: Mapping[str, str] = os.environ) -> bool:
    """Whether this is the process that writes, measures and speaks."""
    return int(environ.get("RANK") or 0) == 0


def is_sharded(environ: Mapping[str, str] = os.environ) -> bool:
    """Whether the model is split over the processes, by FSDP or DeepSpeed."""
    return by_fsdp(environ) or _is_true(environ, "ACCELERATE_USE_DEEPSPEED")


def by_fsdp(environ: Mapping[str, str] = os.environ) -> bool:
    """Whether it is FSDP that splits it."""
    return _is_true(environ, "ACCELERATE_USE_FSDP")


def _is_true(environ: Mapping[str, str], name: str) -> bool:
    return environ.get(name, "").lower() == "true"
