"""What the Aligner would have done, in figures: how often, how much, how fast, and where to look first."""

import heapq
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, NamedTuple

import orjson

from aligner.scoring.shares import wilson
from aligner.serving.logged import Feedback, settled
from aligner.serving.shadow.checklist import Check, Counted, checklist
from aligner.serving.shadow.sketch import Sketch
from aligner.serving.shadow.word_diff import Piece, shown

SAMPLES = 10
"""changes that are shown, of each kind"""
MODES = ("shadow", "correct", "gate", "any")
"""that can be reported on; any is all of them"""
BINS = 20
"""of the histogram"""
OTHERS = "others"
_NAMES, _MOST_NAMES = 20, 1000
"""that are told, and that are counted"""
_STAGES = ("upstream", "correct", "queue", "read", "verify", "edit", "overhead")
"""in the order in which they pass"""
_ADDED = ("queue", "read", "verify", "edit")
"""stages that make up what a correction takes, where it is not logged as one"""


class Seen(NamedTuple):
    """What is read of a logged correction: all but its texts."""

    id: str
    created: float
    mode: str
    upstream: str
    model: str
    aligner: str
    content: str
    changed: bool
    edit_share: float
    confidence: float | None
    skipped: str | None
    bypass: str | None
    kept_reason: str | None
    seconds: str
    """JSON, as are the tokens"""
    usage: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """A change to look at."""

    id: str
    created: float
    upstream: str
    model: str
    edit_share: float
    confidence: float | None
    question: str
    pieces: Sequence[Piece]


@dataclass(frozen=True, slots=True)
class Share:
    """A count as a share of another, with its 95 % interval; nothing where there is nothing to count."""

    count: int
    of: int
    share: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True, slots=True)
class Spread:
    """How figures are spread."""

    count: int
    p50: float | None
    p90: float | None
    p99: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """The figures of a report; seconds for times, shares from 0 to 1."""

    mode: str
    answers: int
    first: float | None
    last: float | None
    upstreams: Mapping[str, int]
    """answers by upstream and model"""
    aligners: Mapping[str, int]
    """answers by the Aligner's fingerprint"""
    modes: Mapping[str, int]
    content: Mapping[str, int]
    """answers by what the log keeps of their texts"""
    changed: Share
    edit_share: Spread
    histogram: Sequence[int]
    """changes by edit share, in bins of the same width"""
    seconds: Mapping[str, Spread]
    """by stage; of each request once"""
    added: Spread
    """what a correction takes"""
    skipped: Mapping[str, int]
    bypass: Mapping[str, int]
    kept: Mapping[str, int]
    """answers that stayed although they were read, by reason"""
    tokens: Mapping[str, int]
    verdicts: Mapping[str, int]
    """changes by what reviewers settled on, and those on which they disagree"""
    largest: Sequence[str]
    """ids of the changes to look at first: the largest edits"""
    doubtful: Sequence[str]
    """and changes of answers that the Aligner itself thought likely to be right"""

    @property
    def checks(self) -> Sequence[Check]:
        """What to look at before the Aligner is switched on."""
        return checklist(
            Counted(
                answers=self.answers,
                days=((self.last or 0.0) - (self.first or 0.0)) / 86_400,
                aligners=len(self.aligners),
                changed=self.changed.count,
                large=sum(self.histogram[BINS // 2 :]),
                bypassed=sum(self.bypass.values()),
                guarded=sum(count for reason, count in self.kept.items() if reason != "gate"),
                p90=self.added.p90,
                verdicts=self.verdicts,
            )
        )


@dataclass(frozen=True, slots=True)
class Report:
    """The figures, and the changes to look at first; none where the log keeps no texts."""

    figures: Figures
    largest: Sequence[Sample]
    doubtful: Sequence[Sample]

    @property
    def as_json(self) -> bytes:
        """One object; a piece of a diff is a list of its kind and its text."""
        table = {field.name: getattr(self.figures, field.name) for field in fields(self.figures)}
        told = {**table, "largest": self.largest, "doubtful": self.doubtful, "checks": self.figures.checks}
        return orjson.dumps(told, default=list)


@dataclass(slots=True)
class Tally:
    """Adds up answers one by one; its memory does not grow with their number."""

    mode: str
    answers: int = 0
    first: float | None = None
    last: float | None = None
    changed: int = 0
    upstreams: Counter[str] = field(default_factory=Counter[str])
    aligners: Counter[str] = field(default_factory=Counter[str])
    modes: Counter[str] = field(default_factory=Counter[str])
    content: Counter[str] = field(default_factory=Counter[str])
    reasons: Mapping[str, Counter[str]] = field(
        default_factory=lambda: {name: Counter() for name in ("skipped", "bypass", "kept_reason")}
    )
    tokens: Counter[str] = field(default_factory=Counter[str])
    verdicts: Counter[str] = field(default_factory=Counter[str])
    histogram: list[int] = field(default_factory=lambda: [0] * BINS)
    edit_share: Sketch = field(default_factory=Sketch)
    added: Sketch = field(default_factory=Sketch)
    seconds: dict[str, Sketch] = field(default_factory=dict[str, Sketch])
    largest: list[tuple[float, str]] = field(default_factory=list[tuple[float, str]])
    doubtful: list[tuple[float, str]] = field(default_factory=list[tuple[float, str]])

    def add(self, row: Seen) -> None:
        """Count one answer."""
        self.answers += 1
        self.first, self.last = self.first or row.created, row.created  # they come in order of time
        _count(self.upstreams, f"{row.upstream} {row.model}".strip())
        _count(self.aligners, row.aligner)
        _count(self.modes, row.mode)
        _count(self.content, row.content)
        for name, reason in (("skipped", row.skipped), ("bypass", row.bypass), ("kept_reason", row.kept_reason)):
            if reason is not None:
                _count(self.reasons[name], reason)
        self.tokens.update(orjson.loads(row.usage))
        if row.changed:
            self._add_change(row)
        if "." not in row.id:  # the choices of an answer share its times
            self._add_seconds(orjson.loads(row.seconds), is_read=row.skipped is None)

    def add_words(self, words: Iterable[Feedback]) -> None:
        """Count what was said of one change."""
        said = settled(tuple(words))
        self.verdicts[said.verdict if said else "disputed"] += 1

    def figures(self) -> Figures:
        """What was counted so far."""
        stages = sorted(self.seconds, key=lambda name: (_STAGES.index(name) if name in _STAGES else 99, name))
        return Figures(
            mode=self.mode,
            answers=self.answers,
            first=self.first,
            last=self.last,
            upstreams=_by_count(self.upstreams),
            aligners=_by_count(self.aligners),
            modes=_by_count(self.modes),
            content=_by_count(self.content),
            changed=share_of(self.changed, self.answers),
            edit_share=_spread(self.edit_share),
            histogram=tuple(self.histogram),
            seconds={shown(name): _spread(self.seconds[name]) for name in stages},
            added=_spread(self.added),
            skipped=_by_count(self.reasons["skipped"]),
            bypass=_by_count(self.reasons["bypass"]),
            kept=_by_count(self.reasons["kept_reason"]),
            tokens={shown(name): count for name, count in sorted(self.tokens.items())},
            verdicts=_by_count(self.verdicts),
            largest=[name for _, name in sorted(self.largest, reverse=True)],
            doubtful=[name for _, name in sorted(self.doubtful, reverse=True)],
        )

    def _add_change(self, row: Seen) -> None:
        self.changed += 1
        self.edit_share.add(row.edit_share)
        self.histogram[min(int(row.edit_share * BINS), BINS - 1)] += 1
        if row.content == "full":
            _keep(self.largest, (row.edit_share, row.id))
            if row.confidence is not None:
                _keep(self.doubtful, (row.confidence, row.id))

    def _add_seconds(self, seconds: Mapping[str, Any], *, is_read: bool) -> None:
        for name, value in seconds.items():
            if name not in self.seconds:
                self.seconds[name] = Sketch()
            self.seconds[name].add(value)
        if is_read:
            parts = [seconds[name] for name in _ADDED if name in seconds]
            if "correct" in seconds or parts:
                self.added.add(seconds.get("correct", sum(parts)))


def share_of(count: int, total: int) -> Share:
    """A count as a share, with its interval."""
    low, high = wilson(count, total) or (None, None)
    return Share(count, total, count / total if total else None, low, high)


def _keep(heap: list[tuple[float, str]], item: tuple[float, str]) -> None:
    """Add an item to the largest."""
    if len(heap) < SAMPLES:
        heapq.heappush(heap, item)
    else:
        heapq.heappushpop(heap, item)


def _spread(sketch: Sketch) -> Spread:
    return Spread(sketch.count, *(sketch.quantile(share) for share in (0.5, 0.9, 0.99)))


def _count(counts: Counter[str], name: str) -> None:
    """Count a name; clients may make up more of them than memory would hold."""
    counts[name if name in counts or len(counts) < _MOST_NAMES else OTHERS] += 1


def _by_count(counts: Counter[str]) -> Mapping[str, int]:
    """The most frequent names as they can be shown, and the others as one."""
    ranked = sorted(counts.items(), key=lambda item: (item[0] == OTHERS, -item[1], item[0]))
    named = {shown(name): count for name, count in ranked[:_NAMES]}
    rest = sum(count for _, count in ranked[_NAMES:])
    return {**named, OTHERS: named.get(OTHERS, 0) + rest} if rest else named
