"""What a machine has, as far as it can be asked without torch."""

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from itertools import takewhile
from pathlib import Path
from typing import NamedTuple

from aligner.config import Device
from aligner.training import launched

_PEAKS = {
    "B200": 2250,
    "H200": 989,
    "H100 PCIe": 756,
    "H100": 989,
    "GH200": 989,
    "A100": 312,
    "L40S": 362,
    "L40": 181,
    "L4": 121,
    "A10G": 70,
    "A10": 125,
    "A6000": 155,
    "RTX 4090": 165,
    "RTX 3090": 71,
    "T4": 65,
    "V100": 125,
}
"""10^12 operations a second in 16 bits without sparsity, from the makers' data sheets; the first name that fits"""
_CGROUP_FILES = (
    ("memory.max", "memory.current", "memory.stat", "inactive_file"),
    ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes", "memory/memory.stat", "total_inactive_file"),
)
"""limit and use, in both versions of control groups"""
_SECONDS_FOR_ANSWER = 5.0


class Gpu(NamedTuple):
    """One GPU."""

    name: str
    free: int
    """bytes"""

    @property
    def peak(self) -> float | None:
        """Operations a second in 16 bits, as its maker says; None for one that is not in the table."""
        return next((peak * 1e12 for name, peak in _PEAKS.items() if name in self.name), None)


class Machine(NamedTuple):
    """What there is for one process of a training."""

    memory: int
    """bytes of main memory"""
    disk: int
    """bytes"""
    gpu: Gpu | None = None
    """none where training is on the CPU"""
    processes: int = 1
    sharded: bool = False
    """whether weights and states are split over the processes: FSDP, or DeepSpeed ZeRO-3"""


def this_machine(device: Device, out: Path, environ: Mapping[str, str] = os.environ) -> Machine:
    """What is here now for each of the processes that a launcher has started, or for one."""
    here = max(int(environ.get("LOCAL_WORLD_SIZE") or environ.get("WORLD_SIZE") or 1), 1)
    zero = environ.get("ACCELERATE_DEEPSPEED_ZERO_STAGE") == "3"
    gpus = gpus_here(environ) if device != "cpu" else []
    return Machine(
        memory=free_memory() // here,
        disk=shutil.disk_usage(next(path for path in (out.absolute(), *out.absolute().parents) if path.exists())).free,
        gpu=min(gpus[:here], key=lambda gpu: gpu.free) if gpus else None,
        processes=launched.processes(environ),
        sharded=launched.by_fsdp(environ) or zero,
    )


def free_memory(proc: Path = Path("/proc"), cgroup: Path = Path("/sys/fs/cgroup")) -> int:
    """Bytes that programs can still have: what the kernel calls available, or what a container's limit leaves."""
    # Use counts the page cache, of which the kernel gives back what was not read lately before it refuses anything.
    left = [
        most - max((_number(cgroup / used) or 0) - _counted(cgroup / counts, cache), 0)
        for limit, used, counts, cache in _CGROUP_FILES
        if (most := _number(cgroup / limit)) is not None
    ]
    return max(min([_available(proc), *left]), 0)


def _available(proc: Path) -> int:
    try:
        lines = (proc / "meminfo").read_text(encoding="ascii").splitlines()
    except OSError:  # no Linux: all that there is, since nobody says what is free
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))


def gpus_here(environ: Mapping[str, str] = os.environ) -> list[Gpu]:
    """The GPUs that nvidia-smi knows, of those that CUDA programs are let see; none without it."""
    command = ["nvidia-smi", "--query-gpu=name,memory.free", "--format=csv,noheader,nounits"]
    if (visible := environ.get("CUDA_VISIBLE_DEVICES")) is not None:
        # As CUDA reads it, nothing counts from the first that is no device on.
        named = list(takewhile(lambda name: name not in ("", "-1"), map(str.strip, visible.split(","))))
        if not named:
            return []
        command.append(f"--id={','.join(named)}")
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_SECONDS_FOR_ANSWER, check=True)  # noqa: S603  # no shell reads it
    except (OSError, subprocess.SubprocessError):
        return []
    parts = (line.rpartition(",") for line in done.stdout.splitlines())
    return [Gpu(name.strip(), int(free) * 2**20) for name, _, free in parts if free.strip().isdigit()]


def core_rate(width: int, inner: int) -> float:
    """Operations a second of one core in a matrix product of that size, in float32, measured now."""
    program = Path(__file__).with_name("one_core.py")
    command = [sys.executable, str(program), str(width), str(inner)]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)  # noqa: S603  # our own


def cores_here() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _counted(path: Path, name: str) -> int:
    """A figure of a file that has one by name in each line; 0 where it is not there."""
    try:
        lines = path.read_text(encoding="ascii").splitlines()
    except (OSError, ValueError):
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith(f"{name} ")), 0)


def _number(path: Path) -> int | None:
    """The number in a file of the kernel's; a limit may also be the word max."""
    try:
        return int(path.read_text(encoding="ascii"))
    except (OSError, ValueError):
        return None
