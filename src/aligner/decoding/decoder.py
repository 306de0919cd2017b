"""Drafted decoding: verify the draft, keep what the model agrees with, find the place again, and go on.

The tokens are those of plain decoding. Rows of any lengths share a pass; finished ones leave, and new ones enter.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from aligner.decoding.blocks import BlockPolicy, Prospect
from aligner.decoding.cache import RowCache
from aligner.decoding.cursor import AnswerCursor, Guess
from aligner.decoding.drafts import Draft
from aligner.decoding.packed import PackedModel, Segment
from aligner.decoding.sampling import Greedy, Sampler
from aligner.decoding.verify import Adjust, Check, verify

_SPARE = 32
"""tokens that a correction may be longer than its answer before a row's cache has to grow"""


@dataclass(slots=True)
class Beginning:
    """The beginning of a prompt, read before the rest of it was known."""

    cache: RowCache = field(default_factory=lambda: RowCache(0), repr=False)
    tokens: list[int] = field(default_factory=list[int])
    """what the cache holds"""

    def cut(self, prompt: Sequence[int]) -> int:
        """Take back what a prompt does not begin with; returns how many of its tokens are left."""
        pairs = zip(self.tokens, prompt, strict=False)
        shared = next((i for i, (old, new) in enumerate(pairs) if old != new), min(len(self.tokens), len(prompt)))
        del self.tokens[shared:]
        self.cache.length = shared
        return shared


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One text to decode."""

    prompt: Sequence[int]
    limit: int
    """new tokens at the most, at least one"""
    ends: frozenset[int]
    """tokens that end the text"""
    draft: Draft = field(default=Draft(()), repr=False)
    """what the text will probably be; never trusted"""
    sampler: Sampler = field(default_factory=Greedy)
    adjust: Adjust | None = None
    """changes the logits before a token is chosen"""
    stops: Callable[[int], bool] | None = None
    """told every new token in order; true ends the text behind it"""
    doubt: bool = False
    """whether to judge every token of the draft, as if those before it stood"""
    gate: float | None = None
    """a confidence that is enough to end after the first pass"""
    read: Beginning | None = field(default=None, repr=False)
    """what was read of the prompt already, for this request alone; never trusted, as far as the prompt differs"""


@dataclass(frozen=True, slots=True)
class Decoded:
    """What became of a request."""

    tokens: list[int]
    passes: int
    drafted: int
    accepted: int
    """draft tokens that were verified, and those that were right"""
    confidence: float | None
    """lowest probability of a draft token in the first pass: how sure the model is that nothing needs a change

    None where that pass could not judge the draft up to its end, or up to the first token that is wrong.
    """
    doubt: tuple[float, ...] | None
    """for each draft token one minus its probability behind the draft tokens before it, if it was asked for"""


@dataclass(frozen=True, slots=True)
class Step:
    """What one pass gave to one request."""

    number: int
    """of the request, in the order of asking"""
    tokens: list[int]
    """new ones"""
    end: Decoded | None = None
    """all of it, with the last step"""


@dataclass(frozen=True, slots=True)
class Decoder:
    """A model that decodes with drafts."""

    model: PackedModel
    blocks: BlockPolicy
    rows: int = 64
    """decoded at a time"""
    pass_tokens: int = 512
    """new rows wait while a pass has more tokens than that"""

    def decode(self, requests: Iterable[Request]) -> Iterator[Step]:
        """The steps of all requests, as they come; requests are taken when there is room for them."""
        waiting = enumerate(requests)
        rows: list[_Row] = []
        while True:
            rows += self._admitted(waiting, rows)
            if not rows:
                return
            for row, check in zip(rows, self._pass(rows), strict=True):
                new = row.take(check)
                yield Step(row.number, new, row.decoded() if row.ended else None)
            rows = [row for row in rows if not row.ended]

    def read(self, beginning: Beginning, prompt: Sequence[int]) -> None:
        """Read a prompt that more will be added to, as far as it was not read yet, in one pass without logits."""
        known = beginning.cut(prompt)
        new = prompt[known:]
        if new:
            self.model.forward([Segment(beginning.cache, new)], [len(new) - 1])
            beginning.tokens += new
            beginning.cache.length += len(new)

    def _pass(self, rows: Sequence["_Row"]) -> list[Check]:
        """One forward pass over the next tokens of every row, and what the model says to their drafts."""
        prospects = [row.prospect() for row in rows]
        sizes = self.blocks(prospects, sum(len(row.pending) for row in rows))
        segments: list[Segment] = []
        checks: list[Check] = []
        fed = 0
        for row, size in zip(rows, sizes, strict=True):
            draft = row.draft(size)
            segments.append(Segment(row.cache, [*row.pending, *draft]))
            checks.append(row.check(draft, first=fed + len(row.pending) - 1))
            fed += len(segments[-1].tokens)
        logits = self.model.forward(segments, [number for check in checks for number in check.wanted])
        verify(checks, logits, self.model.model.device)
        return checks

    def _admitted(self, waiting: Iterator[tuple[int, Request]], rows: Sequence["_Row"]) -> Iterator["_Row"]:
        """New rows, as long as there is room; one is let in whatever its size where there is no other."""
        count, tokens = len(rows), sum(len(row.pending) for row in rows)
        while count < self.rows and (not count or tokens < self.pass_tokens):
            number, request = next(waiting, (0, None))
            if request is None:
                return
            row = _Row(number, request)
            count, tokens = count + 1, tokens + len(row.pending) + len(request.draft.ids)
            yield row


class _Row:
    """One request while it is decoded."""

    def __init__(self, number: int, request: Request) -> None:
        self.number = number
        read = request.read or Beginning(
            RowCache(len(request.prompt) + min(len(request.draft.ids) + _SPARE, request.limit))
        )
        # The last token is always fed: its logits judge the first of the draft.
        self.pending: Sequence[int] = request.prompt[read.cut(request.prompt[:-1]) :]
        """tokens that the model has not read yet"""
        self.cache = read.cache
        self.ended = False
        self._request = request
        self._cursor = AnswerCursor(request.draft)
        self._guess: Guess | None = None
        self._tokens: list[int] = []
        self._passes = self._drafted = self._accepted = 0
        self._confidence: float | None = None
        self._doubt: tuple[float, ...] | None = None

    def prospect(self) -> Prospect:
        """What can be said of the draft before the next pass."""
        self._guess = guess = self._cursor.guess() if self._request.draft.ids else None
        if guess is None:
            return Prospect(0)
        room = self._request.limit - len(self._tokens)
        longest = min(len(self._cursor.draft.ids) - guess.place, room)
        return Prospect(longest, guess.trust, self._cursor.hazard, first=not self._passes)

    def draft(self, size: int) -> Sequence[int]:
        """The next draft tokens, so many."""
        if self._guess is None:
            return ()
        return self._cursor.draft.ids[self._guess.place : self._guess.place + size]

    def check(self, draft: Sequence[int], *, first: int) -> Check:
        """What is to be found out in a pass; `first` is the number of the token that judges the first of the draft."""
        request, begins = self._request, not self._passes
        return Check(
            draft,
            first,
            position=len(self._tokens),
            sampler=request.sampler,
            adjust=request.adjust,
            scored=begins,
            to_the_end=begins and request.doubt,
        )

    def take(self, check: Check) -> list[int]:
        """Take over what a pass gave; returns the new tokens."""
        if not self._passes and check.probabilities:
            self._judge_first(check)
            if self._request.doubt:
                self._doubt = tuple(1 - p for p in check.probabilities)
        self._passes += 1
        self._drafted += len(check.draft)
        self._accepted += check.accepted
        self.cache.length += len(self.pending) + check.accepted
        self._cursor.commit(self._guess, check.tokens, check.accepted)
        new = self._until_the_end(check.tokens)
        self._tokens += new
        self.pending = new[-1:]
        return new

    def decoded(self) -> Decoded:
        """All of it."""
        return Decoded(self._tokens, self._passes, self._drafted, self._accepted, self._confidence, self._doubt)

    def _judge_first(self, check: Check) -> None:
        """How sure the model is of the draft, which may be enough."""
        wrong = check.accepted < len(check.draft)
        if wrong or len(check.draft) == len(self._request.draft.ids):
            self._confidence = min(check.probabilities[: check.accepted + 1])
            self.ended = self._request.gate is not None and self._confidence >= self._request.gate

    def _until_the_end(self, tokens: Sequence[int]) -> list[int]:
        """The tokens up to the one that ends the text, if one does."""
        request = self._request
        room = request.limit - len(self._tokens)
        for i, token in enumerate(tokens):
            ends = token in request.ends or (request.stops is not None and request.stops(token))
            if ends or i + 1 == room:
                self.ended = True
                return list(tokens[: i + 1])
        return list(tokens)
