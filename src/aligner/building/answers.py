"""The stage of the answers: who is asked what, and what becomes of the replies."""

from collections.abc import Collection, Iterator
from typing import NamedTuple

from aligner.building.ledger import Ledger
from aligner.building.nouns import Answered, Asked, Dropped, Failure, Reply, Request, chance, id_of, key_of, order_of
from aligner.building.questions import windows
from aligner.building.sources import named
from aligner.building.store import Store
from aligner.config import BuildConfig, BuildUpstream
from aligner.records import SamplingParams, as_messages

TEMPLATE = "plain-1"
"""the question as it stands, without any words of ours"""
OPEN = frozenset({"transient", "expired", "cut_off"})
"""faults that the same command asks again about"""
_WINDOW = 1000


class Asking(NamedTuple):
    """One answer that is wanted."""

    id: str
    """of the answer"""
    asked: Asked
    upstream: BuildUpstream
    sample: int
    key: str


def wanted(config: BuildConfig, asked: Asked) -> Iterator[Asking]:
    """The answers that are wanted to a question: none where its sources give them."""
    if not is_asked(config, asked):
        return
    for upstream in drawn(config, asked.id):
        for sample in range(upstream.samples):
            sampling = sampling_of(config, upstream, sample)
            key = key_of(upstream.name, as_messages(asked.question), sampling, TEMPLATE, sample)
            yield Asking(id_of("answer", asked.id, upstream.name, sample), asked, upstream, sample, key)


def is_asked(config: BuildConfig, asked: Asked) -> bool:
    """Whether upstreams answer a question: where any of the sources that hold it takes questions alone."""
    sources = named(config.sources)
    return any(sources[name].takes == "questions" for name in (asked.source, *asked.also))


def count_wanted(config: BuildConfig, store: Store) -> int:
    """How many answers are wanted of all upstreams together."""
    asked = (one for one in store.questions() if is_asked(config, one))
    return sum(upstream.samples for one in asked for upstream in drawn(config, one.id))


def drawn(config: BuildConfig, question: str) -> list[BuildUpstream]:
    """The upstreams that answer a question, in the order of the file.

    Of those whose share has it all, or so many of them as are wanted, drawn by the seed.
    """
    count = config.answers_per_question
    able = [one for one in config.upstreams if chance(config.seed, f"{question} share {one.name}") < one.share]
    if not 0 < count < len(able):
        return able
    ranked = sorted(able, key=lambda upstream: order_of(config.seed, f"{question} {upstream.name}"))
    chosen = {upstream.name for upstream in ranked[:count]}
    return [upstream for upstream in able if upstream.name in chosen]


def sampling_of(config: BuildConfig, upstream: BuildUpstream, sample: int) -> SamplingParams:
    """How an upstream is sampled; a seed is sent only where there is chance, or several samples to tell apart."""
    random = upstream.temperature > 0 or sample > 0
    return SamplingParams(
        temperature=upstream.temperature,
        top_p=upstream.top_p,
        top_k=upstream.top_k,
        max_tokens=upstream.max_tokens,
        seed=config.seed + sample if random else None,
    )


def requests(config: BuildConfig, store: Store, only: Collection[str] | None = None) -> Iterator[Request]:
    """The calls for all answers, or for those to some questions."""
    for asking in _askings(config, store, only):
        yield Request(
            key=asking.key,
            stage="answers",
            model=asking.upstream.name,
            messages=as_messages(asking.asked.question),
            sampling=sampling_of(config, asking.upstream, asking.sample),
            about=asking.asked.id,
            order=order_of(config.seed, asking.asked.id),
        )


def collect(config: BuildConfig, store: Store, ledger: Ledger, only: Collection[str] | None = None) -> None:
    """Bring replies into the store: answers, and why others are dropped; what may still come is left open."""
    for window in windows(_askings(config, store, only), _WINDOW):
        found = [(asking, ledger.reply(asking.key)) for asking in window]
        answered = [_answered(asking, reply) for asking, reply in found if reply]
        store.add_answers(answered)
        store.drop(dropped for row in answered if (dropped := _unusable(row)))
        silent = ((asking, ledger.failure(asking.key)) for asking, reply in found if reply is None)
        store.drop(failed(asking.id, failure) for asking, failure in silent if failure and failure.fault not in OPEN)


def failed(row: str, failure: Failure) -> Dropped:
    """An answer that was refused for good."""
    return Dropped("answers", row, failure.fault, failure.said)


def _answered(asking: Asking, reply: Reply) -> Answered:
    return Answered(
        id=asking.id,
        question=asking.asked.id,
        upstream=asking.upstream.name,
        sample=asking.sample,
        key=asking.key,
        text=reply.text,
        finish_reason=reply.finish_reason,
    )


def _unusable(row: Answered) -> Dropped | None:
    """An answer that nobody should correct: what it lacks is not for a corrector to add."""
    if not row.text.strip():
        return Dropped("answers", row.id, "empty", f"finish reason {row.finish_reason}")
    if row.finish_reason != "stop":
        return Dropped("answers", row.id, "truncated", f"finish reason {row.finish_reason}")
    return None


def _askings(config: BuildConfig, store: Store, only: Collection[str] | None) -> Iterator[Asking]:
    chosen = store.questions() if only is None else map(store.question, sorted(only))
    return (asking for asked in chosen for asking in wanted(config, asked))
