"""Whether a training fits on a machine; one that does not is refused before it starts."""

from collections.abc import Iterator
from dataclasses import replace

from aligner.config import TrainConfig
from aligner.errors import MisuseError
from aligner.planning.base import fetch_sizes
from aligner.planning.given import given_triples
from aligner.planning.machine import this_machine
from aligner.planning.plan import Plan, plan_of

_RANK = 16
_WORTH_NAMING = 0.95
"""a cure leaves at most this share"""


def check_fit(config: TrainConfig) -> None:
    """Refuse a training that needs more memory or disk than is there, by the estimate; raises MisuseError.

    Nothing is asked of a run that has begun, of triples that can be read only once, of feedback, which is not read
    before, or where the configuration says to try in any case.
    """
    if config.if_too_large == "try" or config.feedback or (config.out / "config.toml").exists():
        return
    triples = given_triples(config)
    if triples:
        fetch_sizes(config.base)
        refuse_unfitting(plan_of(config, triples, this_machine(config.device, config.out)))


def refuse_unfitting(plan: Plan) -> None:
    """Raise MisuseError, which names the numbers and the cures that apply, for a plan that does not fit."""
    if problem := unfitting(plan):
        raise MisuseError(f"{plan.config.out}: {problem}; --if-too-large try goes on nevertheless")


def unfitting(plan: Plan) -> str:
    """What does not fit, in one line; nothing where all does, or where the size is not known."""
    if plan.lacks_gpu:
        return "has --device cuda, and nvidia-smi sees no GPU here; choose --device cpu or auto"
    if plan.memory and plan.needed > plan.there:
        where = plan.machine.gpu.name if plan.machine.gpu else "memory"
        need = f"would need about {gib(plan.needed)} for each process, and {where} has {gib(plan.there)} free"
        return f"{need} ({parts(plan)}); less with {', '.join(_cures(plan)) or 'a smaller base or --max-length'}"
    if plan.disk > plan.machine.disk:
        return f"checkpoints would need about {gib(plan.disk)}, and the disk has {gib(plan.machine.disk)} free"
    return ""


def parts(plan: Plan) -> str:
    """What the memory is for."""
    if not (memory := plan.memory):
        return ""
    if plan.loaded > memory.total:
        return f"the whole model in float32 {gib(plan.loaded)}, before its states are split"
    named = {
        "weights": memory.weights,
        "gradients": memory.gradients,
        "AdamW's moments": memory.moments,
        "activations": memory.activations,
        "logits": memory.logits,
    }
    return ", ".join(f"{name} {gib(size)}" for name, size in named.items())


def gib(size: float) -> str:
    """Bytes in GiB, or in MiB where that would be nothing."""
    return f"{size / 2**30:,.1f} GiB" if size >= 2**30 else f"{size / 2**20:,.0f} MiB"


def _cures(plan: Plan) -> Iterator[str]:
    """Flags that make it need less, each with how much it then needs."""
    for flags, other in _others(plan):
        if other.needed < _WORTH_NAMING * plan.needed:
            yield f"{flags} ({gib(other.needed)})"


def _others(plan: Plan) -> Iterator[tuple[str, Plan]]:
    way = plan.way
    if any(stage.how.batch > 1 for stage in plan.stages):
        yield "batch = 1 and accumulate raised in its place", plan.changed(way, batch=1)
    if not way.checkpointing:
        yield "--gradient-checkpointing on", plan.changed(replace(way, checkpointing=True))
    if not way.rank and plan.config.base != "new":
        yield f"--lora.rank {_RANK}", plan.changed(replace(way, rank=_RANK))
    if way.on_gpu and way.bits != 4 and plan.config.base != "new":
        rank = way.rank or _RANK
        yield f"--lora.rank {rank} --lora.bits 4", plan.changed(replace(way, rank=rank, bits=4))
    if plan.machine.processes > 1 and way.shards == 1:
        yield "FSDP", plan.changed(replace(way, shards=plan.machine.processes))
