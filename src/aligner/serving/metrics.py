"""What the proxy counts, in Prometheus' words; every proxy has its own registry."""

from collections.abc import Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from aligner.serving.breaker import State
from aligner.serving.served import Outcome, Served

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30)
_SHARES = (0.0, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
_DOUBTS = (0.01, 0.02, 0.05, *(tenths / 10 for tenths in range(1, 10)), 0.95, 0.99, 1.0)
_STATES: Mapping[State, float] = {"closed": 0, "half-open": 0.5, "open": 1}


class Metrics:
    """Requests, corrections, and where the time goes."""

    def __init__(self) -> None:
        self._registry = own = CollectorRegistry()
        self._requests = Counter(
            "aligner_requests", "Requests by their end.", ["route", "mode", "outcome"], registry=own
        )
        self._corrections = Counter(
            "aligner_corrections", "Choices by what became of them.", ["result", "reason"], registry=own
        )
        self._tokens = Counter("aligner_tokens", "Tokens that the Aligner read and wrote.", ["kind"], registry=own)
        self._stages = Histogram("aligner_stage_seconds", "Where time goes.", ["stage"], buckets=_SECONDS, registry=own)
        self._first = Histogram("aligner_ttft_seconds", "Until the first of a body.", buckets=_SECONDS, registry=own)
        self._edits = Histogram(
            "aligner_edit_ratio", "Share of an answer that is edited.", buckets=_SHARES, registry=own
        )
        self._doubts = Histogram(
            "aligner_doubt", "How much the Aligner doubts an answer: 1 - its confidence.", buckets=_DOUBTS, registry=own
        )
        self.in_flight = Gauge("aligner_in_flight", "Requests that are being answered.", registry=own)
        self._queue = Gauge("aligner_queue_depth", "Corrections that have not come to their ends.", registry=own)
        self._dropped = Gauge("aligner_log_dropped", "Rows that the log could not take.", registry=own)
        self._breakers = Gauge("aligner_breaker_state", "0 closed, 0.5 half-open, 1 open.", ["of"], registry=own)

    def note(self, served: Served, outcome: str, first: float | None) -> None:
        """Count a request that came to its end, and when the first of its answer was sent."""
        self._requests.labels(served.asked.route, served.mode, outcome).inc()
        for corrected in served.outcomes:
            # Of what was cancelled nothing became.
            if corrected.finished or corrected.skipped or corrected.bypass:
                self._note_choice(corrected)
        if first is not None:
            self._first.observe(first - served.started)
        if served.outcomes:
            self._stages.labels("upstream").observe(served.upstream_seconds)
            self._stages.labels("correct").observe(served.correct_seconds)
            self._stages.labels("overhead").observe(served.overhead)

    def _note_choice(self, corrected: Outcome) -> None:
        reason = corrected.skipped or corrected.bypass or ""
        result = "skipped" if corrected.skipped else "bypassed" if corrected.bypass else ""
        self._corrections.labels(result or ("changed" if corrected.changed else "copied"), reason).inc()
        self._edits.observe(corrected.edit_share)
        if (finished := corrected.finished) is not None:
            if finished.confidence is not None:
                self._doubts.observe(1 - finished.confidence)
            for stage, seconds in finished.seconds.items():
                self._stages.labels(stage).observe(seconds)
            self._tokens.labels("prompt").inc(finished.usage.prompt_tokens)
            self._tokens.labels("completion").inc(finished.usage.completion_tokens)

    def text(self, *, waiting: int, dropped: int, breakers: Mapping[str, State]) -> bytes:
        """All figures as Prometheus reads them."""
        self._queue.set(waiting)
        self._dropped.set(dropped)
        for name, state in breakers.items():
            self._breakers.labels(name).set(_STATES[state])
        return generate_latest(self._registry)
