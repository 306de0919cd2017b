"""The plan as a table for a terminal, and the lines under it."""

from collections.abc import Iterator

from rich.box import SIMPLE
from rich.console import Group
from rich.table import Table
from rich.text import Text

from aligner.errors import visible
from aligner.planning.fitting import gib, parts, unfitting
from aligner.planning.lengths import SAMPLE
from aligner.planning.plan import Plan
from aligner.planning.times import Rate, seconds_of
from aligner.planning.volumes import Stage
from aligner.training.gate import rows_needed

_COLUMNS = ("stage", "rows", "steps", "of rows", "tokens read", "with loss", "time, about")


def shown(plan: Plan, rate: Rate | None) -> Group:
    """The plan; each figure that is no count is called an estimate where it stands, with what it assumes."""
    return Group(_table(plan, rate), Text(visible("\n".join(_lines(plan, rate)))))


def _table(plan: Plan, rate: Rate | None) -> Table:
    table = Table(title=f"{plan.training:,} rows to learn from, {plan.held_out:,} held out", box=SIMPLE)
    for heading in _COLUMNS:
        table.add_column(heading, justify="left" if heading == "stage" else "right", no_wrap=True)
    times = seconds_of(plan, rate) if rate and plan.base.shape else [None] * len(plan.stages)
    for stage, seconds in zip(plan.stages, times, strict=True):
        table.add_row(*_cells(stage), "?" if seconds is None else _time(seconds))
    return table


def _cells(stage: Stage) -> list[str]:
    how = stage.how
    counts = (stage.rows, stage.steps, f"{how.batch} x {how.accumulate}", stage.tokens, stage.learnt)
    shown = (count if isinstance(count, str) else f"{count:,}" for count in counts)
    return [f"{stage.name} *" if stage.at_most else stage.name, *shown]


def _lines(plan: Plan, rate: Rate | None) -> Iterator[str]:
    yield from _of_base(plan)
    if plan.memory:
        where = plan.machine.gpu.name if plan.machine.gpu else "main memory"
        use = f"{gib(plan.needed)} for each process ({parts(plan)}, program)"
        yield f"Memory, an estimate, right within a factor of two: {use}."
        if not plan.lacks_gpu:
            yield f"There: {gib(plan.there)} of {where}{_processes(plan)}."
        yield f"Disk, an estimate: {gib(plan.disk)} of checkpoints while it runs; {gib(plan.machine.disk)} are free."
    if rate and plan.base.shape:
        total = _time(sum(seconds_of(plan, rate)))
        yield f"Time, an estimate: {total} at {rate.assumption}; without measuring and sampling."
    if any(stage.at_most for stage in plan.stages):
        yield "* At most: copying may be learnt sooner, and pairs and samples come out of the stages before."
    if any(not stage.exact for stage in plan.stages):
        yield f"Tokens, an estimate: those of {SAMPLE:,} rows of a stage, drawn at random, stand for all of its rows."
    for stage in plan.stages:
        if stage.too_long:
            about = "" if stage.exact else "about "
            yield f"{stage.name}: {about}{stage.too_long:,} rows of more than {plan.limit:,} tokens would be left out."
    yield from _of_gate(plan)
    if plan.config.feedback:
        yield "What the correction log holds is not counted: it is read when the training begins."
    if problem := unfitting(plan):
        yield f"This would not fit: it {problem}."


def _of_base(plan: Plan) -> Iterator[str]:
    if plan.base.shape and plan.trained is not None:
        share = "all of them learn" if not plan.way.rank else f"{plan.trained:,} of adapters learn"
        yield f"Base {plan.base.name}: {plan.base.shape.parameters:,} parameters, {share}."
    if plan.base.unknown:
        yield f"Not known: {plan.base.unknown}."
    if plan.base.tokenizer is None:
        yield "Tokens were guessed at four letters each."


def _of_gate(plan: Plan) -> Iterator[str]:
    gate, needed = plan.config.gate, rows_needed(plan.config.gate.wanted)
    if plan.held_out < needed:
        kind = "flawed" if gate.of == "let_through" else "good"
        takes = f"a promise of at most {gate.wanted:.2%} takes {needed:,} {kind} answers among the rows held out"
        yield f"The gate will have no threshold: {takes}."


def _processes(plan: Plan) -> str:
    count = plan.machine.processes
    if count == 1:
        return ""
    return f" for each of {count} processes, {'which share' if plan.way.shards > 1 else 'each with all of'} the states"


def _time(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}"
