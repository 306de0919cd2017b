"""A corrected stream: the upstream's own chunks for as long as the correction agrees with them, and our own after that.

Deltas are append-only for every client, so that nothing can be taken back: a chunk is sent on once the correction has
come as far as its text. An unchanged answer is thus the upstream's stream, byte for byte.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field

from aligner.serving.frames import Frame, frame_of
from aligner.serving.wire import Json, Route, choices_of, delta_of, index_of, with_delta, without_delta


class CutShortError(Exception):
    """A correction was taken back after some of it had been sent."""


@dataclass(slots=True)
class Correcting:
    """The correction of one choice while it comes, and how much of it was sent."""

    answer: str
    text: str = ""
    """what has come of it"""
    ended: bool = False
    sent: int = 0
    """characters of the text"""
    read: int = 0
    """characters of the answer in the chunks up to now"""
    agreed: int = 0
    """characters that answer and correction are known to share"""
    replaced: bool = False
    """whether chunks of our own take the place of the upstream's"""
    cut_short: bool = False
    """whether the correction was taken back after some of it had been sent"""
    _news: asyncio.Event = field(default_factory=asyncio.Event)

    def add(self, piece: str) -> None:
        """A piece of the correction."""
        self.text += piece
        self._news.set()

    def end(self, text: str) -> None:
        """All of the correction, or the answer itself where it was kept."""
        self.text, self.ended = (text, True) if text.startswith(self.text[: self.sent]) else (self.text, False)
        self.agreed = min(self.agreed, self.sent)
        self.cut_short = not self.ended
        self._news.set()

    def agrees(self) -> bool | None:
        """Whether the correction has the answer's text as far as it was read; None while that is not known."""
        both = min(len(self.answer), len(self.text))
        while self.agreed < both and self.answer[self.agreed] == self.text[self.agreed]:
            self.agreed += 1
        if self.agreed >= self.read:
            return True
        return False if self.agreed < len(self.text) or self.ended else None

    async def more(self) -> None:
        """Wait until there is more to know; raises CutShortError where there will be nothing."""
        await self._news.wait()
        self._news.clear()
        if self.cut_short:
            raise CutShortError

    async def rest(self) -> AsyncIterator[str]:
        """What was not sent yet, piece by piece, to the end."""
        while True:
            piece, self.sent = self.text[self.sent :], len(self.text)
            if piece:
                yield piece
            if self.ended:
                return
            await self.more()


async def replay(route: Route, frames: Sequence[Frame], correcting: Mapping[int, Correcting]) -> AsyncIterator[bytes]:
    """The stream with corrections in it, for the choices that have one; raises CutShortError.

    `frames` are all that the upstream sent, and their order is kept.
    """
    for frame in frames:
        choices = choices_of(frame.event or {})
        state = correcting.get(index_of(choices[0])) if len(choices) == 1 else None
        if state is None:
            yield frame.raw
        else:
            async for chunk in _corrected(route, frame, choices[0], state):
                yield chunk


async def _corrected(route: Route, frame: Frame, choice: Json, state: Correcting) -> AsyncIterator[bytes]:
    """What is sent in place of one chunk of one choice."""
    piece, finishes = delta_of(route, choice), choice.get("finish_reason") is not None
    state.read += len(piece)
    if not state.replaced and await _is_replaced(state, at_end=finishes):
        state.replaced = True
        like: Json = choice
        async for text in state.rest():
            yield _chunk(route, frame, like, text)
            # A client adds up the strings of deltas, so that only one of our chunks may repeat the rest of this one.
            like = without_delta(choice)
    if not state.replaced:
        state.sent = state.read
        yield frame.raw
    elif finishes:
        yield _chunk(route, frame, choice, None) if piece else frame.raw
    elif not piece:
        yield frame.raw


async def _is_replaced(state: Correcting, *, at_end: bool) -> bool:
    """Wait until it is known whether the correction goes on like the answer."""
    while True:
        agrees = state.agrees()
        if agrees is False or (at_end and state.ended):
            return agrees is False or state.text != state.answer
        if agrees and not at_end:
            return False
        await state.more()


def _chunk(route: Route, frame: Frame, choice: Json, text: str | None) -> bytes:
    """A chunk like the upstream's with another text, or with none and the finish reason."""
    changed = with_delta(route, choice, text, finish=text is None)
    return frame_of({**(frame.event or {}), "choices": [changed]})
