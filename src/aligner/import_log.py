"""Import what was exported of a correction log into another: from one machine, or kind of database, to the next."""

import sys
from collections.abc import Iterator
from contextlib import closing

from aligner.config import ImportConfig
from aligner.errors import MissingExtraError
from aligner.files import bad_rows_named, read
from aligner.files.paths import is_stream
from aligner.jobs import progress

try:
    from aligner.serving.database import place_of
    from aligner.serving.exporting.intake import Intake, Taken, batches
    from aligner.serving.exporting.portable import read_logged
    from aligner.serving.logged import Feedback, Logged
except ModuleNotFoundError as error:
    raise MissingExtraError("the correction log needs an extra: pip install 'aligner-llm[serve]'") from error

_BATCH = 500


def import_log(config: ImportConfig) -> None:
    """Bring all rows of a file into a log, and say on standard error what became of them.

    A file is read to its end before anything is written, so that one with a bad row changes nothing; a stream cannot
    be read twice. Cut short, the same command again brings in the rest.
    """
    place, taken = place_of(config.database), Taken()
    if not is_stream(config.file):
        for _ in _rows(config):
            pass
    with closing(Intake(place)) as store, progress("import") as tick:
        store.open()
        for batch in batches(_rows(config), _BATCH):
            taken += store.take(batch)
            tick(len(batch))
    sys.stderr.write(_summary(taken) + "\n")


def _rows(config: ImportConfig) -> Iterator[Logged | Feedback]:
    bad_rows = bad_rows_named("stop", config.file)
    return (value for _, value in read(config.file, read_logged, bad_rows=bad_rows))


def _summary(taken: Taken) -> str:
    said = (
        f"{taken.corrections:,} corrections and {taken.feedback:,} feedback brought in, {taken.there:,} there already"
    )
    if not taken.orphans:
        return said
    return (
        f"{said}; {taken.orphans:,} feedback left out: the log has not the corrections that they are about "
        "(`aligner export --kind log` writes both, to be imported together)"
    )
