"""What people said of corrections, as rows that train; every row says who said it, of which Aligner, and where."""

import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from typing import NamedTuple

from aligner.data.fields import row_of, triple_of
from aligner.data.readers import NoTriple, ultrafeedback
from aligner.errors import MisuseError
from aligner.files import RowError
from aligner.records import Message, Question, Triple, as_messages, as_question
from aligner.serving.database import Place
from aligner.serving.logged import Feedback, Logged, settled
from aligner.serving.store import Store

Row = dict[str, object]
_TOLD = re.compile(r"\+[0-9a-f]{8}$")
"""how the fingerprint of an Aligner ends that was told something (`serving.engine`)"""


class LeftOut(NamedTuple):
    """A correction that gives no row, and why."""

    reason: str


class Judged(NamedTuple):
    """A correction, and the word on it that counts; none where nobody judged it."""

    logged: Logged
    said: Feedback | None
    reviewers: tuple[str, ...]
    """those who said the same"""


Make = Callable[[Judged], Row | LeftOut]


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Which corrections give rows, and whose word counts; raises MisuseError for numbers below their least."""

    verdicts: Collection[str] = ()
    """all where there are none"""
    unjudged: bool = False
    """also what nobody has judged, as if it had been accepted"""
    reviewers: Collection[str] = ()
    """whose word counts; everybody's where there are none"""
    votes: int = 1
    """reviewers who have to agree"""
    most_per_reviewer: int = 0
    """rows of one reviewer; 0 sets no limit"""
    told: bool = False
    """also what an Aligner wrote that was told something, which no row says"""

    def __post_init__(self) -> None:
        if self.votes < 1 or self.most_per_reviewer < 0:
            raise MisuseError("--votes begins at 1, and --most-per-reviewer at 0")


@dataclass(slots=True)
class Lessons:
    """Makes rows of corrections, and counts those that give none.

    Whoever holds a key may sign with any user's name, so what guards against a flood counts keys, and users only where
    no key was asked for.
    """

    wanted: Wanted
    read: int = 0
    without: Counter[str] = field(default_factory=Counter[str])
    """corrections that gave no row, by reason"""
    _given: Counter[str] = field(default_factory=Counter[str])
    """rows by reviewer"""

    def rows(self, corrections: Iterable[Logged], make: Make) -> Iterator[Row]:
        """The rows of the corrections, in their order."""
        for logged in corrections:
            self.read += 1
            made = self._made(logged, make)
            if isinstance(made, LeftOut):
                self.without[made.reason] += 1
            else:
                yield made

    def summary(self, kind: str) -> str:
        """How many were read, and how many gave no row for which reason."""
        total = sum(self.without.values())
        reasons = "; ".join(f"{count:,} {reason}" for reason, count in self.without.most_common())
        counts = f"{self.read:,} corrections read, {self.read - total:,} {kind} written, {total:,} left out"
        return counts + (f" ({reasons})" if reasons else "")

    def _made(self, logged: Logged, make: Make) -> Row | LeftOut:
        found = judged(logged, self.wanted)
        made = found if isinstance(found, LeftOut) else make(found)
        if isinstance(found, LeftOut) or isinstance(made, LeftOut) or found.said is None:
            return made
        name, most = holder_of(found.said), self.wanted.most_per_reviewer
        if most and self._given[name] >= most:
            return LeftOut(f"beyond {most:,} of one reviewer")
        self._given[name] += 1
        return made


def judged(logged: Logged, wanted: Wanted) -> Judged | LeftOut:
    """The word on a correction that counts, or why there is none."""
    if reason := _unusable(logged, wanted):
        return LeftOut(reason)
    if not logged.feedback:
        return _unjudged(logged, wanted)
    words = [said for said in logged.feedback if not wanted.reviewers or holder_of(said) in wanted.reviewers]
    words = list({holder_of(said): said for said in words}.values())  # the last one of each
    said = settled(words)
    if said is None:
        return LeftOut("on which reviewers disagree" if words else "judged only by others than the reviewers asked for")
    if wanted.verdicts and said.verdict not in wanted.verdicts:
        return LeftOut(f"with the feedback {said.verdict}")
    agreeing = tuple(sorted({holder_of(word) for word in words if _agree(word, said)}))
    if len(agreeing) < wanted.votes:
        return LeftOut(f"on which fewer than {wanted.votes} reviewers agree")
    return Judged(logged, said, agreeing)


def _unusable(logged: Logged, wanted: Wanted) -> str:
    """Why nobody's word would make a row of it, "" where one would."""
    if logged.content != "full":
        return f"stored without content (log_content {logged.content})"
    told = _TOLD.search(logged.aligner) and not wanted.told
    return "whose Aligner was told something, which --told takes in" if told else ""


def triple(found: Judged) -> Row | LeftOut:
    """The row that teaches to give the better reply: where that is the answer, the row teaches to copy."""
    logged, said = found.logged, found.said
    corrector, upstream = logged.aligner, f"{logged.upstream}:{logged.model}"
    match said and said.verdict:
        case None | "accept":
            better, source = logged.correction, corrector
        case "reject":
            better, source = logged.answer, upstream
        case "edit":
            if said is None or said.text is None:
                return LeftOut("edited, but without the text")
            better, source = said.text, f"human:{said.user or said.reviewer}" if said.user or said.reviewer else "human"
        case "both_bad":
            return LeftOut("both bad")
    sources = (f"log:{logged.id}", upstream, source)
    row = row_of(Triple(_question(logged), logged.answer, better, sources, _plain(logged.conversation)))
    try:
        triple_of(row)
    except RowError as error:
        return LeftOut(str(error))
    return {**row, **_origin(found)}


def preference(found: Judged) -> Row | LeftOut:
    """What people preferred to the correction, as TRL takes it, two conversations: the answer, or what they wrote."""
    logged, said = found.logged, found.said
    if said is None or said.verdict not in ("reject", "edit"):
        return LeftOut(f"with the feedback {said.verdict}, which prefers nothing" if said else "without feedback")
    better = logged.answer if said.verdict == "reject" else said.text
    if better is None:
        return LeftOut("edited, but without the text")
    turns = as_messages(_question(logged))
    row: Row = {
        name: [{"role": turn.role, "content": turn.content} for turn in (*turns, Message("assistant", reply))]
        for name, reply in (("chosen", better), ("rejected", logged.correction))
    }
    try:
        reading = ultrafeedback(row)
    except RowError as error:
        return LeftOut(str(error))
    return LeftOut(reading.reason) if isinstance(reading, NoTriple) else {**row, **_origin(found)}


MAKERS: Mapping[str, Make] = {"triples": triple, "preferences": preference}
"""how each kind of row is made"""


def triples_in(places: Iterable[Place], wanted: Wanted, tell: Callable[[str], object]) -> Iterator[Row]:
    """The triples of several logs, and in the end a summary."""
    lessons = Lessons(wanted)
    for place in places:
        with closing(Store(place, writable=False)) as store:
            yield from lessons.rows(store.rows(), triple)
    tell(lessons.summary("triples"))


def holder_of(said: Feedback) -> str:
    """Whose key it was; where none was asked for, who he says he is."""
    return said.reviewer or said.user or ""


def _unjudged(logged: Logged, wanted: Wanted) -> Judged | LeftOut:
    if not wanted.unjudged:
        return LeftOut("without feedback")
    if not _is_the_aligners(logged):
        return LeftOut("without feedback, and not corrected or not sent")
    return Judged(logged, None, ())


def _is_the_aligners(logged: Logged) -> bool:
    """Whether what was sent is what the Aligner decided, and not the original for want of a decision."""
    kept = logged.kept_reason not in (None, "gate")  # by a guard, against the Aligner
    return logged.outcome == "sent" and logged.mode != "off" and not (logged.skipped or logged.bypass or kept)


def _agree(one: Feedback, other: Feedback) -> bool:
    """Whether both say the same; of edits it is the text that trains, so that must be the same, too."""
    return (one.verdict, one.text) == (other.verdict, other.text)


def _origin(found: Judged) -> Row:
    """By whom, when and of which Aligner a row was judged; readers of triples and of pairs pass it over."""
    logged, said = found.logged, found.said
    return {
        "conversation": _plain(logged.conversation),
        "aligner": logged.aligner,
        "verdict": said.verdict if said else None,
        "judged": said.created if said else None,
        "reviewers": [_plain(name) for name in found.reviewers],
        "user": _plain(said.user) if said and said.user else None,
    }


def _question(logged: Logged) -> Question:
    return as_question(logged.messages) if logged.messages else logged.question


def _plain(text: str) -> str:
    """A name that any file can hold."""
    return text.encode(errors="replace").decode()
