"""The stage of the verdicts: which corrections become triples, after all filters and perhaps a judge."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from itertools import groupby
from typing import Any, NamedTuple

import orjson

from aligner.building import reviewing
from aligner.building.against import OVERLAP, labelled, sets_of
from aligner.building.answers import OPEN
from aligner.building.ledger import Ledger
from aligner.building.nouns import (
    Annotated,
    Answered,
    Asked,
    Checked,
    Dropped,
    Failure,
    Reply,
    Request,
    chance,
    id_of,
    key_of,
    order_of,
)
from aligner.building.questions import Why, check_overlap, windows
from aligner.building.rows import ANNOTATED, annotated_of
from aligner.building.sources import licences_of, named
from aligner.building.store import Store
from aligner.config import BuildConfig
from aligner.data import personal
from aligner.data.filters import Look, about_tokens, first, triple_filters
from aligner.data.overlapping import Index
from aligner.records import Message, Question, SamplingParams, as_messages

JUDGE = "judge"
"""what the judge is called in the ledger"""
Count = Callable[[Question, str, str], int]
"""how many tokens an Aligner reads and writes for a question, an answer and a correction"""
_WINDOW = 1000
_TEMPLATE = "verdict-1"


class Candidate(NamedTuple):
    """A correction with all that it belongs to."""

    asked: Asked
    answered: Answered
    annotated: Annotated


Examine = Callable[[Candidate], Why | None]
Filter = Callable[[Look], str | None]


def requests(config: BuildConfig, store: Store, count_tokens: Count | None) -> Iterator[Request]:
    """What the judge is to look at: its share of the changed answers that pass all filters.

    What waited for another judge, or passes the filters no more, is not to be asked.
    """
    with store.writing() as db:
        db.execute("DELETE FROM requests WHERE stage = 'verdicts' AND state = 'todo'")
    for candidate, why in _examined(config, store, count_tokens):
        if why is None and is_judged(config, candidate):
            yield _request(config, candidate)


def collect(config: BuildConfig, store: Store, ledger: Ledger, count_tokens: Count | None) -> None:
    """Decide on all corrections that are there, anew: triples, or drops with their reason.

    What the judge has not come to stays open, and so does what is left where this is cut short. Raises OverlapError
    where more of them than may overlap with evaluation sets.
    """
    with store.writing() as db:
        db.execute("DELETE FROM checked")
        db.execute("DELETE FROM dropped WHERE stage = 'verdicts'")
    for window in windows(_examined(config, store, count_tokens), _WINDOW):
        decided = [_decided(config, ledger, candidate, why) for candidate, why in window]
        store.drop(row for row in decided if isinstance(row, Dropped))
        store.add_checked(row for row in decided if isinstance(row, Checked))
    check_overlap(config, store, "verdicts", store.kept("annotated"))


def waiting_lines(store: Store) -> list[str]:
    """What to say of corrections on which nothing was decided yet; empty where all are decided."""
    left = store.kept("annotated") - store.counts("checked") - sum(store.drop_reasons("verdicts").values())
    if left <= 0:
        return []
    sql = "SELECT said FROM failures JOIN requests USING (key) WHERE stage = 'verdicts' ORDER BY key LIMIT 1"
    said = store.connection.execute(sql).fetchone()
    why = f" (the judge: {said[0]})" if said else ""
    return [f"{left:,} corrections have no verdict yet{why}; no data set is written: run the same command again"]


def is_judged(config: BuildConfig, candidate: Candidate) -> bool:
    """Whether the judge sees it: his share of what was changed, drawn by the seed."""
    if not config.judge or candidate.annotated.choice == "keep":
        return False
    return chance(config.seed, f"judged {candidate.annotated.id}") < config.judged


def token_counter(tokenizer: str, template: str) -> Count | None:
    """What counts the tokens of prompt and correction; none without a tokenizer, which is counted by the rule of thumb.

    Raises MisuseError for a tokenizer that cannot be loaded, or lacks what the template needs.
    """
    if not tokenizer:
        return None
    from transformers import AutoTokenizer

    from aligner.errors import MisuseError
    from aligner.templates import PromptEncoder, template_named

    try:
        loaded: Any = AutoTokenizer
        encoder = PromptEncoder(template_named(template), loaded.from_pretrained(tokenizer))
    except (OSError, ValueError) as error:
        if isinstance(error, MisuseError):
            raise
        line = str(error).partition("\n")[0]
        raise MisuseError(f'filters.tokenizer: "{tokenizer}" cannot be loaded: {line}') from error
    return partial(_tokens, encoder)


def _tokens(encoder: Any, question: Question, answer: str, correction: str) -> int:
    # One more for the token that ends the correction.
    return len(encoder.prompt_ids(question, answer)) + len(encoder.text_ids(correction)) + 1


def _examined(config: BuildConfig, store: Store, count_tokens: Count | None) -> Iterator[tuple[Candidate, Why | None]]:
    examine = _examiner(config, store, count_tokens)
    for _, group in groupby(_candidates(store), key=lambda found: found.asked.id):
        yield from _without_repeats(list(group), examine)


def _candidates(store: Store) -> Iterator[Candidate]:
    """Kept first corrections, by question."""
    for question, answers in groupby(store.answers(), key=lambda answer: answer.question):
        asked = store.question(question)
        for answer in answers:
            yield from (Candidate(asked, answer, row) for row in _firsts(store, answer.id))


def _firsts(store: Store, answer: str) -> Iterator[Annotated]:
    """The corrections of an answer, but for those that were made to measure agreement."""
    sql = f"SELECT {ANNOTATED} FROM annotated WHERE answer = ? AND second = 0"  # noqa: S608  # columns of ours
    return map(annotated_of, store.paged(sql, "id", lambda row: row[:1], (answer,)))


def _without_repeats(found: Sequence[Candidate], examine: Examine) -> Iterator[tuple[Candidate, Why | None]]:
    """Upstreams may say the same: of equal answers to a question with equal corrections one is kept.

    Whichever came first: the one with the least id.
    """
    met = dict[tuple[str, str], str]()
    for candidate in sorted(found, key=lambda one: one.annotated.id):
        pair = candidate.answered.text, candidate.annotated.text
        first_one = met.setdefault(pair, candidate.annotated.id)
        repeats = first_one != candidate.annotated.id
        yield candidate, Why("duplicate", f"of {first_one}") if repeats else examine(candidate)


def _examiner(config: BuildConfig, store: Store, count_tokens: Count | None) -> Examine:
    refused = frozenset(reviewing.refused(store))
    filters = triple_filters(config.filters, count_tokens or about_tokens)
    of_given = filters if config.filters.ratio_of_given else _without(filters, "length_ratio")
    sets = sets_of(config.against)
    index = Index(labelled(sets), config.filters.overlap_words) if sets else None
    sources = named(config.sources)

    def examine(candidate: Candidate) -> Why | None:
        if candidate.annotated.key in refused:
            return Why("inspected", "an inspector disagrees")
        look = Look(
            question=candidate.asked.question,
            answer=candidate.answered.text,
            correction=candidate.annotated.text,
            finish_reason=candidate.answered.finish_reason,
        )
        if found := first(of_given if candidate.annotated.annotator in sources else filters, look):
            return Why(*found)
        texts = (candidate.annotated.text, candidate.answered.text) if index else ()
        hit = next(filter(None, (index.find(text) for text in texts)), None) if index else None
        return Why(OVERLAP, f"{hit.name}: {hit.text}") if hit else None

    return examine


def _without(filters: Mapping[str, Filter], name: str) -> Mapping[str, Filter]:
    return {known: look for known, look in filters.items() if known != name}


def _decided(config: BuildConfig, ledger: Ledger, candidate: Candidate, why: Why | None) -> Checked | Dropped | None:
    if why is not None:
        return Dropped("verdicts", candidate.annotated.id, *why)
    preference: float | None = None
    if is_judged(config, candidate):
        key = _request(config, candidate).key
        reply, failure = ledger.reply(key), ledger.failure(key)
        if reply is None:
            return _unjudged(candidate, failure)
        preference = float(orjson.loads(reply.text)["preference"])
        # A tie is no reason to keep the answer: the judge saw two texts, and did not mind the correction.
        if preference < 0.5:
            return Dropped(
                "verdicts", candidate.annotated.id, "worse", f"the judge prefers the answer ({preference:g})"
            )
    return _checked(config, candidate, preference)


def _unjudged(candidate: Candidate, failure: Failure | None) -> Dropped | None:
    if failure is None or failure.fault in OPEN:
        return None
    return Dropped("verdicts", candidate.annotated.id, failure.fault, failure.said)


def judged_reply(preference: float, said: str) -> Reply:
    """A verdict as the reply that the ledger keeps."""
    return Reply(orjson.dumps({"preference": preference, "said": said}).decode())


def _request(config: BuildConfig, candidate: Candidate) -> Request:
    """The judge sees the answer and the correction as the last two turns, whatever his own form."""
    messages = (
        *as_messages(candidate.asked.question),
        Message("assistant", candidate.answered.text),
        Message("assistant", candidate.annotated.text),
    )
    name = f"{config.judge} {config.quality}"
    return Request(
        key=key_of(name, messages, SamplingParams(), _TEMPLATE, 0),
        stage="verdicts",
        model=JUDGE,
        messages=messages,
        about=candidate.annotated.id,
        order=order_of(config.seed, candidate.asked.id),
    )


def _checked(config: BuildConfig, candidate: Candidate, preference: float | None) -> Checked:
    asked, answered, annotated = candidate
    question, answer, correction, reasons, replaced = _without_personal(config, candidate)
    facts: Mapping[str, Any] = {
        "source": asked.source,
        "place": asked.place,
        "licence": asked.licence,
        "upstream": answered.upstream,
        "sample": answered.sample,
        "annotator": annotated.annotator,
        "reasons": reasons,
        **(_given(config, answered) if answered.place else {}),
        **({"personal": dict(replaced)} if replaced else {}),
        **({"judged": preference} if preference is not None else {}),
    }
    return Checked(
        id=annotated.id,
        question=question,
        answer=answer,
        correction=correction,
        kind="identity" if answer == correction else "edit",
        cluster=asked.cluster or id_of("cluster", asked.id),
        split=asked.split,
        facts=facts,
    )


def _given(config: BuildConfig, answered: Answered) -> Mapping[str, str]:
    """Where an answer, and perhaps its correction, came from, whatever other source the question is of."""
    licence = licences_of(config.sources).get(answered.upstream, "unknown")
    return {"answer_place": answered.place, "answer_licence": licence}


class _Words(NamedTuple):
    """The words of a triple that are exported."""

    question: Question
    answer: str
    correction: str
    reasons: list[str]
    replaced: Mapping[str, int]


def _without_personal(config: BuildConfig, candidate: Candidate) -> _Words:
    """The texts with stand-ins for personal data, the same in all of them; reasons may quote the others."""
    asked, answered, annotated = candidate
    if config.filters.pii == "keep":
        return _Words(asked.question, answered.text, annotated.text, list(annotated.reasons), {})
    turns = as_messages(asked.question)
    texts = [*(turn.content for turn in turns), answered.text, annotated.text, *annotated.reasons]
    replaced, found = personal.replace(texts)
    contents, (answer, correction, *reasons) = replaced[: len(turns)], replaced[len(turns) :]
    said = tuple(Message(turn.role, content) for turn, content in zip(turns, contents, strict=True))
    return _Words(said[0].content if isinstance(asked.question, str) else said, answer, correction, reasons, found)


def statistics(store: Store) -> Mapping[str, Any]:
    """How many triples hold stand-ins of each kind, how many rows the judge compared, and how many of them are kept."""
    rows = (row.facts for row in store.checked())
    kinds: dict[str, int] = {}
    judged = 0
    for facts in rows:
        judged += "judged" in facts
        for kind in facts.get("personal", ()):
            kinds[kind] = kinds.get(kind, 0) + 1
    compared = judged + store.drop_reasons("verdicts").get("worse", 0)
    return {"personal": dict(sorted(kinds.items())), "compared": compared, "judged": judged}
