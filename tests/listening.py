"""A listener that keeps what it is told of a work, for whoever waits for its end."""

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field

from aligner.correcting.work import BackEnd, Order, Work
from aligner.records import Completion, Exchange, SamplingParams
from aligner.serving.engine_process import Cause


@dataclass
class Heard:
    """What was said of one work."""

    pieces: list[str] = field(default_factory=list)
    completion: Completion | None = None
    seconds: Mapping[str, float] = field(default_factory=dict)
    failure: tuple[Cause, str] | None = None
    ends: int = 0
    ended: threading.Event = field(default_factory=threading.Event)

    def piece(self, text: str) -> None:
        """Some more."""
        self.pieces.append(text)

    def done(self, completion: Completion, seconds: Mapping[str, float]) -> None:
        """All of it."""
        self.completion, self.seconds = completion, seconds
        self._end()

    def failed(self, cause: Cause, message: str) -> None:
        """None."""
        self.failure = cause, message
        self._end()

    def result(self) -> Completion:
        """What was written, once it is there; its pieces add up to it."""
        assert self.ended.wait(60)
        assert self.completion is not None, self.failure
        assert self.ends == 1
        assert "".join(self.pieces) == self.completion.text
        return self.completion

    def problem(self) -> tuple[Cause, str]:
        """Why nothing was written, once that is known."""
        assert self.ended.wait(60)
        assert self.failure is not None
        assert self.ends == 1
        return self.failure

    def _end(self) -> None:
        self.ends += 1
        self.ended.set()


def asked(
    back_end: BackEnd, exchange: Exchange, sampling: SamplingParams = SamplingParams(), gate: float | None = None
) -> tuple[Work, Heard]:
    """A work that a back end was given, and what is heard of it."""
    heard = Heard()
    work = Work(exchange.question, heard)
    back_end.open(work)
    back_end.append(work, exchange.answer)
    work.ask(Order(exchange=exchange, sampling=sampling, gate=gate))
    back_end.finish(work)
    return work, heard
