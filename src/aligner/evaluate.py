"""Evaluate: the same answers with and without the Aligner, judged pair by pair. This file is the evaluation."""

import asyncio
import sys
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple, TypeVar, get_args

from aligner.config import EvaluateConfig, EvaluatedTask, EvaluatedUpstream
from aligner.correct import Aligner, windows
from aligner.data.fields import triple_of
from aligner.errors import AlignerError, MisuseError, ModelError, unknown
from aligner.evaluating.cases import Case, Opinion
from aligner.evaluating.comparing import compare, missed_bars, show_comparison
from aligner.evaluating.evidence import weigh
from aligner.evaluating.kept import Kept, key_of
from aligner.evaluating.provenance import Provenance, hashes_of, identity_of, settings_of, versions
from aligner.evaluating.report import Overlapped, Report, summary, write_report
from aligner.files import bad_rows_named, read, write_text_atomic
from aligner.jobs import Tick, map_ordered, progress
from aligner.judge import Judge, Verdict, load_judge
from aligner.models import load_model
from aligner.models.replay import load as load_answers
from aligner.models.server import RefusedError
from aligner.prompts import Quality
from aligner.records import Completion, Correction, Exchange, SamplingParams, as_messages
from aligner.scoring.overlap import overlap_with_any
from aligner.serving.wire import split_reasoning
from aligner.tasks import TASKS, Item, Score, Task, items_of, task_named

T = TypeVar("T")
_LEFT_ALONE = {"length": "truncated", "content_filter": "content_filter", "refused": "refused by its server"}
"""ends of answers that are not corrected, and why"""
_OF_ONE_REQUEST = frozenset({400, 413, 422, 451})
"""statuses that refuse a request for what is in it, such as a filter's"""
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


class Named(NamedTuple):
    """A judge, and what stands for it in the keys of what it said."""

    identity: str
    judge: Judge


class Run(NamedTuple):
    """What a run works with."""

    config: EvaluateConfig
    findings: Findings
    aligner: Aligner
    judges: Sequence[Named]


def evaluate(config: EvaluateConfig) -> None:
    """aligner evaluate: one answer of each upstream to each item, its correction, verdicts on both, and a report."""
    if config.list:
        sys.stdout.writelines(f"{task.name:<16}{task.help} ({task.licence})\n" for task in TASKS.values())
        return
    if config.compare:
        if len(config.compare) != 2:
            raise MisuseError("--compare takes two reports: the old report.json, and the new one")
        show_comparison(compare(*config.compare))
        return
    report = found_out(config)
    write_report(config.out, report)
    sys.stderr.write(f"{summary(report)}\n")
    if missed := missed_bars(report.evidence, min_net=config.min_net, max_broken=config.max_broken):
        raise MissedBarError("; ".join(missed))


def found_out(config: EvaluateConfig) -> Report:
    """All that the run finds out; what it has found out before is not asked again."""
    _check(config)
    judges = [Named(identity_of(name), load_judge(name, votes=config.votes)) for name in config.judges]
    tasks = _tasks(config, judges)
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
            is_private=asked.task.private,
            tokens=correction.tokens,
            seconds={"answer": answer.seconds, "correct": correction.seconds},
        )
        for item, answer, correction, before, after in zip(asked.items, answers, corrections, *marks, strict=True)
    ]
    return asyncio.run(_judged(findings.opinions, cases, run.judges, asked, what, at_a_time=config.at_a_time))


async def _answers(kept: Kept, model: str, asked: Asked, what: str, *, at_a_time: int) -> list[Answered]:
    """The upstream is asked once for each item, however often the run is taken up again."""
    identity, sampling = identity_of(model), asdict(asked.sampling)
    keys = [key_of(identity, sampling, as_messages(item.question)) for item in asked.items]
    new = _first_of_each(keys, asked.items, known=kept)
    if new:
        upstream = load_model(model)

        async def ask(pair: tuple[str, Item]) -> tuple[str, dict[str, Any]]:
            begun = time.perf_counter()
            try:
                found = await upstream.complete(as_messages(pair[1].question), asked.sampling)
            except RefusedError as error:
                if error.status not in _OF_ONE_REQUEST:
                    raise
                found = Completion("", "refused")
            except ModelError as error:
                # What a model says of its failure may quote the question.
                raise ModelError(f"{what}: item {pair[1].id} got no answer") from None if asked.task.private else error
            told = {"text": found.text, "finish_reason": found.finish_reason}
            return pair[0], {**told, "seconds": time.perf_counter() - begun}

        def keep(found: tuple[str, dict[str, Any]]) -> None:
            # A refusal of all is no finding, but a mistake in how they are asked: it is kept behind the first answer.
            refused.append(found)
            if any(told["finish_reason"] != "refused" for _, told in refused):
                kept.put(refused)
                refused.clear()

        refused = list[tuple[str, dict[str, Any]]]()
        with _ticking(f"{what}: ask", new, "answers") as tick:
            # As soon as it is there, and not when its turn comes: a kill loses nothing that was paid for.
            async for _ in map_ordered(ask, new, limit=at_a_time, on_done=keep):
                tick()
        if len(refused) == len(new):
            raise ModelError(f"{what}: the server refuses every question")
        kept.put(refused)
    return [Answered(**kept[key]) for key in keys]


def _corrections(
    kept: Kept, asked: Asked, answers: Sequence[Answered], aligner: Aligner, what: str, *, batch: int
) -> list[Corrected]:
    """Answers that are whole are corrected, in windows that are done together or not at all."""
    # What a model thought aloud is no answer, and stays as it is: as behind the proxy.
    split = [split_reasoning(answer.text) for answer in answers]
    exchanges = [Exchange(item.question, text) for item, (_, text) in zip(asked.items, split, strict=True)]
    keys = [key_of(aligner.writer.fingerprint, as_messages(one.question), one.answer) for one in exchanges]
    reasons = [_not_corrected(answer, text) for answer, (_, text) in zip(answers, split, strict=True)]
    new = _first_of_each(keys, exchanges, known=kept)
    whole = {key for key, reason in zip(keys, reasons, strict=True) if reason is None}
    with _ticking(f"{what}: correct", new := [pair for pair in new if pair[0] in whole], "answers") as tick:
        for window in windows(new, _AHEAD * batch):
            begun = time.perf_counter()
            found = list(aligner.correct_many((exchange for _, exchange in window), batch=batch))
            seconds = (time.perf_counter() - begun) / len(window)
            kept.put((key, _told(one, seconds)) for (key, _), one in zip(window, found, strict=True))
            tick(len(window))
    return [
        Corrected(answer.text, reason, 0, 0.0) if reason else _behind(thought, Corrected(**kept[key]))
        for key, answer, (thought, _), reason in zip(keys, answers, split, reasons, strict=True)
    ]


def _behind(thought: str, corrected: Corrected) -> Corrected:
    return corrected._replace(text=thought + corrected.text)


def _not_corrected(answer: Answered, text: str) -> str | None:
    """Why an answer is left alone, as behind the proxy."""
    if answer.finish_reason in _LEFT_ALONE:
        return _LEFT_ALONE[answer.finish_reason]
    return None if text.strip() else "empty"


def _told(correction: Correction, seconds: float) -> dict[str, Any]:
    tokens = correction.usage.prompt_tokens + correction.usage.completion_tokens
    return {"text": correction.text, "kept_reason": correction.kept_reason, "tokens": tokens, "seconds": seconds}


def _scores(kept: Kept, asked: Asked, texts: Sequence[str], what: str) -> Sequence[Score | None]:
    """Whether each answer is right, where the task can tell."""
    if asked.task.score is None:
        return [None] * len(texts)
    # Whatever decides about right and wrong: the item with its tests, and the version of the rules.
    made = [[asked.task.name, version("aligner-llm"), repr(item)] for item in asked.items]
    keys = [key_of(*parts, text) for parts, text in zip(made, texts, strict=True)]
    new = _first_of_each(keys, list(zip(asked.items, texts, strict=True)), known=kept)
    with _ticking(f"{what}: mark", new, "answers") as tick:
        for window in windows(new, 64):
            scores = asked.task.score([item for _, (item, _) in window], [text for _, (_, text) in window])
            kept.put((key, score._asdict()) for (key, _), score in zip(window, scores, strict=True))
            tick(len(window))
    return [Score(**kept[key]) for key in keys]


async def _judged(
    kept: Kept, cases: Sequence[Case], judges: Sequence[Named], asked: Asked, what: str, *, at_a_time: int
) -> list[Case]:
    """The cases with what each judge says of each quality."""
    views = [(named, quality) for named in judges for quality in asked.qualities if quality in named.judge.qualities]
    found = [list[Opinion]() for _ in cases]
    for (identity, judge), quality in views:
        made = [identity, judge.name, quality]
        keys = [key_of(*made, as_messages(case.question), case.answer, case.correction) for case in cases]
        new = _first_of_each(keys, cases, known=kept)

        async def ask(
            pair: tuple[str, Case], judge: Judge = judge, quality: Any = quality
        ) -> tuple[str, dict[str, Any]]:
            key, case = pair
            try:
                verdict = await judge.compare(case.question, case.answer, case.correction, quality)
            except RefusedError as error:
                if error.status not in _OF_ONE_REQUEST:
                    raise
                verdict = Verdict(0.5, "the judge's server refuses these texts", parsed=False)
            told = {name: getattr(verdict, name) for name in ("preference", "flipped", "parsed", "said")}
            halves = judge.about.get("votes") == "half"
            return key, {"judge": judge.name, "quality": quality, "halves": halves, **told}

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


def _check(config: EvaluateConfig) -> None:
    """Refuse what cannot work, or would be counted twice, before anything is asked; raises MisuseError."""
    if not config.tasks or not config.upstreams:
        raise MisuseError("name upstreams and tasks: tables [[upstreams]] and [[tasks]] of a TOML file, by --config")
    if config.batch < 1 or config.at_a_time < 1:
        raise MisuseError("--batch and --at-a-time begin at 1")
    named = {
        "upstream": [upstream.name for upstream in config.upstreams],
        "task": [table.task for table in config.tasks],
        "judge": list(config.judges),
    }
    for kind, names in named.items():
        if twice := [name for name, count in Counter(names).items() if count > 1]:
            raise MisuseError(f'the {kind} "{twice[0]}" is named twice, and would be counted twice')


def _tasks(config: EvaluateConfig, judges: Sequence[Named]) -> list[Asked]:
    """The items of all tasks; raises MisuseError where a judge has nothing to judge."""
    tasks = [_asked(table, config.seed) for table in config.tasks]
    wanted = {quality for asked in tasks for quality in asked.qualities}
    for _, judge in judges:
        if wanted.isdisjoint(judge.qualities):
            raise MisuseError(f"{judge.name} judges {', '.join(judge.qualities)}, which no task here asks for")
    return tasks


def _asked(table: EvaluatedTask, seed: int) -> Asked:
    task = task_named(table.task)
    for quality in table.qualities:
        if quality not in get_args(Quality):
            raise unknown(f"quality of {task.name}", quality, get_args(Quality))
    items = items_of(task, table.path, sample=table.sample or None, seed=seed)
    if not items:
        raise MisuseError(f"{table.path}: holds no items for {task.name}")
    limits = {"max_tokens": table.max_tokens} if table.max_tokens else {}
    sampling = replace(task.sampling, temperature=table.temperature, seed=seed, **limits)
    return Asked(task, items, sampling, tuple(dict.fromkeys(table.qualities)) or task.qualities)


def _report(
    config: EvaluateConfig, cases: Sequence[Case], tasks: Sequence[Asked], aligner: Aligner, judges: Sequence[Named]
) -> Report:
    models = [upstream.model.partition(":")[2] for upstream in config.upstreams]
    files = [Path(name.partition("?")[0]) for name in (*models, *config.others)]
    tasks_read = [Path(table.path) for table in config.tasks]
    read = [path for path in (*files, *config.targets) if path.is_file()] + [p for p in tasks_read if p.exists()]
    return Report(
        title=config.title,
        evidence=weigh(cases, seed=config.seed),
        cases=cases,
        overlaps=_overlaps(config, cases, tasks),
        measures={asked.task.name: asked.task.measures for asked in tasks if asked.task.score},
        provenance=Provenance(
            command=f"aligner evaluate --config {config.out / 'config.toml'}",
            aligner=config.aligner,
            fingerprint=aligner.writer.fingerprint,
            upstreams={upstream.name: upstream.model for upstream in config.upstreams},
            judges=[{"name": judge.name, **judge.about} for _, judge in judges],
            files=hashes_of(list(dict.fromkeys(read))),
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
        # What stands in the upstream's answer, too, need not come from anywhere else.
        elsewhere = [place for place in seen.flagged if place not in set(seen.copied)]
        sources = Counter(seen.matches[place].source for place in elsewhere)
        found.append(Overlapped(upstream, task, seen.counted, len(elsewhere), len(seen.copied), sources))
    return found


def _triples(path: Path) -> Iterable[Any]:
    return (triple for _, triple in read(path, triple_of, bad_rows=bad_rows_named("stop", path)))
