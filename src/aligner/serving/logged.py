"""What the correction log holds: one answer and what became of it, with as much of its content as may be kept."""

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

from aligner.records import Message

Content = Literal["off", "hash", "full"]
Outcome = Literal["sent", "cancelled", "failed"]
Verdict = Literal["accept", "reject", "edit", "both_bad"]
State = Literal["open", "once", "settled", "disputed"]
"""by the last word of each reviewer: nobody's, one reviewer's, of several who agree, of several who do not"""
Reviewer = tuple[str | None, str | None]
"""the name of a key, and the name that was given with the feedback"""


class Lengths(NamedTuple):
    """How long the texts of a row are, in characters."""

    question: int
    answer: int
    correction: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Feedback:
    """What somebody thinks of a correction."""

    id: str
    """the correction's"""
    verdict: Verdict
    text: str | None = None
    """for `edit`: what the correction should have been"""
    tags: tuple[str, ...] = ()
    """labels, which are kept even where content is not"""
    comment: str | None = None
    user: str | None = None
    """whose it is, as the client says"""
    reviewer: str | None = None
    """whose key it came with"""
    batch: str = ""
    """names the action that it was part of, which can be undone as a whole; empty where none can"""
    created: float
    """seconds since 1970"""


_UNCOUNTED = Lengths(-1, -1, -1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Logged:
    """One answer and what became of it."""

    id: str
    """a uuid7"""
    created: float
    """seconds since 1970"""
    conversation: str
    key_hash: str
    route: str
    mode: str
    upstream: str
    model: str
    aligner: str
    messages: tuple[Message, ...] | None
    question: str
    answer: str
    correction: str
    changed: bool
    edit_share: float
    confidence: float | None
    skipped: str | None
    bypass: str | None
    kept_reason: str | None
    outcome: Outcome
    seconds: Mapping[str, float]
    usage: Mapping[str, int]
    content: Content = "full"
    """what stands for the texts: themselves, their hashes, or nothing"""
    lengths: Lengths = _UNCOUNTED
    """of the texts as they were; counted when none are given"""
    feedback: tuple[Feedback, ...] = ()
    """of a row from the log, the oldest first"""

    def __post_init__(self) -> None:
        if self.lengths == _UNCOUNTED:
            counted = Lengths(len(self.question), len(self.answer), len(self.correction))
            object.__setattr__(self, "lengths", counted)

    @property
    def size(self) -> int:
        """Characters of the texts as they are kept."""
        texts = (self.question, self.answer, self.correction, *(turn.content for turn in self.messages or ()))
        return sum(map(len, texts))


def hash_of(text: str) -> str:
    """What stands for a text that must not be kept: equal texts have equal hashes."""
    return f"sha256:{hashlib.sha256(text.encode(errors='surrogatepass')).hexdigest()}"


_CONCEAL: Mapping[Content, Callable[[str], str]] = {"hash": hash_of, "off": lambda _: ""}


def reduced(row: Logged, content: Content) -> Logged:
    """The row with the content that may be kept; lengths and figures stay."""
    if content == "full":
        return row
    conceal = _CONCEAL[content]
    turns = row.messages if content == "hash" else None
    return replace(
        row,
        content=content,
        messages=turns and tuple(Message(turn.role, conceal(turn.content)) for turn in turns),
        question=conceal(row.question),
        answer=conceal(row.answer),
        correction=conceal(row.correction),
    )


def reduced_feedback(feedback: Feedback, content: Content) -> Feedback:
    """The feedback with the content that may be kept; verdict, tags and user stay."""
    if content == "full":
        return feedback
    texts = (feedback.text, feedback.comment)
    text, comment = (None if content == "off" or text is None else hash_of(text) for text in texts)
    return replace(feedback, text=text, comment=comment)


def last_words(feedback: Iterable[Feedback]) -> Mapping[Reviewer, Feedback]:
    """What each reviewer said last, of feedback whose oldest comes first."""
    return {(said.reviewer, said.user): said for said in feedback}


def state_of(feedback: Iterable[Feedback]) -> State:
    """How far the review of a correction has come."""
    verdicts = [said.verdict for said in last_words(feedback).values()]
    if len(verdicts) < 2:
        return "once" if verdicts else "open"
    return "settled" if len(set(verdicts)) == 1 else "disputed"


def settled(feedback: Iterable[Feedback]) -> Feedback | None:
    """What counts of all that was said: the newest with the verdict that most reviewers gave last; None for a tie.

    Of edits it is the newest with the text that most of them gave.
    """
    said = list(last_words(feedback).values())
    ranked = Counter(one.verdict for one in said).most_common(2)
    if not ranked or (len(ranked) == 2 and ranked[0][1] == ranked[1][1]):
        return None
    of_most = [one for one in said if one.verdict == ranked[0][0]]
    texts = Counter(one.text for one in of_most)
    return max(of_most, key=lambda one: (texts[one.text], one.created))
