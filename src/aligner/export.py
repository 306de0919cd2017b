"""Export what the proxy logged, and what people said of it, as training data."""

import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing
from datetime import UTC, datetime
from typing import NamedTuple

from aligner.config import ExportConfig
from aligner.data.fields import row_of, triple_of
from aligner.data.readers import NoTriple, ultrafeedback
from aligner.errors import MissingExtraError, MisuseError
from aligner.files import RowError, write_rows
from aligner.records import Message, Question, Triple, as_messages, as_question

try:
    from aligner.serving.database import place_of
    from aligner.serving.logged import Logged
    from aligner.serving.store import Store
except ModuleNotFoundError as error:
    raise MissingExtraError("the correction log needs an extra: pip install 'aligner-llm[serve]'") from error

Row = Mapping[str, object]


class LeftOut(NamedTuple):
    """A correction that gives no row, and why."""

    reason: str


class Better(NamedTuple):
    """The best reply that is known to a question, and where it came from."""

    text: str
    source: str


def export(config: ExportConfig) -> None:
    """Stream corrections, in order of time, into training data, and say on standard error what was left out and why."""
    place, since = place_of(config.database), _seconds(config.since)
    without: Counter[str] = Counter()
    with closing(Store(place, writable=False)) as store:
        written = write_rows(config.out, _rows(store.rows(since), config, without))
    sys.stderr.write(_summary(config.kind, written, without) + "\n")


def _rows(corrections: Iterable[Logged], config: ExportConfig, without: Counter[str]) -> Iterator[Row]:
    """The rows of the corrections; the reasons why others give none are counted in `without`."""
    make = _KINDS[config.kind]
    for logged in corrections:
        made = _left_out(logged, config) or make(logged)
        if isinstance(made, LeftOut):
            without[made.reason] += 1
        else:
            yield made


def _left_out(logged: Logged, config: ExportConfig) -> LeftOut | None:
    """Why a correction is not wanted, if it is not."""
    verdict = _verdict(logged)
    if logged.content != "full":
        return LeftOut(f"stored without content (log_content {logged.content})")
    if verdict is None and not config.unjudged:
        return LeftOut("without feedback")
    if verdict is None and not _is_the_aligners(logged):
        return LeftOut("without feedback, and not corrected or not sent")
    if verdict and config.only_feedback and verdict not in config.only_feedback:
        return LeftOut(f"with the feedback {verdict}")
    return None


def triple(logged: Logged) -> Row | LeftOut:
    """The row that teaches to give the better reply: where that is the answer, the row teaches to copy."""
    better = _better(logged)
    if isinstance(better, LeftOut):
        return better
    sources = (f"log:{logged.id}", f"{logged.upstream}:{logged.model}", better.source)
    row = row_of(Triple(_question(logged), logged.answer, better.text, sources))
    try:
        triple_of(row)
    except RowError as error:
        return LeftOut(str(error))
    return row


def preference(logged: Logged) -> Row | LeftOut:
    """For a correction that was rejected the pair that prefers the answer, as TRL takes it: two conversations."""
    verdict = _verdict(logged)
    if verdict != "reject":
        return LeftOut(f"with the feedback {verdict}, not reject" if verdict else "without feedback")
    turns = as_messages(_question(logged))
    row = {
        name: [{"role": turn.role, "content": turn.content} for turn in (*turns, Message("assistant", reply))]
        for name, reply in (("chosen", logged.answer), ("rejected", logged.correction))
    }
    try:
        reading = ultrafeedback(row)
    except RowError as error:
        return LeftOut(str(error))
    return LeftOut(reading.reason) if isinstance(reading, NoTriple) else row


_KINDS: Mapping[str, Callable[[Logged], Row | LeftOut]] = {"triples": triple, "preferences": preference}


def _is_the_aligners(logged: Logged) -> bool:
    """Whether what was sent is what the Aligner decided, and not the original for want of a decision."""
    kept = logged.kept_reason not in (None, "gate")  # by a guard, against the Aligner
    return logged.outcome == "sent" and logged.mode != "off" and not (logged.skipped or logged.bypass or kept)


def _better(logged: Logged) -> Better | LeftOut:
    """The reply that people prefer; the last word counts."""
    last = logged.feedback[-1] if logged.feedback else None
    corrector = Better(logged.correction, logged.aligner)
    match last and last.verdict:
        case None | "accept":
            return corrector
        case "reject":
            return Better(logged.answer, f"{logged.upstream}:{logged.model}")
        case "edit":
            if last is None or last.text is None:
                return LeftOut("edited, but without the text")
            return Better(last.text, f"human:{last.user}" if last.user else "human")
        case "both_bad":
            return LeftOut("both bad")


def _verdict(logged: Logged) -> str | None:
    return logged.feedback[-1].verdict if logged.feedback else None


def _question(logged: Logged) -> Question:
    return as_question(logged.messages) if logged.messages else logged.question


def _seconds(since: str | None) -> float | None:
    """A date, perhaps with a time, as seconds since 1970; it is UTC unless it says otherwise."""
    if since is None:
        return None
    try:
        moment = datetime.fromisoformat(since)
    except ValueError:
        raise MisuseError(f'--since "{since}" is no date such as 2026-11-25 or 2026-11-25T08:00+01:00') from None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def _summary(kind: str, written: int, without: Mapping[str, int]) -> str:
    reasons = "; ".join(f"{count:,} {reason}" for reason, count in sorted(without.items(), key=lambda item: -item[1]))
    total = sum(without.values())
    return f"{written + total:,} corrections read, {written:,} {kind} written, {total:,} left out" + (
        f" ({reasons})" if reasons else ""
    )
