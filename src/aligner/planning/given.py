"""The triples that a training is given, read without leaving anything behind."""

from collections.abc import Mapping
from types import MappingProxyType

from aligner.config import TrainConfig
from aligner.data.fields import triple_of
from aligner.files import BadRows, bad_rows_named, read
from aligner.files.bad_rows import BadRow
from aligner.files.paths import is_stream
from aligner.records import Triple


class _LeftOut:
    """Bad rows are left out; training says which."""

    reasons: Mapping[str, int] = MappingProxyType({})

    def __call__(self, row: BadRow, /) -> None:
        """Leave it out."""

    def finish(self) -> None:
        """There is nothing to do."""


def given_triples(config: TrainConfig) -> list[Triple]:
    """The triples in the file; none of a stream, which can be read only once, and none of a correction log.

    Raises InputFileError for the first bad row where training would.
    """
    if config.triples is None or is_stream(config.triples):
        return []
    bad_rows: BadRows = bad_rows_named("stop", config.out) if config.on_bad_row == "stop" else _LeftOut()
    return [triple for _, triple in read(config.triples, triple_of, bad_rows=bad_rows)]
