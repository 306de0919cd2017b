"""What a build will take, from what a pilot took: calls, tokens, money and hours."""

import heapq
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from math import ceil
from typing import NamedTuple

from aligner.building import answers, corrections
from aligner.building.checking import way_of
from aligner.building.ledger import Ledger
from aligner.building.nouns import Stage, order_of
from aligner.building.sources import named
from aligner.building.store import Store
from aligner.config import BuildAnnotator, BuildConfig, BuildUpstream

_MARGIN = 0.97
"""of the money that is planned for, since an estimate is none that is never passed"""


class Line(NamedTuple):
    """What one model does at one stage, from beginning to end."""

    stage: Stage
    model: str
    calls: int
    left: int
    """of these, those that were not made yet"""
    prompt_tokens: int
    completion_tokens: int
    cost: float
    hours: float
    """that those will take at its limits; 0 where it has none"""


class Measured(NamedTuple):
    """What only the pilot can tell."""

    pace: Mapping[str, float] = {}
    """calls a second, by stage"""
    asks: Mapping[str, float] = {}
    """calls of each annotator for one answer: more than one where replies could not be read, fewer where answers were
    equal"""


class Estimate(NamedTuple):
    """What the whole build takes, with what was spent already."""

    lines: Sequence[Line]
    triples: int
    """corrections, before the filters"""
    spent: float
    pace: Mapping[str, float]
    """calls a second that the pilot made, by stage"""

    @property
    def cost(self) -> float:
        """From beginning to end, at least what was spent."""
        return max(self.spent, sum(line.cost for line in self.lines))

    @property
    def hours(self) -> float:
        """The models of a stage work at the same time, the stages one behind the other."""
        stages: set[Stage] = {line.stage for line in self.lines}
        return sum(self._hours_of(stage) for stage in stages)

    def _hours_of(self, stage: Stage) -> float:
        """At the limits of each model, and not faster than the pilot was."""
        lines = [line for line in self.lines if line.stage == stage]
        pace = self.pace.get(stage, 0.0)
        measured = sum(line.left for line in lines) / pace / 3600 if pace else 0.0
        return max(measured, *(line.hours for line in lines))


class _Seen(NamedTuple):
    """Means of the calls that a model has answered."""

    ended: int
    """those that it failed for good included"""
    done: int
    prompt: float
    completion: float
    cost: float


def pilot_of(config: BuildConfig, store: Store) -> frozenset[str]:
    """The ids of the questions of the pilot: a fair sample, so many that about as many answers are made as wanted."""
    return _first(config, store, ceil(config.pilot / max(1.0, _answers_each(config))))


def _first(config: BuildConfig, store: Store, count: int) -> frozenset[str]:
    """The ids of the first questions, in the order in which they are asked."""
    ordered = ((order_of(config.seed, asked.id), asked.id) for asked in store.questions())
    return frozenset(name for _, name in heapq.nsmallest(count, ordered))


def affordable(config: BuildConfig, store: Store, found: Estimate) -> frozenset[str] | None:
    """The ids of the questions that --max-cost pays for from beginning to end, the pilot's first; None for all.

    Money that is spent on answers whose corrections nobody can pay for is lost.
    """
    if config.max_cost is None or config.max_cost >= found.cost:
        return None
    return _first(config, store, int(_MARGIN * store.kept("questions") * config.max_cost / found.cost))


def last_place(config: BuildConfig, only: Collection[str] | None) -> bytes | None:
    """The place of the last request about these questions, which are the first ones in that order; None for all."""
    return None if only is None else max((order_of(config.seed, name) for name in only), default=b"")


def is_finished(config: BuildConfig, store: Store, ledger: Ledger, wanted: Collection[str]) -> bool:
    """Whether no call of these stages is left; brings answers that have come into the store."""
    if "answers" in wanted:
        if any(_is_open(ledger, request.key) for request in answers.requests(config, store)):
            return False
        answers.collect(config, store, ledger)
    return "corrections" not in wanted or next(corrections.requests(config, store, ledger), None) is None


def _is_open(ledger: Ledger, key: str) -> bool:
    return ledger.reply(key) is None and ledger.failure(key) is None


def has_prices(config: BuildConfig) -> bool:
    """Whether anything costs money."""
    return any(model.price_in or model.price_out for model in (*config.upstreams, *config.annotators))


def measured(
    config: BuildConfig, store: Store, ledger: Ledger, pilot: Collection[str], pace: Mapping[str, float]
) -> Measured:
    """What the pilot tells, right behind it."""
    counts = Counter(task.annotator.name for task in corrections.tasks(config, store, pilot))
    of_pilot = ledger.up_to(last_place(config, pilot))
    asks = {name: of_pilot.ended("corrections", name) / count for name, count in counts.items()}
    return Measured(pace, {name: ratio for name, ratio in asks.items() if ratio})


def estimate(config: BuildConfig, store: Store, ledger: Ledger, seen: Measured) -> Estimate:
    """What the whole build takes, as far as the calls that were answered tell.

    Each stage's calls are counted, for answers exactly; tokens and money are means of each model's own calls.
    """
    wanted = _wanted_answers(config, store)
    asked_of = [_line("answers", model, ledger, wanted[model.name]) for model in config.upstreams]
    left = _share_of_answers_kept(ledger, store)
    given = _given_answers(config, store)
    total = sum(wanted.values()) * left + given
    corrected = [
        _line("corrections", model, ledger, round(total * _share(config, model) * seen.asks.get(model.name, 1.0)))
        for model in config.annotators
    ]
    return Estimate([*asked_of, *corrected], round(total), ledger.spent(), seen.pace)


def _answers_each(config: BuildConfig) -> float:
    """About how many answers a question gets."""
    each = sum(model.share * model.samples for model in config.upstreams)
    count = config.answers_per_question
    return each * count / len(config.upstreams) if 0 < count < len(config.upstreams) else each


def _wanted_answers(config: BuildConfig, store: Store) -> dict[str, int]:
    """Exactly how many answers each upstream gives."""
    found = dict.fromkeys((model.name for model in config.upstreams), 0)
    for asked in store.questions():
        if answers.is_asked(config, asked):
            for model in answers.drawn(config, asked.id):
                found[model.name] += model.samples
    return found


def _given_answers(config: BuildConfig, store: Store) -> int:
    """Answers that came with their source and that somebody has to correct."""
    asked = {name for name, source in named(config.sources).items() if source.takes == "answers"}
    return sum(answer.upstream in asked for answer in store.answers()) if asked else 0


def _share_of_answers_kept(ledger: Ledger, store: Store) -> float:
    """Of the calls for answers that came to an end."""
    state = ledger.state("answers")
    ended = state.done + sum(state.failed.values())
    return 1 - min(1.0, sum(store.drop_reasons("answers").values()) / ended) if ended else 1.0


def _share(config: BuildConfig, model: BuildAnnotator) -> float:
    """Of all answers, those that an annotator corrects first, and those that he corrects as the second one."""
    firsts, left = list[float](), 1.0
    for one in config.annotators:
        firsts.append(left * one.share)
        left -= firsts[-1]
    place = config.annotators.index(model)
    return firsts[place] + (firsts[place - 1] * config.twice if len(firsts) > 1 else 0.0)


def _line(stage: Stage, model: BuildUpstream | BuildAnnotator, ledger: Ledger, calls: int) -> Line:
    """What a model takes for all its calls: what those that it has answered took, and the mean for the others."""
    seen = _seen(stage, model, ledger)
    share = model.batch_price if way_of(model) == "batch" else 1.0
    each = share * (seen.prompt * model.price_in + seen.completion * model.price_out) / 1e6
    rest = max(0, calls - seen.ended)
    prompt, completion = (round((seen.done + rest) * mean) for mean in (seen.prompt, seen.completion))
    limits = _hours(model, rest, rest * (seen.prompt + seen.completion))
    return Line(stage, model.name, max(calls, seen.ended), rest, prompt, completion, seen.cost + rest * each, limits)


def _seen(stage: Stage, model: BuildUpstream | BuildAnnotator, ledger: Ledger) -> _Seen:
    """What is known of a model; of one that has answered nothing yet, what its whole stage took."""
    state = ledger.state(stage, [model.name])
    ended = state.done + sum(count for fault, count in state.failed.items() if fault not in answers.OPEN)
    if state.done:
        read, written = state.prompt_tokens / state.done, state.completion_tokens / state.done
        return _Seen(ended, state.done, read, written, state.cost)
    others = ledger.state(stage)
    done = max(1, others.done)
    return _Seen(ended, 0, others.prompt_tokens / done, others.completion_tokens / done, state.cost)


def _hours(model: BuildUpstream | BuildAnnotator, calls: int, tokens: float) -> float:
    limits: Iterator[float] = (
        amount / limit
        for amount, limit in ((calls, model.requests_per_minute), (tokens, model.tokens_per_minute))
        if limit
    )
    return max(limits, default=0.0) / 60
