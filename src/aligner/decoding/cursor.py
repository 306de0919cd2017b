"""Where in the draft the output stands: it follows the draft, and finds its way back after every edit.

While the output copies, the next draft tokens are the guess. After a miss there are several ways to go on, and each is
a candidate with a score: behind an occurrence of the last tokens (a deletion, a longer substitution, moved text), as
many tokens on as were written (a substitution), where the copying stopped (an insertion), or at a sentence's start.
"""

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from typing import Literal, NamedTuple

from aligner.decoding.drafts import Draft

Kind = Literal[
    "follow", "long match", "pair", "rare token", "token", "sentence", "substitution", "insertion", "letters"
]

TRUSTED = 4
"""tokens copied in a row before a place is believed; an accidental match is shorter"""
_LOOKBACK = 12
_BLIND = 4
"""tokens since the anchor up to which a place is guessed without evidence"""
_BLIND_UNTRUSTED = 1
_LETTERS = 8
_PRIOR: dict[Kind, float] = {
    "follow": 1.0,
    "long match": 0.95,
    "pair": 0.85,
    "rare token": 0.8,
    "token": 0.75,
    "sentence": 0.5,
    "substitution": 0.75,
    "insertion": 0.5,
    "letters": 0.9,
}
_PRIOR_WEIGHT = 2.0
_WITH_EVIDENCE = frozenset({"follow", "long match", "pair", "rare token", "letters"})
"""kinds that something in the output speaks for, also where nothing was copied before"""


class Guess(NamedTuple):
    """A place in the draft where the output may go on."""

    place: int
    kind: Kind
    trust: float
    """probability that its first token is right"""


class AnswerCursor:
    """Follows one output along its draft."""

    def __init__(self, draft: Draft) -> None:
        self.draft = draft
        self._out: list[int] = []
        self._place: int | None = 0
        """the next draft token, while the output follows the draft"""
        self._anchor = self._since = self._run = 0
        """behind the last trusted copy; output tokens since then; tokens copied in a row"""
        self._copied = self._missed = 0
        self._right: dict[Kind, tuple[float, float]] = {}
        """for each kind of guess, how many were right, and how many there were"""

    @property
    def hazard(self) -> float:
        """Probability that the next copied token is the last one before an edit (one edit in 32 tokens a priori)."""
        return (1 + self._missed) / (32 + self._copied + self._missed)

    def guess(self) -> Guess | None:
        """Where the output goes on, or None when nothing is known."""
        if self._place is not None:
            return Guess(self._place, "follow", 1.0) if self._place < len(self.draft.ids) else None
        candidates = [c for c in self._candidates() if c[1] < len(self.draft.ids)]
        if not candidates:
            return self._by_letters()
        _, place, kind = max(candidates)
        return Guess(place, kind, self._trust(kind))

    def commit(self, guess: Guess | None, tokens: Sequence[int], accepted: int) -> None:
        """Take note of new output tokens, the first `accepted` of which were verified draft tokens.

        A guess that was not tried is judged all the same, by the tokens that came.
        """
        followed = self._place is not None
        place = self._place if followed or guess is None else guess.place
        copied = accepted
        if place is not None and place + accepted < len(self.draft.ids) and accepted < len(tokens):
            copied += self.draft.ids[place + accepted] == tokens[accepted]
        if guess is not None and not followed:
            right, tried = self._right.get(guess.kind, (0.0, 0.0))
            self._right[guess.kind] = (right + (copied > 0), tried + 1)
            self._place, self._run = guess.place, 0
        self._advance(tokens, copied)

    def _advance(self, tokens: Sequence[int], copied: int) -> None:
        """The first `copied` of the tokens follow the draft; one that does not ends the following."""
        self._out += tokens
        self._copied += copied
        self._run += copied
        self._since += len(tokens)
        if self._place is not None:
            self._place += copied
            if self._run >= TRUSTED:
                self._anchor, self._since = self._place, len(tokens) - copied
        if copied < len(tokens):
            self._missed += self._place is not None and self._run > 0
            self._place, self._run = None, 0

    def _trust(self, kind: Kind) -> float:
        right, tried = self._right.get(kind, (0.0, 0.0))
        prior = _PRIOR[kind] if self._anchor or kind in _WITH_EVIDENCE else _PRIOR[kind] / 2
        return (_PRIOR_WEIGHT * prior + right) / (_PRIOR_WEIGHT + tried)

    def _candidates(self) -> Iterator[tuple[float, int, Kind]]:
        """Ways to go on: score, place, kind."""
        expected = self._anchor + self._since
        yield from self._matches(expected)
        if self._since <= (_BLIND if self._anchor else _BLIND_UNTRUSTED):
            yield 2.5, expected, "substitution"
            yield 1.5, self._anchor, "insertion"
        codec, starts = self.draft.codec, self.draft.starts
        if codec is not None and codec.ends_sentence(self._out[-1]):
            if self._anchor in starts:
                yield 6.0, self._anchor, "sentence"
            first = bisect_left(starts, self._anchor + 1)
            for rank, place in enumerate(starts[first : first + 2]):
                yield 7.0 - 2 * rank, place, "sentence"

    def _matches(self, expected: int) -> Iterator[tuple[float, int, Kind]]:
        """Places behind occurrences of the last token; text from before the anchor counts only where more agrees."""
        places = self.draft.places.get(self._out[-1], [])
        rare = len(places) == 1
        for place in places:
            length = self._agreement(place)
            if place < self._anchor and length < 3:
                continue
            kind: Kind = "long match" if length > 2 else "pair" if length == 2 else "rare token" if rare else "token"
            distance = min(abs(place + 1 - expected), 60)
            yield 5.0 * length - distance * (0.5 if length == 1 else 0.08), place + 1, kind

    def _agreement(self, place: int) -> int:
        """How many tokens up to this place of the draft are those at the end of the output."""
        ids, out, length = self.draft.ids, self._out, 1
        while length < min(_LOOKBACK, len(out)) and place >= length and ids[place - length] == out[-1 - length]:
            length += 1
        return length

    def _by_letters(self) -> Guess | None:
        """Where tokens no longer line up, the last letters of the output may still stand in the answer."""
        codec = self.draft.codec
        if codec is None or self._since < 2:
            return None
        written = codec.decode(self._out[-_LOOKBACK:])[-_LETTERS:]
        behind = self.draft.text.find(written) if len(written) == _LETTERS else -1
        if behind < 0:
            return None
        self.draft = self.draft.rest_from(behind + _LETTERS)
        self._anchor, self._since = 0, 0
        return Guess(0, "letters", self._trust("letters"))
