"""Correct an answer. This file is the algorithm."""

import asyncio
import sys
from collections import Counter
from collections.abc import AsyncIterator, Callable, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from aligner.config import CorrectConfig, Device, GateChoice
from aligner.correcting.guards import GUARDS, Guard, sure_from
from aligner.correcting.rows import Asked, KeepAnswer, Stop, asked_of, corrections_of, outcomes, result_of, windows
from aligner.correcting.show import show_correction
from aligner.correcting.stacking import Order, asteps, check_stack
from aligner.correcting.stamps import stamp_of_aligner, stamp_of_rows
from aligner.correcting.writers import HasGate, Writer, gate_of, load_writer
from aligner.errors import MisuseError
from aligner.files import RowWriter, bad_rows_named, open_rows, read, write_json_atomic
from aligner.files.bad_rows import StopAtBadRow
from aligner.files.output import label
from aligner.files.paths import kind_of
from aligner.files.writing import OUTPUTS
from aligner.jobs import Tick, progress
from aligner.objectives import instruction_from
from aligner.records import ChatModel, Completion, Correction, Exchange, Message, Question, SamplingParams, as_question
from aligner.scoring.edits import edits_between
from aligner.sharding.calling import Part
from aligner.sharding.cutting import LeaveOut, Slice, check_cuttable, cut, shard_of
from aligner.sharding.engines import Engine, run_parts
from aligner.sharding.facts import facts_of
from aligner.sharding.locking import holding
from aligner.sharding.merging import merge
from aligner.sharding.plan import Plan, found, is_finished, planned
from aligner.sharding.suspects import Suspects

_GREEDY = SamplingParams()
_AHEAD = 16
"""batches that are read ahead, so that a new answer can enter whenever one is through"""
_SECONDS_FOR_ANOTHER = 60.0
"""for a process of an earlier run, whose driver was killed, to end"""


@dataclass(frozen=True, slots=True)
class Aligner:
    """A model that reads a question and any model's answer, and writes a better answer."""

    writer: Writer
    guards: tuple[Guard, ...] = GUARDS

    @classmethod
    def from_pretrained(cls, name: str = "demo", *, device: Device = "auto", gate: GateChoice = "off") -> "Aligner":
        """The Aligner of a checkpoint folder or hub id; also `demo`, `openai:MODEL@URL`, `echo:`, `rules:FILE`.

        With a gate, an answer that probably needs no change is left alone after one pass: `auto` is the checkpoint's
        own threshold, a number another one. Raises MisuseError where a checkpoint has none.
        """
        writer = load_writer(name, device)
        threshold = gate_of(writer, name, gate)
        if threshold is None:
            return cls(writer)
        return cls(writer.gated(threshold) if isinstance(writer, HasGate) else writer, (sure_from(threshold), *GUARDS))

    def correct(
        self,
        question: Question,
        answer: str,
        *,
        instruction: str = "",
        sampling: SamplingParams = _GREEDY,
        doubt: bool = False,
    ) -> Correction:
        """The correction of one answer, as the instruction wants it.

        `doubt` asks how much each token of the answer is doubted.
        """
        exchange = Exchange(question, answer, instruction=instruction)
        return next(self.correct_many([exchange], sampling=sampling, doubt=doubt))

    def correct_many(
        self,
        exchanges: Iterable[Exchange],
        *,
        batch: int = 64,
        sampling: SamplingParams = _GREEDY,
        doubt: bool = False,
    ) -> Iterator[Correction]:
        """The corrections of many answers, in their order, `batch` decoded at a time; reads 16 times as many ahead."""
        for window in windows(exchanges, _AHEAD * batch):
            written = self.writer.write(window, sampling, batch=batch, doubt=doubt)
            yield from map(self.judge, window, written)

    def stream(
        self, question: Question, answer: str, *, instruction: str = "", sampling: SamplingParams = _GREEDY
    ) -> Generator[str, None, Correction]:
        """The correction piece by piece as it is decoded; returns the whole, in which a guard may keep the answer."""
        exchange = Exchange(question, answer, instruction=instruction)
        return self.judge(exchange, (yield from self.writer.stream(exchange, sampling)))

    async def acorrect(
        self, question: Question, answer: str, *, instruction: str = "", sampling: SamplingParams = _GREEDY
    ) -> Correction:
        """`correct`, in a thread."""
        return await asyncio.to_thread(self.correct, question, answer, instruction=instruction, sampling=sampling)

    def judge(self, exchange: Exchange, written: Completion) -> Correction:
        """What was written becomes the correction, unless a guard has a reason to keep the answer."""
        reason = next(filter(None, (guard(exchange, written) for guard in self.guards)), None)
        text = exchange.answer if reason else written.text
        return Correction(
            exchange=exchange,
            text=text,
            edits=edits_between(exchange.answer, text) if text != exchange.answer else (),
            kept_reason=reason,
            confidence=written.confidence,
            doubt=written.doubt,
            spans=written.spans,
            usage=written.usage,
        )


class AlignedModel:
    """An upstream with any number of Aligners stacked on it, which is a model itself.

    An answer that the upstream did not finish, or that has no text, is passed on as it is. Every Aligner is told the
    instruction, where there is one. `passes` and `order` are those of `correcting.stacking.steps_many`: a second pass
    over the shipped Aligner's corrections made 4 to 7 more answers in 1,000 good (`benchmarks/stacking.py`), too few
    to be the default. A call that is cancelled begins no further correction. Raises MisuseError for passes that are no
    whole number from 1, and where an order by gates finds an Aligner without one.
    """

    def __init__(
        self, upstream: ChatModel, *aligners: Aligner, instruction: str = "", passes: int = 1, order: Order = "given"
    ) -> None:
        check_stack(aligners, passes=passes, order=order)
        self.upstream = upstream
        self.aligners = aligners
        self.instruction = instruction
        self.passes = passes
        self.order: Order = order

    async def complete(
        self, messages: Sequence[Message], sampling: SamplingParams = _GREEDY, *, prediction: str | None = None
    ) -> Completion:
        """The upstream's answer, corrected by one Aligner after the other."""
        answer = await self.upstream.complete(messages, sampling, prediction=prediction)
        if answer.finish_reason != "stop" or not answer.text.strip():
            return answer
        row = partial(asteps, self.aligners, instruction=self.instruction, passes=self.passes, order=self.order)
        stacked = await row(as_question(messages), answer.text)
        return Completion(stacked.text, answer.finish_reason, answer.usage)

    async def stream(
        self, messages: Sequence[Message], sampling: SamplingParams = _GREEDY, *, prediction: str | None = None
    ) -> AsyncIterator[str]:
        """The corrected answer in one piece, since no guard can take back what was said already."""
        yield (await self.complete(messages, sampling, prediction=prediction)).text


def correct_answers(config: CorrectConfig) -> None:
    """aligner correct: correct a file of answers, or a single one."""
    instruction = instruction_from(config.instruction, config.objective)
    if config.answers is not None and config.question is None and config.answer is None:
        correct_file(config)
    elif config.answers is None and config.question is not None and config.answer is not None:
        if config.out is not None:
            raise MisuseError("--out is for a file of answers; a single correction is shown")
        aligner = Aligner.from_pretrained(config.aligner, device=config.device, gate=config.gate)
        show_correction(aligner.correct(config.question, config.answer, instruction=instruction))
    else:
        raise MisuseError("name a file of answers, or both --question and --answer")


def correct_file(config: CorrectConfig) -> None:
    """Correct every answer of a file, in order; interrupted and called again, the rows are those of one run.

    In parts, by other processes or as one job of an array, what comes out has the bytes of a single run.
    """
    if config.answers is None or config.out is None:
        raise MisuseError("no place for the corrections: name a file with --out, or - for standard output")
    if config.batch < 1:
        raise MisuseError(f"--batch must be at least 1, not {config.batch}")
    if config.shard:
        _correct_shard(config, config.answers, config.out)
    elif config.engine != "local" or config.shards or config.workers:
        _correct_parts(config, config.answers, config.out)
    else:
        _correct_whole(config, config.answers, config.out)


def _correct_whole(config: CorrectConfig, answers: Path, out: Path) -> None:
    bad_rows = bad_rows_named(config.on_bad_row, out)
    rows = read(answers, _parser(config, lambda: aligner), bad_rows=bad_rows)
    aligner = _loaded(config)
    with open_rows(out, _run(config, aligner)) as writer, progress("correct", done=writer.done, unit="answers") as tick:
        counts = _correct_rows(config, aligner, rows, writer=writer, suspects=Suspects(), tick=tick)
        writer.finish()
    bad_rows.finish()
    _tell(out, counts, bad_rows.reasons)


def _correct_rows(
    config: CorrectConfig,
    aligner: Aligner,
    rows: Iterable[Asked],
    *,
    writer: RowWriter,
    suspects: Suspects,
    tick: Tick,
) -> Counter[str]:
    """Correct the rows behind those that are written, and count what became of them."""
    instruction, counts, first = _instruction(config), Counter[str](), 0
    failing = Stop(config.answers or Path("-")) if config.on_bad_row == "stop" else KeepAnswer()
    correct_many = partial(aligner.correct_many, batch=config.batch)
    # A window is corrected whole or not at all, so that the same answers always share their passes.
    for window in windows(rows, _AHEAD * config.batch):
        if (new := max(writer.done - first, 0)) < len(window):
            corrections = corrections_of(window, correct_many, failing=failing, suspects=suspects)
            results = [result_of(row, correction) for (row, _), correction in zip(window, corrections, strict=True)]
            writer.append(results[new:])
            counts.update(outcomes(results, instruction))
            tick(len(window) - new)
        first += len(window)
    return counts


def _correct_parts(config: CorrectConfig, answers: Path, out: Path) -> None:
    """Correct all parts in other processes, and make one file of them; where all is done, say so and end."""
    job = _job(config, answers, out)
    if not (plan := is_finished(out, job, parts=config.shards)):
        plan = planned(out, job, lambda: _cut(config, answers, parts=config.shards), parts=config.shards)
        left, rows = plan.left(), sum(part.rows for part in plan.slices)
        parts = [
            Part(number, len(plan.slices), PartTask(config, number), suspects=_suspects(plan, number))
            for number in left
        ]
        done = rows - sum(plan.slices[number].rows for number in left)
        gpus = int(config.device == "cuda")
        engine = Engine(name=config.engine, workers=config.workers, address=config.ray_address, gpus=gpus)
        with progress("correct", rows, done=done, unit="answers") as tick:
            run_parts(
                parts, "aligner.correct:correct_part", engine, lambda part, _: tick(plan.slices[part.number].rows)
            )
    _finish(plan, out)


def _correct_shard(config: CorrectConfig, answers: Path, out: Path) -> None:
    """Correct one part in this process; whoever ends last makes one file of them."""
    number, count = shard_of(config.shard)
    job = _job(config, answers, out)
    if not (plan := is_finished(out, job, parts=count)):
        plan = planned(out, job, lambda: _cut(config, answers, parts=count), parts=count)
        with progress("correct", plan.slices[number].rows, unit="answers") as tick:
            facts = correct_part(PartTask(config, number), tick=tick)
        # In this order: parts are gone only once the job is finished.
        if facts and (left := len(plan.left())) and not is_finished(out, job, parts=count):
            _tell(plan.part(number), facts["counts"], facts["skipped"], f"; {left:,} of {count:,} parts are left")
            return
    _finish(plan, out)


def _in_silence(count: int = 1, note: str = "") -> None:
    """Nobody is told."""


class PartTask(NamedTuple):
    """A part of a file that is to be corrected; its place is in the manifest."""

    config: CorrectConfig
    number: int


def correct_part(task: PartTask, deaths: int = 0, tick: Tick = _in_silence) -> Mapping[str, Any]:
    """Correct one part of a file, unless it is done, and give its facts: rows, counts, skipped, sha256, aligner.

    There are none where another process has made one file of all parts meanwhile. `deaths` is how many processes it
    has ended in this run; from two on its rows are tried one by one.
    """
    config, number = task
    if (plan := _plan(config)).finished:
        return {}
    with holding(plan.beside(number, "lock"), seconds=_SECONDS_FOR_ANOTHER):
        # In this order: a part is gone only once the job is finished.
        is_made = plan.part(number).is_file()
        if _plan(config).finished:
            return {}
        if not is_made:
            suspects = Suspects(_suspects(plan, number), deaths=deaths)
            return _make_part(config, plan, number, suspects=suspects, tick=tick)
        try:
            return orjson.loads(plan.facts(number).read_bytes())
        except FileNotFoundError:
            return {}


def _plan(config: CorrectConfig) -> Plan:
    if config.out is None or (plan := found(config.out)) is None:
        raise MisuseError(f"{config.out}: nothing says where its parts begin")
    return plan


def _suspects(plan: Plan, number: int) -> Path:
    return plan.beside(number, "suspects.json")


def _make_part(config: CorrectConfig, plan: Plan, number: int, *, suspects: Suspects, tick: Tick) -> Mapping[str, Any]:
    out, part = plan.part(number), plan.slices[number]
    bad_rows = bad_rows_named(config.on_bad_row, out)
    aligner = _loaded_once(config, stamp_of_aligner(config.aligner))
    rows = part.of(read(config.answers or "-", _parser(config, lambda: aligner), bad_rows=bad_rows, begin=part.begin))
    with open_rows(out, {**_run(config, aligner), "part": out.name}) as writer:
        tick(writer.done)
        _correct_rows(config, aligner, rows, writer=writer, suspects=suspects, tick=tick)
        bad_rows.finish()
        facts = facts_of(out, lambda results: outcomes(results, _instruction(config)))
        made = {**facts, "skipped": dict(bad_rows.reasons), "aligner": aligner.writer.fingerprint}
        write_json_atomic(plan.facts(number), made)
        writer.finish()
    return made


def _cut(config: CorrectConfig, answers: Path, *, parts: int) -> Sequence[Slice]:
    """Where the parts begin; the Aligner is loaded for that only if rows tell it something."""
    bad_rows = StopAtBadRow() if config.on_bad_row == "stop" else LeaveOut()
    rows = read(answers, _parser(config, lambda: _loaded(config)), bad_rows=bad_rows)
    return cut(answers, (row.line for row, _ in rows), window=_AHEAD * config.batch, parts=parts)


def _job(config: CorrectConfig, answers: Path, out: Path) -> Mapping[str, object]:
    """What work this is, told without loading anything."""
    if str(out) == "-":
        raise MisuseError("parts are made into one file: name it with --out")
    if config.shards < 0:
        raise MisuseError(f"--shards must be at least 1, or 0 for as many as are sensible, not {config.shards}")
    check_cuttable(answers)
    kind_of(out, OUTPUTS)
    return {
        "answers": stamp_of_rows(answers),
        "aligner": config.aligner,
        "made": stamp_of_aligner(config.aligner),
        "gate": str(config.gate),
        "batch": config.batch,
        "instruction": _instruction(config),
        "on_bad_row": config.on_bad_row,
    }


def _run(config: CorrectConfig, aligner: Aligner) -> Mapping[str, object]:
    run = {"answers": str(config.answers), "aligner": aligner.writer.fingerprint, "batch": config.batch}
    instruction = _instruction(config)
    return {**run, "instruction": instruction} if instruction else run


def _instruction(config: CorrectConfig) -> str:
    return instruction_from(config.instruction, config.objective)


def _parser(config: CorrectConfig, aligner: Callable[[], Aligner]) -> Callable[[Mapping[str, object]], Exchange]:
    instruction = _instruction(config)
    return lambda row: asked_of(row, instruction, lambda: aligner().writer.takes_instructions)


def _loaded(config: CorrectConfig) -> Aligner:
    aligner = Aligner.from_pretrained(config.aligner, device=config.device, gate=config.gate)
    if _instruction(config) and not aligner.writer.takes_instructions:
        raise MisuseError(f"{config.aligner} takes no instruction: train an Aligner on rows that have some")
    return aligner


@lru_cache(maxsize=1)
def _loaded_once(config: CorrectConfig, _: str) -> Aligner:
    """An Aligner for all parts that this process does; another stamp of it is another one."""
    return _loaded(config)


def _finish(plan: Plan, out: Path) -> None:
    made = merge(plan)
    _tell(out, made["counts"], made["skipped"])


def _tell(out: Path, counts: Mapping[str, int], skipped: Mapping[str, int], more: str = "") -> None:
    parts = [f"{count:,} {what}" for what, count in sorted(counts.items())]
    left_out = [f"{count:,} skipped ({reason})" for reason, count in sorted(skipped.items())]
    print(f"{label(out)}: {', '.join([*parts, *left_out]) or 'no answers'}{more}", file=sys.stderr)
