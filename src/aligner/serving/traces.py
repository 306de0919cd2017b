"""Spans of a request in OpenTelemetry's words: times and sizes, and never a text or a key.

Without an SDK they cost nothing and go nowhere. The names of generative AI are still in development there, so that all
of them stand here.
"""

import time
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from opentelemetry import propagate
from opentelemetry.trace import (
    ProxyTracerProvider,
    Span,
    SpanKind,
    StatusCode,
    Tracer,
    TracerProvider,
    get_tracer,
    get_tracer_provider,
    set_span_in_context,
)

from aligner.serving.served import Served
from aligner.serving.upstream import Headers

_OPERATIONS = {"chat": "chat", "completions": "text_completion"}


@dataclass(frozen=True, slots=True)
class Traces:
    """Makes the spans; a provider takes them, by default the one of the process."""

    tracer: Tracer
    is_given: bool = False
    """whether somebody takes the spans, whatever the process has set up"""

    @contextmanager
    def request(self, served: Served, headers: Headers) -> Generator[Headers]:
        """A span for a request, and the headers with which it goes on, so that the upstream's spans belong to it."""
        if not self.is_given and isinstance(get_tracer_provider(), ProxyTracerProvider):
            yield headers  # nobody has set up anything that takes spans
            return
        operation, model = _OPERATIONS[served.asked.route], str(served.asked.payload.get("model") or "")
        parent = propagate.extract(dict(headers))
        span = self.tracer.start_span(f"{operation} {model}".rstrip(), context=parent, kind=SpanKind.SERVER)
        if not span.is_recording():
            yield headers
            return
        began = time.time_ns()
        try:
            carrier: dict[str, str] = {}
            propagate.inject(carrier, set_span_in_context(span, parent))
            yield [*((name, value) for name, value in headers if name not in carrier), *carrier.items()]
        finally:
            span.set_attributes({"gen_ai.operation.name": operation, "gen_ai.request.model": model, **_told(served)})
            self._parts(span, served, began)
            if served.failure is not None:
                span.set_status(StatusCode.ERROR, served.failure)
            span.end()

    def _parts(self, span: Span, served: Served, began: int) -> None:
        """What took the time, as spans within."""
        context = set_span_in_context(span)
        upstream, correct = int(served.upstream_seconds * 1e9), int(served.correct_seconds * 1e9)
        for name, start, length in (("upstream", began, upstream), ("correct", began + upstream, correct)):
            if length:
                part = self.tracer.start_span(name, context=context, kind=SpanKind.CLIENT, start_time=start)
                part.end(start + length)


def open_traces(provider: TracerProvider | None = None) -> Traces:
    """Traces for a provider."""
    return Traces(get_tracer("aligner", tracer_provider=provider), provider is not None)


def _told(served: Served) -> Mapping[str, str | bool | list[str] | list[bool]]:
    outcomes = served.outcomes
    return {
        "aligner.id": served.id,
        "aligner.mode": served.mode,
        "aligner.changed": [outcome.changed for outcome in outcomes],
        "aligner.skipped": [outcome.skipped or "" for outcome in outcomes],
        "aligner.bypass": [outcome.bypass or "" for outcome in outcomes],
    }
