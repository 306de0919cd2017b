"""Correct an answer. This file is the algorithm."""

import asyncio
import sys
from collections import Counter
from collections.abc import AsyncIterator, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TypeVar

from aligner.config import CorrectConfig, Device, GateChoice
from aligner.correcting.guards import GUARDS, Guard, sure_from
from aligner.correcting.show import show_correction
from aligner.correcting.writers import HasGate, Writer, gate_of, load_writer
from aligner.data.fields import exchange_of
from aligner.errors import MisuseError
from aligner.files import Row, RowError, bad_rows_named, open_rows, read
from aligner.files.output import label
from aligner.jobs import progress
from aligner.objectives import instruction_from
from aligner.records import ChatModel, Completion, Correction, Exchange, Message, Question, SamplingParams, as_question
from aligner.scoring.edits import edits_between

T = TypeVar("T")
_GREEDY = SamplingParams()
_AHEAD = 16
"""batches that are read ahead, so that a new answer can enter whenever one is through"""


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
    instruction, where there is one.
    """

    def __init__(self, upstream: ChatModel, *aligners: Aligner, instruction: str = "") -> None:
        self.upstream = upstream
        self.aligners = aligners
        self.instruction = instruction

    async def complete(
        self, messages: Sequence[Message], sampling: SamplingParams = _GREEDY, *, prediction: str | None = None
    ) -> Completion:
        """The upstream's answer, corrected by one Aligner after the other."""
        answer = await self.upstream.complete(messages, sampling, prediction=prediction)
        if answer.finish_reason != "stop" or not answer.text.strip():
            return answer
        text = answer.text
        for aligner in self.aligners:
            text = (await aligner.acorrect(as_question(messages), text, instruction=self.instruction)).text
        return Completion(text, answer.finish_reason, answer.usage)

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
    """Correct every answer of a file, in order; interrupted and called again, the rows are those of one run."""
    if config.answers is None or config.out is None:
        raise MisuseError("no place for the corrections: name a file with --out, or - for standard output")
    if config.batch < 1:
        raise MisuseError(f"--batch must be at least 1, not {config.batch}")
    bad_rows = bad_rows_named(config.on_bad_row, config.out)
    instruction = instruction_from(config.instruction, config.objective)
    rows = read(config.answers, lambda row: _asked(row, instruction, aligner.writer), bad_rows=bad_rows)
    aligner = Aligner.from_pretrained(config.aligner, device=config.device, gate=config.gate)
    if instruction and not aligner.writer.takes_instructions:
        raise MisuseError(f"{config.aligner} takes no instruction: train an Aligner on rows that have some")
    run = {"answers": str(config.answers), "aligner": aligner.writer.fingerprint, "batch": config.batch}
    run |= {"instruction": instruction} if instruction else {}
    counts = Counter[str]()
    with open_rows(config.out, run) as writer, progress("correct", done=writer.done, unit="answers") as tick:
        first = 0
        # A window is corrected whole or not at all, so that the same answers always share their passes.
        for window in windows(rows, _AHEAD * config.batch):
            if (new := max(writer.done - first, 0)) < len(window):
                corrections = aligner.correct_many((exchange for _, exchange in window), batch=config.batch)
                results = [_result(row, correction) for (row, _), correction in zip(window, corrections, strict=True)]
                writer.append(results[new:])
                counts.update(map(_outcome, results))
                own = sum(exchange.instruction != instruction for _, exchange in window)
                counts.update({"told by an instruction of their own": own} if own else {})
                tick(len(window) - new)
            first += len(window)
        writer.finish()
    bad_rows.finish()
    print(_summary(config.out, counts, bad_rows.reasons), file=sys.stderr)


def _asked(row: Mapping[str, object], instruction: str, writer: Writer) -> Exchange:
    """The exchange in a row, which is told the instruction unless it has one of its own; raises RowError."""
    exchange = exchange_of(row, instruction=instruction)
    if exchange.instruction and not writer.takes_instructions:
        cure = "leave the column out, or take an Aligner that was trained on rows with instructions"
        raise RowError(f'"instruction" or "objective" tells the Aligner something, and this one takes none: {cure}')
    return exchange


def _result(row: Row, correction: Correction) -> dict[str, object]:
    """The row as it was read, and what became of its answer; fields of the same names stay as `given_…`."""
    found = {"correction": correction.text, "changed": correction.changed, "kept_reason": correction.kept_reason}
    given = {f"given_{name}": row.data[name] for name in found if name in row.data}
    return {**row.data, **given, **found}


def _outcome(result: Mapping[str, object]) -> str:
    kept = result["kept_reason"]
    return f"kept ({kept})" if kept else "changed" if result["changed"] else "unchanged"


def _summary(out: Path, counts: Mapping[str, int], skipped: Mapping[str, int]) -> str:
    parts = [f"{count:,} {what}" for what, count in sorted(counts.items())]
    left_out = [f"{count:,} skipped ({reason})" for reason, count in sorted(skipped.items())]
    return f"{label(out)}: {', '.join([*parts, *left_out]) or 'no answers'}"


def windows(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """The items in lists of `size`, the last one perhaps shorter; raises ValueError for a size under 1."""
    if size < 1:
        raise ValueError(f"no windows of {size} items")
    iterator = iter(items)
    while window := list(islice(iterator, size)):
        yield window
