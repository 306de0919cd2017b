"""The stage of the corrections: who corrects which answer, what they are asked, and what they said."""

from collections.abc import Collection, Iterator, Mapping
from itertools import groupby
from typing import NamedTuple

from aligner.building import annotating
from aligner.building.annotating import Unread
from aligner.building.answers import OPEN
from aligner.building.ledger import Ledger
from aligner.building.nouns import (
    Annotated,
    Answered,
    Asked,
    Choice,
    Dropped,
    Failure,
    Request,
    chance,
    id_of,
    key_of,
    order_of,
)
from aligner.building.principles import Principles, load
from aligner.building.questions import windows
from aligner.building.sources import named
from aligner.building.store import Store
from aligner.config import BuildAnnotator, BuildConfig
from aligner.records import Message, SamplingParams, as_messages

_WINDOW = 1000
_PEOPLE = "people-1"
_CORRECTED = """
DELETE FROM dropped WHERE stage = 'corrections' AND id = ?1
AND EXISTS (SELECT 1 FROM annotated WHERE answer = ?1 AND second = 0)
"""


class Task(NamedTuple):
    """An answer that somebody corrects."""

    annotator: BuildAnnotator
    asked: Asked
    answered: Answered
    second: bool

    @property
    def id(self) -> str:
        """Of the correction."""
        return id_of("correction", self.answered.id, self.annotator.name)


class Correct(NamedTuple):
    """A correction that was understood, and the call that it came from."""

    key: str
    choice: Choice
    text: str
    reasons: tuple[str, ...]


Outcome = Request | Correct | Failure | Unread
"""what is to be asked next; or the correction; or why there is none: the last reply could not be read either"""


def annotators_of(config: BuildConfig, question: str, answer: str) -> list[BuildAnnotator]:
    """Who corrects an answer, and perhaps who corrects it besides; drawn by seed, question and text.

    Equal answers to a question go to the same annotators, so that they are paid for once. Nobody, where the shares
    leave something over.
    """
    pair = id_of("pair", question, answer)
    place = next((place for place, one in enumerate(config.annotators) if _takes(config, one, pair)), None)
    if place is None:
        return []
    first, *others = [*config.annotators[place:], *config.annotators[:place]]
    return [first, *others[:1]] if chance(config.seed, f"{pair} twice") < config.twice else [first]


def prompt_of(annotator: BuildAnnotator) -> str:
    """The prompt; people and first Aligners reply in the form of ours, whatever they see."""
    return "ours" if annotator.model.startswith(("human:", "aligner:")) else annotator.prompt


def asks_of(annotator: BuildAnnotator) -> int:
    """How often it is asked at the most; people once, as their page lets nothing through that cannot be read."""
    return 1 if is_human(annotator) else annotator.asks


def sampling_of(annotator: BuildAnnotator) -> SamplingParams:
    """How an annotator is sampled."""
    return SamplingParams(
        temperature=annotator.temperature,
        top_p=annotator.top_p,
        top_k=annotator.top_k,
        max_tokens=annotator.max_tokens,
    )


def requests(
    config: BuildConfig, store: Store, ledger: Ledger, only: Collection[str] | None = None
) -> Iterator[Request]:
    """The calls that are to be made now: the first one for an answer, or the next one where a reply said nothing."""
    principles = load(config.principles)
    for task in tasks(config, store, only):
        outcome = outcome_of(config, task, ledger, principles)
        if isinstance(outcome, Request):
            yield outcome


def collect(config: BuildConfig, store: Store, ledger: Ledger, only: Collection[str] | None = None) -> None:
    """Bring replies into the store: corrections, and why answers have none; what may still come is left open.

    Why answers have none is found anew each time, as one more ask may have brought a correction.
    """
    principles = load(config.principles)
    for window in windows(tasks(config, store, only), _WINDOW):
        found = [(task, outcome_of(config, task, ledger, principles)) for task in window]
        firsts = [(task.answered.id,) for task in window if not task.second]
        with store.writing() as db:
            db.executemany("DELETE FROM dropped WHERE stage = 'corrections' AND id = ?", firsts)
            store.add_annotated(_annotated(task, outcome) for task, outcome in found if isinstance(outcome, Correct))
            store.drop(dropped for task, outcome in found if (dropped := _dropped(task, outcome)))
            # With fewer asks than before, what was understood by a later one stays.
            db.executemany(_CORRECTED, firsts)
    store.drop(_unassigned(config, store, only))


def outcome_of(config: BuildConfig, task: Task, ledger: Ledger, principles: Principles) -> Outcome:
    """How far an annotator is with an answer; a reply that says nothing is asked about again, some times."""
    said: Unread | None = None
    ask = 0
    while said is None or ask < asks_of(task.annotator):
        request = _request(config, task, principles, said, ask)
        reply = ledger.reply(request.key)
        if reply is None:
            return ledger.failure(request.key) or request
        found = annotating.read(prompt_of(task.annotator), task.answered.text, reply)
        if not isinstance(found, Unread):
            return Correct(request.key, found.choice, found.text, found.reasons)
        said, ask = found, ask + 1
    return said


def tasks(config: BuildConfig, store: Store, only: Collection[str] | None = None) -> Iterator[Task]:
    """All answers with those who correct them, but for answers whose corrections were given."""
    for asked, answered in _pairs(config, store, only):
        for place, annotator in enumerate(annotators_of(config, asked.id, answered.text)):
            yield Task(annotator, asked, answered, second=place > 0)


def templates(config: BuildConfig) -> Mapping[str, str]:
    """What stands for all that each annotator is told, in the keys of its calls."""
    principles = load(config.principles)
    return {one.name: template_of(one, principles) for one in config.annotators}


def template_of(annotator: BuildAnnotator, principles: Principles) -> str:
    """What stands for all that an annotator is told; people never read the prompt, so nothing of it."""
    return _PEOPLE if is_human(annotator) else annotating.template_of(prompt_of(annotator), principles)


def is_human(annotator: BuildAnnotator) -> bool:
    """Whether people correct."""
    return annotator.model.startswith("human:")


def _request(config: BuildConfig, task: Task, principles: Principles, before: Unread | None, ask: int) -> Request:
    prompt, annotator = prompt_of(task.annotator), task.annotator
    question, answer = task.asked.question, task.answered.text
    # What people are asked is on their page, and must not change with the words that models are asked with.
    messages = (
        (*as_messages(question), Message("assistant", answer))
        if is_human(annotator)
        else annotating.request_messages(prompt, question, answer, principles, before=before)
    )
    sampling = sampling_of(annotator)
    template = template_of(annotator, principles)
    return Request(
        key=key_of(annotator.name, messages, sampling, template, ask),
        stage="corrections",
        model=annotator.name,
        messages=messages,
        sampling=sampling,
        about=task.answered.id,
        order=order_of(config.seed, task.asked.id),
    )


def _pairs(config: BuildConfig, store: Store, only: Collection[str] | None) -> Iterator[tuple[Asked, Answered]]:
    """Kept questions with their kept answers that are to be corrected."""
    sources = named(config.sources)
    given = {name for name, source in sources.items() if source.takes == "triples"}
    for question, answers in groupby(store.answers(), key=lambda answer: answer.question):
        if only is None or question in only:
            asked = store.question(question)
            yield from ((asked, answer) for answer in answers if answer.upstream not in given)


def _annotated(task: Task, found: Correct) -> Annotated:
    return Annotated(
        id=task.id,
        answer=task.answered.id,
        annotator=task.annotator.name,
        key=found.key,
        choice=found.choice,
        text=found.text,
        reasons=found.reasons,
        second=task.second,
    )


def _dropped(task: Task, outcome: Outcome) -> Dropped | None:
    """Why an answer has no correction; a second one may fail without harm."""
    if task.second:
        return None
    if isinstance(outcome, Unread):
        return Dropped("corrections", task.answered.id, "unreadable", outcome.why)
    if isinstance(outcome, Failure) and outcome.fault not in OPEN:
        return Dropped("corrections", task.answered.id, outcome.fault, outcome.said)
    return None


def _unassigned(config: BuildConfig, store: Store, only: Collection[str] | None) -> Iterator[Dropped]:
    if any(one.share >= 1 for one in config.annotators):
        return
    for asked, answered in _pairs(config, store, only):
        if not annotators_of(config, asked.id, answered.text):
            yield Dropped("corrections", answered.id, "no_annotator", "the shares of the annotators leave it over")


def _takes(config: BuildConfig, annotator: BuildAnnotator, pair: str) -> bool:
    return chance(config.seed, f"{pair} {annotator.name}") < annotator.share
