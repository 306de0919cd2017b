"""The plan of a training: what it reads, and what it takes of a machine. Every figure is an estimate but the counts."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from aligner.config import TrainConfig
from aligner.data.splits import hold_out
from aligner.objectives import instruction_from
from aligner.planning.base import Base, base_of
from aligner.planning.lengths import measure_with
from aligner.planning.machine import Machine
from aligner.planning.memory import Memory, Way, loaded, memory_of, operations, trained
from aligner.planning.sizes import Shape
from aligner.planning.volumes import Reading, Stage, stages_of
from aligner.records import Triple
from aligner.templates import PromptEncoder, template_named

_PROGRAM = 2**30
"""bytes of the libraries themselves, and on a GPU of its context"""
_FLOAT = 4
_CHECKPOINTS = 3
"""of a stage at a time: two are kept while the next is written"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a training would take."""

    config: TrainConfig
    training: int
    held_out: int
    limit: int
    """tokens of a row at the most"""
    base: Base
    way: Way
    stages: Sequence[Stage]
    machine: Machine

    @property
    def memory(self) -> Memory | None:
        """Of the stage that needs most, for one process; None where the size of the base is not known."""
        found = [memory_of(shape, stage, self.way) for shape in self._shapes for stage in self.stages]
        return max(found, key=lambda memory: memory.total, default=None)

    @property
    def needed(self) -> int:
        """Bytes of memory with the program itself, 0 where that is not known."""
        return max(self.memory.total, self.loaded) + _PROGRAM if self.memory else 0

    @property
    def loaded(self) -> int:
        """Bytes of the model as each process loads it, before the states are split; 0 where that is not known."""
        return next((loaded(shape, self.way) for shape in self._shapes), 0)

    @property
    def there(self) -> int:
        """Bytes of memory that it may have: the GPU's, or the main memory."""
        return self.machine.gpu.free if self.machine.gpu else self.machine.memory

    @property
    def lacks_gpu(self) -> bool:
        """Whether it is to be on a GPU, and none is seen."""
        return self.config.device == "cuda" and self.machine.gpu is None

    @property
    def trained(self) -> int | None:
        """Parameters that learn."""
        return next((trained(shape, self.way) for shape in self._shapes), None)

    @property
    def disk(self) -> int:
        """Bytes of checkpoints, the model of each stage and the result; 0 where that is not known."""
        for shape in self._shapes:
            learning, model = trained(shape, self.way), _FLOAT * shape.parameters
            kept = _FLOAT * learning if self.way.rank else model
            return _CHECKPOINTS * (kept + 2 * _FLOAT * learning) + (len(self.stages) + 1) * model
        return 0

    def operations(self, stage: Stage) -> float | None:
        """Floating-point operations of a stage."""
        return next((operations(shape, stage, self.way) for shape in self._shapes), None)

    def changed(self, way: Way, **how: int) -> "Plan":
        """The same plan trained in another way, with some settings of every stage changed."""
        stages = [replace(stage, how=replace(stage.how, **how)) for stage in self.stages]
        return replace(self, way=way, stages=stages)

    @property
    def _shapes(self) -> Sequence[Shape]:
        return [self.base.shape] if self.base.shape else []


def plan_of(config: TrainConfig, triples: Sequence[Triple], machine: Machine) -> Plan:
    """The plan for these triples; raises MisuseError where training on them would."""
    template = template_named(config.template)
    # Feedback, which is not counted, may give more rows to hold out.
    wanted = min(config.held_out, len(triples) // 2) if config.feedback else config.held_out
    training, held_out = hold_out(triples, wanted, seed=config.seed)
    base = base_of(config, training)
    encoder = PromptEncoder(template, base.tokenizer) if base.tokenizer else None
    context = base.shape.context if base.shape else 0
    limit = min(config.max_length, context or config.max_length)
    instruction = instruction_from(config.instruction, config.objective)
    reading = Reading(measure_with(template, encoder, instruction), encoder, limit, config.seed)
    return Plan(
        config=config,
        training=len(training),
        held_out=len(held_out),
        limit=limit,
        base=base,
        way=way_of(config, machine),
        stages=list(stages_of(config, training, reading)),
        machine=machine,
    )


def way_of(config: TrainConfig, machine: Machine) -> Way:
    """How the model is trained on a machine."""
    on_gpu = machine.gpu is not None or config.device == "cuda"
    wanted = config.gradient_checkpointing
    return Way(
        on_gpu=on_gpu,
        rank=config.lora.rank,
        bits=config.lora.bits,
        checkpointing=on_gpu if wanted == "auto" else wanted == "on",
        shards=machine.processes if machine.sharded else 1,
    )
