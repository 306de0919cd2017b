"""Log lines: one for each request, and one for each failure; JSON, on standard error, and never a text or a key."""

import logging
from typing import Any, BinaryIO

import orjson
import structlog

from aligner.config import LogLevel
from aligner.serving.served import Served

STANDARD: Any = structlog.wrap_logger(
    logging.getLogger("aligner"),
    processors=[structlog.stdlib.filter_by_level, structlog.processors.KeyValueRenderer(key_order=["event"])],
    wrapper_class=structlog.stdlib.BoundLogger,
)
"""hands on to the standard library's logger"""


def send_lines(level: LogLevel, stream: BinaryIO) -> None:
    """Send there what structlog and the logger `aligner` are told, for the whole process: only a command does this."""
    shared: list[structlog.typing.Processor] = [
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso"),
    ]
    structlog.configure(
        processors=[*shared, structlog.processors.format_exc_info, structlog.processors.JSONRenderer(orjson.dumps)],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        logger_factory=structlog.BytesLoggerFactory(stream),
        cache_logger_on_first_use=True,
    )
    ours = logging.getLogger("aligner")
    ours.handlers, ours.propagate = [_Handed()], False
    ours.setLevel(level.upper())


def tell(lines: Any, served: Served, outcome: str) -> None:
    """One line of what became of a request; a bypass is never passed over in silence."""
    bypasses = [corrected.bypass for corrected in served.outcomes if corrected.bypass]
    fields = {
        "id": served.id,
        "route": served.asked.route,
        "mode": served.mode,
        "outcome": outcome,
        "changed": [corrected.changed for corrected in served.outcomes],
        "skipped": [corrected.skipped for corrected in served.outcomes if corrected.skipped],
        "upstream_ms": round(1000 * served.upstream_seconds, 1),
        "correct_ms": round(1000 * served.correct_seconds, 1),
    }
    if bypasses:
        lines.critical("answers were sent uncorrected", bypass=bypasses, **fields)
    elif served.failure is not None:
        lines.warning("a request failed", failure=served.failure, **fields)
    else:
        lines.info("answered", **fields)


class _Handed(logging.Handler):
    """Hands on to structlog what the standard library's logger is told."""

    def emit(self, record: logging.LogRecord) -> None:
        """Hand on one record."""
        given = {"exc_info": record.exc_info} if record.exc_info else {}
        structlog.get_logger().log(record.levelno, record.getMessage(), **given)
