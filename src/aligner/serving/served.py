"""What becomes of a request: its choices, where its time went, and what its answer says about itself."""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from importlib.metadata import version

from aligner.records import Question
from aligner.serving.engine import Finished, Gate
from aligner.serving.upstream import Headers
from aligner.serving.wire import Asked, Json

VERSION = version("aligner-llm")


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """What is corrected, and what happens where that fails."""

    gate: Gate | None = None
    """probability that no change is needed, from which an answer is kept as it is; a request's own words undo it"""
    doubt: bool = False
    """whether it is asked how much each token of an answer is doubted"""
    truncated: bool = False
    """whether answers that were cut off are corrected"""
    json: bool = False
    """whether answers that must be JSON are corrected"""
    broken: bool = True
    """whether what came of an answer that broke off is sent, before the error"""
    fails_open: Callable[[str], bool] = lambda _: True
    """whether the original is sent after a failure of that cause, and not an error"""


@dataclass(slots=True)
class Outcome:
    """What became of one choice."""

    index: int
    question: Question | None
    answer: str
    text: str
    thought: str = ""
    """reasoning before the answer, which stays as it is"""
    skipped: str | None = None
    bypass: str | None = None
    """the failure after which the original was sent"""
    finished: Finished | None = None

    @property
    def changed(self) -> bool:
        """Whether another text is sent than the upstream's."""
        return self.text != self.answer

    @property
    def edit_share(self) -> float:
        """The share of the longer text's characters that the edits touch."""
        edits = self.finished.edits if self.finished and self.changed else ()
        touched = sum(max(end - start, len(text)) for start, end, text in edits)
        return min(touched / max(len(self.answer), len(self.text), 1), 1.0)


@dataclass(slots=True)
class Served:
    """A request that was served, for the headers and for the log."""

    id: str
    mode: str
    asked: Asked
    started: float = field(default_factory=time.perf_counter)
    """when the request came"""
    asked_at: float = 0.0
    """when it was passed on"""
    upstream_seconds: float = 0.0
    correct_seconds: float = 0.0
    outcomes: list[Outcome] = field(default_factory=list[Outcome])
    copy: list[bytes] = field(default_factory=list[bytes])
    """the answer as it was sent, where it is corrected afterwards"""
    failure: str | None = None
    """the code of the error that the client was told"""

    @property
    def headers(self) -> Headers:
        """What the answer says about itself."""
        told = {
            "x-request-id": self.id,
            "x-aligner-id": self.id,
            "x-aligner-version": VERSION,
            "x-aligner-mode": self.mode,
            "x-aligner-changed": ",".join(str(int(outcome.changed)) for outcome in self.outcomes),
            "x-aligner-skipped": _each(outcome.skipped for outcome in self.outcomes),
            "x-aligner-bypass": _each(outcome.bypass for outcome in self.outcomes),
            "x-aligner-correct-ms": f"{1000 * self.correct_seconds:.1f}" if self.outcomes else "",
            "x-aligner-overhead-ms": f"{1000 * self.overhead:.1f}" if self.outcomes else "",
        }
        return [(name, value) for name, value in told.items() if value]

    def ask(self) -> None:
        """The upstream's time begins."""
        self.asked_at = time.perf_counter()

    def answer(self) -> None:
        """The upstream has said all of it."""
        self.upstream_seconds = time.perf_counter() - self.asked_at

    @property
    def overhead(self) -> float:
        """Seconds that neither the upstream nor the Aligner took."""
        return max(time.perf_counter() - self.started - self.upstream_seconds - self.correct_seconds, 0.0)

    @property
    def report(self) -> Json:
        """The same as a field of the answer, for those who ask for it."""
        finished = [outcome.finished for outcome in self.outcomes if outcome.finished]
        return {
            "id": self.id,
            "version": VERSION,
            "mode": self.mode,
            "choices": [
                {
                    "index": outcome.index,
                    "changed": outcome.changed,
                    "skipped_reason": outcome.skipped,
                    "bypass": outcome.bypass,
                    "edit_ratio": outcome.edit_share,
                    "kept_reason": outcome.finished.kept_reason if outcome.finished else None,
                    "confidence": outcome.finished.confidence if outcome.finished else None,
                }
                for outcome in self.outcomes
            ],
            "usage": {
                "prompt_tokens": sum(one.usage.prompt_tokens for one in finished),
                "completion_tokens": sum(one.usage.completion_tokens for one in finished),
            },
        }


def _each(values: Iterable[str | None]) -> str:
    """One word for each choice, and nothing where none has one."""
    listed = list(values)
    return ",".join(value or "-" for value in listed) if any(listed) else ""
