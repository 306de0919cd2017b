"""What each stage of a training reads: rows, steps and tokens."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import NamedTuple

from aligner.config import Optimisation, TrainConfig
from aligner.data.identity import copied_corrections, identity_rows
from aligner.planning.checking import stages_begun
from aligner.planning.lengths import SAMPLE, Length, Measure, Rows, add_up, both, rows_of, scaled
from aligner.records import Triple
from aligner.templates import PromptEncoder
from aligner.training.on_policy import drawn
from aligner.training.pairs import pairs_of
from aligner.training.random_copies import LONGEST, random_copies


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """One stage: what it reads over all of its epochs."""

    name: str
    how: Optimisation
    rows: int
    """rows a step times steps, but for the last"""
    too_long: int
    """rows left out"""
    steps: int
    tokens: int
    learnt: int
    """tokens that bear the loss"""
    longest: Length
    together: int = 1
    """sequences that one row puts through the model at once: two for a pair"""
    at_most: bool = False
    """whether it may be fewer, since what it reads comes out of the stages before"""
    exact: bool = True
    """false where tokens were counted on a sample"""
    sampled: int = 0
    """tokens written by the model itself"""


class Reading(NamedTuple):
    """How rows are measured."""

    measure: Measure
    encoder: PromptEncoder | None
    limit: int
    seed: int


def stages_of(config: TrainConfig, triples: Sequence[Triple], reading: Reading) -> Iterator[Stage]:
    """The stages that have something to do, in their order."""
    seed, begun = reading.seed, stages_begun(config)
    if "copying" in begun:
        yield _stage("copying", config.copying, _random(reading, config.copying.rows, seed=seed))
    if "identity" in begun:
        copies = identity_rows(triples, share=config.identity.share, seed=seed)
        yield _stage("identity", config.identity, _rows(copies, reading), at_most=config.identity.check_every > 0)
    if "correction" in begun:
        yield _stage("correction", config.correction, _correction(config, triples, reading))
    if "preference" in begun:
        yield _preference(config, triples, reading)
    plain = _rows(triples, reading) if config.on_policy.rounds else Rows()
    for number in range(1, config.on_policy.rounds + 1):
        yield _on_policy(config, number, plain)


def _correction(config: TrainConfig, triples: Sequence[Triple], reading: Reading) -> Rows:
    how = config.correction
    copies = copied_corrections(triples, share=how.identity_share, seed=reading.seed)
    rows = both(_rows(triples, reading), _rows(copies, reading))
    count = round(how.random_share * rows.count)
    return both(rows, _random(reading, count, seed=reading.seed + 1, shortest=LONGEST))


def _preference(config: TrainConfig, triples: Sequence[Triple], reading: Reading) -> Stage:
    """At most: what the model will write is not known, and whether a correction refuses is not asked."""
    how = config.preference
    rows = drawn(triples, share=how.share, seed=reading.seed)
    looked_at = Random(reading.seed).sample(rows, min(len(rows), SAMPLE))
    kinds = tuple(kind for kind in how.rejected if kind != "sampled")
    of_all = replace(how, share=1.0, rejected=kinds)
    pairs = pairs_of(looked_at, of_all, seed=reading.seed, refuses=lambda _: False, sampled=lambda _: []).pairs
    rejected = [(pair.row, pair.rejected) for pair in pairs]
    if "sampled" in how.rejected:
        rejected += [(row, row.correction) for row in looked_at]  # a sample is about as long
    lengths = (_both_sides(row, text, reading.measure) for row, text in rejected)
    found = add_up(lengths, 2 * reading.limit)
    found = replace(found, longest=Length(found.longest.prompt // 2, found.longest.learnt // 2))
    times = len(rows) / max(len(looked_at), 1)
    return _stage("preference", how, scaled(found, times), at_most=True, together=2)


def _both_sides(row: Triple, rejected: str, measure: Measure) -> Length:
    """Tokens of a pair, whose prompt is read twice."""
    one, other = measure(row), measure(replace(row, correction=rejected))
    return Length(one.prompt + other.prompt, one.learnt + other.learnt)


def _on_policy(config: TrainConfig, number: int, plain: Rows) -> Stage:
    """At most: every row that is sampled for is kept, and mixed with triples as asked for."""
    how = config.on_policy
    asked = scaled(plain, how.share)
    rows = scaled(asked, 1 + how.mix)
    return _stage(f"on-policy-{number}", how, rows, at_most=True, sampled=asked.learnt * how.samples)


def _stage(
    name: str, how: Optimisation, rows: Rows, *, at_most: bool = False, together: int = 1, sampled: int = 0
) -> Stage:
    read = scaled(rows, how.epochs)
    if how.max_steps and read.count > (most := how.max_steps * how.rows_a_step):
        read = scaled(read, most / read.count)
    return Stage(
        name=name,
        how=how,
        rows=read.count,
        too_long=rows.too_long,
        steps=how.steps_for(read.count),
        tokens=read.tokens,
        learnt=read.learnt,
        longest=rows.longest,
        together=together,
        at_most=at_most,
        exact=read.exact,
        sampled=sampled,
    )


def _rows(triples: Sequence[Triple], reading: Reading) -> Rows:
    return rows_of(triples, reading.measure, reading.limit, seed=reading.seed)


def _random(reading: Reading, count: int, *, seed: int, shortest: int = 2) -> Rows:
    """Rows of random tokens: their lengths come from the seed alone, whatever the vocabulary is."""
    if not count:
        return Rows()
    if reading.encoder is None:
        return Rows(count, tokens=2 * LONGEST * count, learnt=LONGEST * count, exact=False)
    rows = random_copies(reading.encoder, 0, [0], count=count, seed=seed, shortest=shortest)
    lengths = (Length(row.prompt_length, len(row.ids) - row.prompt_length) for row in rows)
    return add_up(lengths, reading.limit)
