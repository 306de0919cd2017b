"""Evaluate: the same answers with and without the Aligner, judged pair by pair. This file is the evaluation."""

import asyncio
import sys
import time
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from aligner.config import EvaluateConfig, EvaluatedTask, EvaluatedUpstream
from aligner.correct import Aligner, windows
from aligner.data.fields import triple_of
from aligner.errors import AlignerError, MisuseError
from aligner.evaluating.cases import Case, Opinion
from aligner.evaluating.comparing import compare, missed_bars, show_comparison
from aligner.evaluating.evidence import weigh
from aligner.evaluating.kept import Kept, key_of
from aligner.evaluating.provenance import Provenance, hashes_of, settings_of, versions
from aligner.evaluating.report import Overlapped, Report, summary, write_report
from aligner.files import bad_rows_named, read, write_text_atomic
from aligner.jobs import Tick, map_ordered, progress
from aligner.judge import Judge, load_judge
from aligner.models import load_model
from aligner.models.replay import load as load_answers
from aligner.records import Correction, Exchange, SamplingParams, as_messages
from aligner.scoring.overlap import overlap_with_any
from aligner.tasks import TASKS, Item, Score, Task, items_of, task_named

T = TypeVar("T")
_AHEAD = 4
"""batches of answers that are corrected, and kept, together"""


class MissedBarError(AlignerError):
    """The figures are not what was asked for."""


class Asked(NamedTuple):
    """A task with the items of this run, and how they are asked."""

    task: Task
    items: Sequence[Item]
    sampling: SamplingParams
    qualities: tuple[str, ...]


class Answered(NamedTuple):
    """What an upstream said to one item."""

    text: str
    finish_reason: str
    seconds: float


class Corrected(NamedTuple):
    """What became of one answer."""

    text: str
    kept_reason: str | None
    tokens: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Findings:
    """What was found out, kept in the folder of the run as soon as it is known."""

    answers: Kept
    corrections: Kept
    scores: Kept
    opinions: Kept


class Run(NamedTuple):
    """What a run works with."""

    config: EvaluateConfig
    findings: Findings
    aligner: Aligner
    judges: Sequence[Judge]


def evaluate(config: EvaluateConfig) -> None:
    """aligner evaluate: one answer of each upstream to each item, its correction, verdicts on both, and a report."""
    if config.list:
        sys.stdout.writelines(f"{task.name:<16}{task.help} ({task.licence})\n" for task in TASKS.values())
        return
    if config.compare:
        show_comparison(compare(*map(Path, config.compare)))
        return
    report = found_out(config)
    write_report(config.out, report)
    sys.stderr.write(f"{summary(report)}\n")
    if missed := missed_bars(report.evidence, min_net=config.min_net, max_broken=config.max_broken):
        raise MissedBarError("; ".join(missed))


def found_out(config: EvaluateConfig) -> Report:
    """All that the run finds out; what it has found out before is not asked again."""
    tasks, judges = _tasks(config), [load_judge(name, votes=config.votes) for name in config.judges]
    aligner = Aligner.from_pretrained(config.aligner, device=config.device)
    config.out.mkdir(parents=True, exist_ok=True)
    write_text_atomic(config.out / "config.toml", settings_of(config))
    with ExitStack() as stack:
        names = ("answers", "corrections", "scores", "opinions")
        findings = Findings(*(stack.enter_context(Kept(config.out / f"{name}.jsonl")) for name in names))
        run = Run(config, findings, aligner, judges)
        cases = [case for upstream in config.upstreams for asked in tasks for case in _cases(run, upstream, asked)]
    return _report(config, cases, tasks, aligner, judges)


def _cases(run: Run, upstream: EvaluatedUpstream, asked: Asked) -> list[Case]:
    """One upstream's answers to one task: asked once, corrected, marked and judged."""
    what, findings, config = f"{upstream.name}, {asked.task.name}", run.findings, run.config
    answers = asyncio.run(_answers(findings.answers, upstream.model, asked, what, at_a_time=config.at_a_time))
    corrections = _corrections(findings.corrections, asked, answers, run.aligner, what, batch=config.batch)
    marks = [
        _scores(findings.scores, asked, [found.text for found in texts], f"{what}: {when}")
        for when, texts in (("before", answers), ("after", corrections))
    ]
    cases = [
        Case(
            upstream=upstream.name,
            task=asked.task.name,
            item=item.id,
            category=item.category,
            question=item.question,
            answer=answer.text,
            correction=correction.text,
            kept_reason=correction.kept_reason,
            before=before,
            after=after,
            tokens=correction.tokens,
            seconds={"answer": answer.seconds, "correct": correction.seconds},
        )
        for item, answer, correction, before, after in zip(asked.items, answers, corrections, *marks, strict=True)
    ]
    return asyncio.run(_judged(findings.opinions, cases, run.judges, asked, what, at_a_time=config.at_a_time))


async def _answers(kept: Kept, model: str, asked: Asked, what: str, *, at_a_time: int) -> list[Answered]:
    """The upstream is asked once for each item, however often the run is taken up again."""
    keys = [key_of(model, asdict(asked.sampling), as_messages(item.question)) for item in asked.items]
    new = _first_of_each(keys, asked.items, known=kept)
    if new:
        upstream = load_model(model)

        async def ask(pair: tuple[str, Item]) -> tuple[str, dict[str, Any]]:
            begun = time.perf_counter()
            found = await upstream.complete(as_messages(pair[1].question), asked.sampling)
            told = {"text": found.text, "finish_reason": found.finish_reason}
            return pair[0], {**told, "seconds": time.perf_counter() - begun}

        with _ticking(f"{what}: ask", new, "answers") as tick:
            # As soon as it is there, and not when its turn comes: a kill loses nothing that was paid for.
            async for _ in map_ordered(ask, new, limit=at_a_time, on_done=lambda found: kept.put([found])):
                tick()
    return [Answered(**kept[key]) for key in keys]


def _corrections(
    kept: Kept, asked: Asked, answers: Sequence[Answered], aligner: Aligner, what: str, *, batch: int
) -> list[Corrected]:
    """Answers that are whole are corrected, in windows that are done together or not at all."""
    pairs = list(zip(asked.items, answers, strict=True))
    keys = [key_of(aligner.writer.fingerprint, as_messages(item.question), answer.text) for item, answer in pairs]
    reasons = [_not_corrected(answer) for answer in answers]
    new = _first_of_each(keys, [Exchange(item.question, answer.text) for item, answer in pairs], known=kept)
    whole = {key for key, reason in zip(keys, reasons, strict=True) if reason is None}
    with _ticking(f"{what}: correct", new := [pair for pair in new if pair[0] in whole], "answers") as tick:
        for window in windows(new, _AHEAD * batch):
            begun = time.perf_counter()
            found = list(aligner.correct_many((exchange for _, exchange in window), batch=batch))
            seconds = (time.perf_counter() - begun) / len(window)
            kept.put((key, _told(one, seconds)) for (key, _), one in zip(window, found, strict=True))
            tick(len(window))
    return [
        Corrected(answer.text, reason, 0, 0.0) if reason else Corrected(**kept[key])
        for key, answer, reason in zip(keys, answers, reasons, strict=True)
    ]


def _not_corrected(answer: Answered) -> str | None:
    """Why an answer is left alone, as behind the proxy."""
    if not answer.text.strip():
        return "empty"
    return "truncated" if answer.finish_reason == "length" else None


def _told(correction: Correction, seconds: float) -> dict[str, Any]:
    tokens = correction.usage.prompt_tokens + correction.usage.completion_tokens
    return {"text": correction.text, "kept_reason": correction.kept_reason, "tokens": tokens, "seconds": seconds}


def _scores(kept: Kept, asked: Asked, texts: Sequence[str], what: str) -> Sequence[Score | None]:
    """Whether each answer is right, where the task can tell."""
    if asked.task.score is None:
        return [None] * len(texts)
    keys = [key_of(asked.task.name, item.id, item.gold, text) for item, text in zip(asked.items, texts, strict=True)]
    new = _first_of_each(keys, list(zip(asked.items, texts, strict=True)), known=kept)
    with _ticking(f"{what}: mark", new, "answers") as tick:
        for window in windows(new, 64):
            scores = asked.task.score([item for _, (item, _) in window], [text for _, (_, text) in window])
            kept.put((key, score._asdict()) for (key, _), score in zip(window, scores, strict=True))
            tick(len(window))
    return [Score(**kept[key]) for key in keys]


async def _judged(
    kept: Kept, cases: Sequence[Case], judges: Sequence[Judge], asked: Asked, what: str, *, at_a_time: int
) -> list[Case]:
    """The cases with what each judge says of each quality."""
    views = [(judge, quality) for judge in judges for quality in asked.qualities if quality in judge.qualities]
    found = [list[Opinion]() for _ in cases]
    for judge, quality in views:
        keys = [key_of(judge.name, quality, as_messages(c.question), c.answer, c.correction) for c in cases]
        new = _first_of_each(keys, cases, known=kept)

        async def ask(
            pair: tuple[str, Case], judge: Judge = judge, quality: Any = quality
        ) -> tuple[str, dict[str, Any]]:
            key, case = pair
            verdict = await judge.compare(case.question, case.answer, case.correction, quality)
            told = {name: getattr(verdict, name) for name in ("preference", "flipped", "parsed", "said")}
            return key, {"judge": judge.name, "quality": quality, **told}

        with _ticking(f"{what}: {judge.name} on {quality}", new, "pairs") as tick:
            async for _ in map_ordered(ask, new, limit=at_a_time, on_done=lambda one: kept.put([one])):
                tick()
        for opinions, key in zip(found, keys, strict=True):
            opinions.append(Opinion(**kept[key]))
    return [replace(case, opinions=tuple(opinions)) for case, opinions in zip(cases, found, strict=True)]


def _ticking(what: str, new: Sequence[object], unit: str) -> AbstractContextManager[Tick]:
    """Progress, where there is anything left to do."""
    return progress(what, total=len(new), unit=unit) if new else nullcontext(_silent)


def _silent(count: int = 1, note: str = "") -> None:
    """Nothing is done, and so nothing is said."""


def _first_of_each(keys: Sequence[str], values: Sequence[T], *, known: Kept) -> list[tuple[str, T]]:
    return [(key, value) for key, value in dict(zip(keys, values, strict=True)).items() if key not in known]


def _tasks(config: EvaluateConfig) -> list[Asked]:
    """The items of all tasks; raises MisuseError where nothing is named."""
    if not config.tasks or not config.upstreams:
        raise MisuseError("name upstreams and tasks: tables [[upstreams]] and [[tasks]] of a TOML file, by --config")
    return [_asked(table, config.seed) for table in config.tasks]


def _asked(table: EvaluatedTask, seed: int) -> Asked:
    task = task_named(table.task)
    items = items_of(task, table.path, sample=table.sample or None, seed=seed)
    if not items:
        raise MisuseError(f"{table.path}: holds no items for {task.name}")
    limits = {"max_tokens": table.max_tokens} if table.max_tokens else {}
    sampling = replace(task.sampling, temperature=table.temperature, seed=seed, **limits)
    return Asked(task, items, sampling, table.qualities or task.qualities)


def _report(
    config: EvaluateConfig, cases: Sequence[Case], tasks: Sequence[Asked], aligner: Aligner, judges: Sequence[Judge]
) -> Report:
    private = {asked.task.name for asked in tasks if asked.task.private}
    return Report(
        title=config.title,
        evidence=weigh(cases, seed=config.seed),
        cases=[replace(c, question="", answer="", correction="") if c.task in private else c for c in cases],
        overlaps=_overlaps(config, cases, tasks),
        measures={asked.task.name: asked.task.measures for asked in tasks if asked.task.score},
        provenance=Provenance(
            command=f"aligner evaluate --config {config.out / 'config.toml'}",
            aligner=config.aligner,
            fingerprint=aligner.writer.fingerprint,
            upstreams={upstream.name: upstream.model for upstream in config.upstreams},
            judges=[{"name": judge.name, **judge.about} for judge in judges],
            files=hashes_of([Path(table.path) for table in config.tasks if Path(table.path).exists()]),
            versions=versions(),
            seed=config.seed,
        ),
        closed_world=any(upstream.model.startswith("world:") for upstream in config.upstreams),
    )


def _overlaps(config: EvaluateConfig, cases: Sequence[Case], tasks: Sequence[Asked]) -> list[Overlapped]:
    """What of the corrections stands elsewhere: in training targets, in references, in other sets of answers."""
    others = {str(path): [triple.correction for triple in _triples(path)] for path in config.targets}
    references = [str(item.data["reference"]) for asked in tasks for item in asked.items if "reference" in item.data]
    others |= {"references": references} if references else {}
    others |= {
        name: [text for texts in load_answers(name).answers.values() for text in texts] for name in config.others
    }
    found: list[Overlapped] = []
    for upstream, task in dict.fromkeys((case.upstream, case.task) for case in cases) if others else ():
        arm = [case for case in cases if (case.upstream, case.task) == (upstream, task)]
        seen = overlap_with_any([case.correction for case in arm], [case.answer for case in arm], others)
        found.append(Overlapped(upstream, task, seen.counted, len(seen.flagged), len(seen.copied), seen.sources))
    return found


def _triples(path: Path) -> Iterable[Any]:
    return (triple for _, triple in read(path, triple_of, bad_rows=bad_rows_named("stop", path)))
