"""How long a training would take: arithmetic over the rate of the machine, and what was assumed of that rate."""

from typing import NamedTuple

from aligner.planning.machine import core_rate, cores_here
from aligner.planning.plan import Plan

_OF_A_PRODUCT = 0.35
"""share of plain matrix products' rate that training has on a CPU: 341 seconds of the demo's training on two cores"""
_OF_THE_PEAK = 0.35
"""share of a GPU's peak that training has: assumed, as is usual for models of some billion parameters"""


class Rate(NamedTuple):
    """Operations a second of all processes together."""

    rate: float
    assumption: str


def rate_of(plan: Plan) -> Rate | None:
    """The rate at which this machine trains this model: measured on a CPU, from a table on a GPU; None if unknown."""
    gpu, shape = plan.machine.gpu, plan.base.shape
    if gpu:
        rate = gpu.peak and gpu.peak * _OF_THE_PEAK * plan.machine.processes
        said = f"{_OF_THE_PEAK:.0%} of the peak of {gpu.name}, assumed, on {plan.machine.processes} of them"
        return Rate(rate, said) if rate else None
    if shape is None or plan.lacks_gpu:
        return None
    core, cores = core_rate(shape.width, shape.inner), cores_here()
    said = f"{_OF_A_PRODUCT:.0%} of the {core / 1e9:,.0f} GFLOP/s that a core had just now in products of its width"
    return Rate(core * cores * _OF_A_PRODUCT, f"{said}, on {cores} cores")


def seconds_of(plan: Plan, rate: Rate) -> list[float]:
    """The time of each stage."""
    return [(plan.operations(stage) or 0.0) / rate.rate for stage in plan.stages]
