"""Export what the proxy logged, and what people said of it: as training data, or whole, to be imported elsewhere."""

import sys
from collections.abc import Iterable, Iterator
from contextlib import closing

from aligner.config import ExportConfig
from aligner.errors import MissingExtraError, MisuseError
from aligner.files import write_rows

try:
    from aligner.serving.database import place_of
    from aligner.serving.exporting.lessons import MAKERS, Lessons, Row, Wanted
    from aligner.serving.exporting.portable import WRITERS
    from aligner.serving.logged import Logged
    from aligner.serving.moments import moment_of
    from aligner.serving.store import Store
except ModuleNotFoundError as error:
    raise MissingExtraError("the correction log needs an extra: pip install 'aligner-llm[serve]'") from error


def export(config: ExportConfig) -> None:
    """Stream corrections, in order of time, into rows, and say on standard error what was left out and why.

    Raises MisuseError for a choice of rows where all are written.
    """
    place, since, wanted = place_of(config.database), moment_of(config.since, "--since"), wanted_of(config)
    if config.kind not in MAKERS and wanted != Wanted():
        raise MisuseError(f"--kind {config.kind} writes all of them: choose when you make triples or preferences")
    lessons = Lessons(wanted)
    with closing(Store(place, writable=False)) as store:
        written = write_rows(config.out, _rows(store.rows(since), config.kind, lessons))
    told = lessons.summary(config.kind) if config.kind in MAKERS else f"{written:,} rows of kind {config.kind} written"
    sys.stderr.write(told + "\n")


def wanted_of(config: ExportConfig) -> Wanted:
    """Which corrections give rows; raises MisuseError for numbers below their least."""
    return Wanted(
        verdicts=config.only_feedback,
        unjudged=config.unjudged,
        reviewers=config.reviewers,
        votes=config.votes,
        most_per_reviewer=config.most_per_reviewer,
        told=config.told,
    )


def _rows(corrections: Iterable[Logged], kind: str, lessons: Lessons) -> Iterator[Row]:
    if kind in MAKERS:
        yield from lessons.rows(corrections, MAKERS[kind])
    else:
        for logged in corrections:
            yield from WRITERS[kind](logged)
