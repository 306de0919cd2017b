"""The nouns of a build, as frozen values: what is asked, what is paid for, and what became of each row."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import orjson

from aligner.records import Message, Question, SamplingParams

Stage = Literal["questions", "answers", "corrections", "verdicts"]
"""stages that keep rows, in their order; `export` writes what the last one left"""
Split = Literal["train", "validation", "test"]
Choice = Literal["keep", "edit"]
Way = Literal["live", "batch", "files", "human", "given", "aligner"]
"""how a reply comes: asked at once, by a Batch API, by files for an offline engine, from a person, with the source, or
from a first Aligner in this process"""
Fault = Literal["transient", "refused", "context", "auth", "unusable", "missing", "expired", "cut_off"]
"""why a call failed: may pass; refused for good; longer than the context; the key is not let in; no usable reply;
nothing recorded; its batch expired; the run was broken off while it was asked. `transient`, `expired` and `cut_off`
are asked again by the same command, the others only when that is wanted"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """One question of the build, kept or dropped."""

    id: str
    """`id_of("question", question)`"""
    question: Question
    source: str
    """the name of its source"""
    also: tuple[str, ...] = ()
    """the names of other sources that hold it, too"""
    place: str
    """file:line"""
    licence: str = "unknown"
    cluster: str = ""
    """names the group of near-duplicates that it belongs to"""
    split: Split = "train"


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One call to be paid for, known by a hash of all that its reply depends on."""

    key: str
    """`key_of(...)`"""
    stage: Stage
    model: str
    """the name of the upstream or annotator in the configuration"""
    messages: Sequence[Message]
    sampling: SamplingParams = SamplingParams()
    about: str
    """id of the row that it belongs to: a question's for answers, an answer's for corrections"""
    order: bytes = b""
    """requests are leased in this order: `order_of(seed, about)`, so that the first N are a fair sample"""


class Reply(NamedTuple):
    """What came back, and what it cost."""

    text: str
    finish_reason: str = "stop"
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost: float = 0.0
    """in the currency of the configuration's prices"""
    way: Way = "live"


class Failure(NamedTuple):
    """Why there is no reply."""

    fault: Fault
    said: str
    """one line; never holds a key"""
    cost: float = 0.0
    """of a reply that was paid for and could not be used"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """An upstream's answer to a question."""

    id: str
    """`id_of("answer", question id, upstream, sample)`"""
    question: str
    """id of the question"""
    upstream: str
    sample: int
    key: str
    """of the call"""
    text: str
    finish_reason: str = "stop"
    place: str = ""
    """file:line of an answer that came with a source, whose name is then the upstream's"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Annotated:
    """An annotator's verdict on an answer, and the correction; `keep` has the answer itself as its text."""

    id: str
    """`id_of("correction", answer id, annotator)`"""
    answer: str
    """id of the answer"""
    annotator: str
    key: str
    """of the call that was understood"""
    choice: Choice
    text: str
    reasons: tuple[str, ...] = ()
    second: bool = False
    """made to measure agreement; not exported"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """A triple that passed all filters, in the words that are exported: personal data are replaced in all three."""

    id: str
    """of the correction"""
    question: Question
    answer: str
    correction: str
    kind: Literal["identity", "edit"]
    cluster: str
    split: Split
    facts: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """source, licence, upstream, annotator, place, reasons, edit_share, ... as JSON holds them"""


class Dropped(NamedTuple):
    """A row that went no further, and why."""

    stage: Stage
    id: str
    reason: str
    """a short name that is counted: too_short, duplicate, overlap, meta_text, length_ratio, ..."""
    detail: str = ""
    source: str = ""
    """of a row of a source"""
    place: str = ""
    """its file and line"""


class Step(NamedTuple):
    """One step of the funnel: `came` = `left` + the sum of `dropped`."""

    name: str
    came: int
    left: int
    dropped: Mapping[str, int]


def key_of(model: str, messages: Sequence[Message], sampling: SamplingParams, template: str, sample: int) -> str:
    """The key of a call: equal for equal parts, whatever the process; `template` is a prompt's name and version."""
    turns = [[message.role, message.content] for message in messages]
    return _hash([model, turns, sampling, template, sample])


def id_of(kind: str, *parts: object) -> str:
    """The id of a row: equal for equal parts, whatever the process."""
    return _hash([kind, *parts])[:24]


def order_of(seed: int, about: str) -> bytes:
    """A place in a random order that depends on nothing but the seed and the row."""
    return hashlib.sha256(f"{seed} {about}".encode()).digest()[:8]


def chance(seed: int, about: str) -> float:
    """A number from 0 to below 1 that depends on nothing but the seed and what it is about."""
    return int.from_bytes(order_of(seed, about), "big") / 2**64


def _hash(parts: Sequence[object]) -> str:
    options = orjson.OPT_SORT_KEYS | orjson.OPT_SERIALIZE_DATACLASS
    return hashlib.sha256(orjson.dumps(parts, option=options)).hexdigest()
